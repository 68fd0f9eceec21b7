"""What the audit trail is told, in its words: who did what, to which studies, with which outcome."""

from __future__ import annotations

import os
import pwd
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.archive.local import LocalArchive
from gateway.archive.turns import file_lock
from gateway.audit.messages import Action, Code, Event, Outcome, Participant, QueryObject, Study
from gateway.audit.trail import FileSink, Sink, Spool, SyslogSink, Trail, Written
from gateway.config import Config
from gateway.config.models import Transport
from gateway.dicom import tags
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.models import SERVICES
from gateway.dimse.ports import StoreRequest
from gateway.dimse.sopclasses import EXPLICIT

_NOBODY_LOGGED_IN = 2**32 - 1
"""The login UID of services and containers."""
_FIND = {service.model: service.find for service in SERVICES}


def build_auditor(config: Config, name: str, archive: LocalArchive, stack: ExitStack) -> Auditor | None:
    """The configured audit trail, running until the stack unwinds; None when none is configured.

    Args:
        name: of the process, so that several have a spool each.
    """
    sink = _sink(config, name)
    if sink is None:
        return None
    trail = stack.enter_context(Trail(sink, source=config.ae.title, site=config.audit.site))
    return Auditor(trail, config.ae.title, archive)


def _sink(config: Config, name: str) -> Sink | None:
    section = config.audit
    collector, spool = section.syslog, section.syslog.spool
    if collector.host and spool is not None:
        sender = SyslogSink(collector.host, collector.port, tcp=collector.transport is Transport.TCP)
        return Spool(sender, spool.with_name(f"{spool.name}.{name}"))
    return FileSink(section.file) if section.file is not None else None


def tell_of_deletion(config: Config, archive: LocalArchive, uids: Sequence[str]) -> None:
    """Have the configured trail hear of a deletion by a verb, and who ran it.

    A running gateway notices the deletion and tells of it, too, but does not know by whom; one that is not running
    never hears of it.

    Raises:
        OSError: the trail cannot be written.
        StorageError: likewise.
    """
    sink, spool = _sink(config, "verb"), config.audit.syslog.spool
    if sink is None or not uids:
        return
    with ExitStack() as stack:
        if spool is not None:  # which verbs that run at the same time share
            stack.enter_context(file_lock(spool.with_name(f"{spool.name}.verb.lock")))
        trail = stack.enter_context(Written(sink, source=config.ae.title, site=config.audit.site))
        Auditor(trail, config.ae.title, archive).deleted(uids, operator())


def operator() -> str:
    """Who logged in to this machine and runs this process, also where it is another user's by sudo or su since."""
    login = -1
    with suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text("ascii"))
    number = login if 0 <= login < _NOBODY_LOGGED_IN else os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@dataclass(frozen=True)
class Auditor:
    """Turns what happens into audit messages; every method may be called from any thread."""

    trail: Trail | Written
    aet: str
    archive: LocalArchive

    def started(self, *, up: bool) -> None:
        """The application begins or ends."""
        kind_of = Code.APPLICATION_START if up else Code.APPLICATION_STOP
        me = replace(self._me(None), role=Code.APPLICATION)
        self._put(Code.APPLICATION_ACTIVITY, Action.EXECUTE, Outcome.SUCCESS, [me], type=kind_of)

    def rules_changed(self, version: str) -> None:
        """Other rules are in force."""
        subject = f"coercion rules, version {version}"
        participants = [self._me(None)]
        self._put(
            Code.SECURITY_ALERT, Action.EXECUTE, Outcome.SUCCESS, participants,
            type=Code.SOFTWARE_CONFIGURATION, subject=subject,
        )  # fmt: skip

    def deleted(self, uids: Sequence[str], person: str = "") -> None:
        """Studies, or parts of them, were deleted; by a person, where one is known."""
        who = [Participant(person, is_requestor=True, is_person=True)] if person else []
        studies = [Study(uid) for uid in uids]
        self._put(Code.STUDY_DELETED, Action.DELETE, Outcome.SUCCESS, [*who, self._me(None)], studies=studies)

    def login_failed(self, address: str) -> None:
        """The HTTP interface was asked with a wrong token, or without one."""
        who = Participant("HTTP", address, is_requestor=True)
        participants = [who, self._me(None)]
        self._put(Code.USER_AUTHENTICATION, Action.EXECUTE, Outcome.MINOR_FAILURE, participants, type=Code.LOGIN)

    def rejected(self, calling: str, called: str, address: str) -> None:
        """An association was rejected."""
        who = Participant(calling, address, is_requestor=True)
        self._not_let_in([who, Participant(called)], "association rejected")

    def untrusted(self, address: str) -> None:
        """A TLS handshake for DICOM failed."""
        who = Participant(address, address, is_requestor=True)
        self._not_let_in([who, self._me(None)], "TLS handshake failed")

    def _not_let_in(self, participants: Sequence[Participant], subject: str) -> None:
        self._put(
            Code.SECURITY_ALERT, Action.EXECUTE, Outcome.MINOR_FAILURE, participants,
            type=Code.NODE_AUTHENTICATION, subject=subject,
        )  # fmt: skip

    def queried(self, query: Query, caller: Caller, outcome: Outcome) -> None:
        """A C-FIND has ended."""
        asked = QueryObject(_FIND[query.model], query.keys.encode(implicit=False), EXPLICIT)
        participants = [self._caller(caller, Code.SOURCE), self._me(Code.DESTINATION)]
        self._put(Code.QUERY, Action.EXECUTE, outcome, participants, query=asked)

    def transferred(self, studies: Sequence[str], caller: Caller, destination: str, outcome: Outcome) -> None:
        """Instances of studies were sent, or were to be sent, to a destination at a caller's request."""
        receiver = Participant(destination, role=Code.DESTINATION)
        asker = self._caller(caller, None)
        participants = [self._me(Code.SOURCE), receiver, *([asker] if destination != caller.aet else [])]
        if destination == caller.aet:
            participants[1] = self._caller(caller, Code.DESTINATION)
        self._put(
            Code.INSTANCES_TRANSFERRED, Action.READ, outcome, participants,
            studies=[Study(uid) for uid in studies], patients=self._patients(studies, caller),
        )  # fmt: skip

    def received(self, request: StoreRequest, outcome: Outcome) -> None:
        """An instance was stored, or was not."""
        found = self.archive.instances(sop_uids=[request.sop_instance_uid])
        counted = Counter({request.sop_class_uid: 1})
        studies = [Study(one.study_instance_uid, counted) for one in found[:1]]
        participants = [self._caller(request.caller, Code.SOURCE), self._me(Code.DESTINATION)]
        self._put(
            Code.INSTANCES_TRANSFERRED, Action.CREATE, outcome, participants,
            studies=studies, patients=[one.patient_id for one in found[:1]],
        )  # fmt: skip

    def _patients(self, studies: Sequence[str], caller: Caller) -> list[str]:
        known = self.archive.studies(studies, caller).values()
        return sorted({patient for one in known if (patient := one.text(tags.PatientID))})

    def _me(self, role: Code | None) -> Participant:
        return Participant(self.aet, role=role)

    @staticmethod
    def _caller(caller: Caller, role: Code | None) -> Participant:
        return Participant(caller.aet, caller.address, role, is_requestor=True)

    def _put(
        self, code: Code, action: Action, outcome: Outcome, participants: Sequence[Participant], **more: object
    ) -> None:
        event = Event(code, action, outcome, self.trail.clock(), participants)
        self.trail.put(replace(event, **more))  # type: ignore[arg-type]

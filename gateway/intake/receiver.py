"""A receiver that applies the rules for received objects, then hands the instance on."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gateway import metrics
from gateway.coercion.draft import Context
from gateway.coercion.engine import Plan, plan
from gateway.coercion.rewrite import write_dataset, write_file
from gateway.coercion.rules import CoercionFailed, RuleSet, Where, asks_leading
from gateway.coercion.splice import read_head
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.tags import StudyInstanceUID
from gateway.dimse.ports import Incoming, Receiver, StoreRequest
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("intake")
_SUFFIX = ".part"
_SETTLED_SECONDS = 60
_SENDERS = 1024
QUARANTINED = 0xB000
"""Coercion of data elements (PS3.4 B.2.3): a warning, since the instance is safe here, but not among the others."""


Ask = Callable[[str, Caller], Attributes | None]
"""The leading archive's attributes of a study; None where it does not know it, or could not be asked."""


def _nobody(_study: str, _caller: Caller) -> None:
    return None


class CoercedReceiver:
    """Takes C-STORE requests; see :class:`gateway.dimse.ports.Receiver`.

    Args:
        receiver: who keeps the instances.
        rules: gives the rules in force.
        aet: our AE title.
        spool: folder for instances that are arriving, on a local disk.
        quarantine: folder for those that a rule puts aside.
        leading: what the leading archive says of a study; asked only when a rule takes something from there.
    """

    def __init__(
        self,
        receiver: Receiver,
        rules: Callable[[], RuleSet],
        aet: str,
        *,
        spool: Path,
        quarantine: Path,
        leading: Ask = _nobody,
    ) -> None:
        self._receiver = receiver
        self._rules = rules
        self._aet = aet
        self._spool = spool
        self._quarantine = quarantine
        self._leading = leading
        self._untouched: tuple[RuleSet | None, set[tuple[str, str]]] = None, set()

    def begin(self, request: StoreRequest) -> Incoming:
        """Open a place for the instance: the next receiver's own, when no rule can concern it.

        Raises:
            Refused: the next receiver does not accept it.
            StorageError: the disk is full or failing.
        """
        rules, sender = self._rules(), (request.caller.aet, request.caller.address)
        if self._is_untouched(rules, sender):
            return self._receiver.begin(request)
        context = Context(sending=sender[0], receiving=self._aet, host=sender[1], system=self._aet)
        made = plan(rules, Where.RECEIVED, context)
        if not made.rules:
            self._note_untouched(rules, sender)
            return self._receiver.begin(request)
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
            fd, path = tempfile.mkstemp(suffix=_SUFFIX, dir=self._spool)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(f"no temporary file: {error.strerror}") from error

        def planned(instance: StoredInstance) -> Plan:
            if not asks_leading(made.rules):
                return made
            study = read_head(instance, StudyInstanceUID + 1).text(StudyInstanceUID)
            return plan(rules, Where.RECEIVED, replace(context, leading=self._leading(study, request.caller)))

        return _Arriving(self._receiver, request, planned, fd, Path(path), self._quarantine)

    def _is_untouched(self, rules: RuleSet, sender: tuple[str, str]) -> bool:
        """Whether it is known that no rule concerns what comes from there: it depends on nothing else."""
        of, known = self._untouched
        return of is rules and sender in known

    def _note_untouched(self, rules: RuleSet, sender: tuple[str, str]) -> None:
        of, known = self._untouched
        if of is not rules or len(known) >= _SENDERS:
            self._untouched = of, known = rules, set()
        known.add(sender)

    def sweep(self) -> int:
        """Remove what a crash left in the spool; none of it was acknowledged. How many files there were.

        What another process is receiving right now is locked, or so new that it may be about to be.
        """
        old = time.time() - _SETTLED_SECONDS
        found = list(self._spool.glob(f"*{_SUFFIX}")) if self._spool.is_dir() else []
        return sum(_removed(path, old) for path in found)


def _removed(path: Path, before: float) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_mtime >= before:
                return False
            path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


class _Arriving:
    """One instance that rules may concern; its file is the bare data set."""

    def __init__(
        self,
        receiver: Receiver,
        request: StoreRequest,
        planned: Callable[[StoredInstance], Plan],
        fd: int,
        path: Path,
        quarantine: Path,
    ) -> None:
        self._receiver = receiver
        self._request = request
        self._planned = planned
        self._path = path
        self._quarantine = quarantine
        self.fd = fd

    def commit(self) -> int:
        """Apply the rules and hand the instance on; the status to answer with.

        Raises:
            GatewayError: it was not kept; nothing of it is left.
        """
        try:
            return self._commit()
        finally:
            self.abort()

    def _commit(self) -> int:
        instance = self._instance()
        try:
            outgoing = self._planned(instance).apply_to_instance(instance)
        except CoercionFailed as error:
            if not error.quarantine:
                raise
            return self._put_aside(Outgoing.untouched(instance), error.rule)
        request = replace(
            self._request, sop_class_uid=outgoing.sop_class_uid, sop_instance_uid=outgoing.sop_instance_uid
        )
        place = self._receiver.begin(request)
        try:
            write_dataset(outgoing, place.fd)
        except BaseException:
            place.abort()
            raise
        return place.commit()

    def _instance(self) -> StoredInstance:
        request, size = self._request, os.fstat(self.fd).st_size
        uids = request.sop_instance_uid, request.sop_class_uid, request.transfer_syntax_uid
        return StoredInstance("", "", "", *uids, str(self._path), size, 0)

    def _put_aside(self, outgoing: Outgoing, rule: str) -> int:
        """Keep the instance as it came, durably, where an admin finds it."""
        try:
            self._quarantine.mkdir(parents=True, exist_ok=True)
            fd, path = tempfile.mkstemp(suffix=".dcm", dir=self._quarantine)
            try:
                write_file(outgoing, fd, self._request.caller.aet)
                os.fsync(fd)
            except BaseException:
                Path(path).unlink()
                raise
            finally:
                os.close(fd)
            _sync_folder(self._quarantine)
        except OSError as error:
            raise StorageError(f"the instance cannot be put aside: {error.strerror}") from error
        metrics.RULES_QUARANTINED.inc()
        _log.warning("instance put aside", rule=rule, file=Path(path).name)
        return QUARANTINED

    def abort(self) -> None:
        """Forget what was received; harmless after a commit."""
        if self.fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

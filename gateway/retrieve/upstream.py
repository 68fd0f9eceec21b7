"""Asking the leading archive to send instances: C-GET on one association, or C-MOVE to ourselves.

C-GET comes first: what arrives on the association that asked for it needs no correlation, no second port and no
configuration at the leading archive. C-MOVE is for archives without C-GET; its instances reach our own server, in
whichever process accepts them, and find their way by their SOP Instance UIDs alone. Move Originator fields are left
out by some archives, and calling AE titles are others' by some, so neither is relied on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.models import SERVICES, Model
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.negotiation import Role
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.dimse.ports import Peer, Receiver
from gateway.dimse.requestor import Association, RetrieveProgress, connect
from gateway.dimse.sopclasses import STORAGE_SYNTAXES
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.logs import get_logger
from gateway.retrieve.contexts import FALLBACKS, MAX_CONTEXTS
from gateway.retrieve.missing import Missing
from gateway.retrieve.ports import Pair

_log = get_logger("retrieve")
_STUDY_ROOT = next(service for service in SERVICES if service.model is Model.STUDY_ROOT)
_UIDS_A_REQUEST = 100
_pause = threading.Event()  # never set: a wait that a stop of the process ends

_FREQUENT = (
    *FALLBACKS,
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
)
STORED_SYNTAXES = (*_FREQUENT, *sorted(STORAGE_SYNTAXES - frozenset(_FREQUENT)))
"""Transfer syntaxes that instances come in, the most frequent first: when contexts run short, the rest is left out."""

_NOT_OFFERED = frozenset({Status.SOP_CLASS_NOT_SUPPORTED, Status.NO_SUCH_SOP_CLASS, Status.UNRECOGNISED_OPERATION})

COMMON_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{number}"
    for number in (
        "2", "2.1", "4", "4.1", "1", "1.1", "1.2", "6.1", "3.1", "7", "12.1", "12.2", "20", "128", "130", "88.11",
        "88.22", "88.33", "88.67", "104.1", "481.1", "481.2", "481.3", "481.5", "11.1", "66.4", "9.1.1", "77.1.4",
    )
)  # fmt: skip
"""Storage SOP classes proposed when nobody says which are to come."""


class Via(Enum):
    """How instances are asked for; ``auto`` is C-GET, and C-MOVE where the archive does not offer it."""

    AUTO = "auto"
    GET = "get"
    MOVE = "move"


class Upstream(Protocol):
    """Has instances sent to a receiver."""

    def fetch(self, missing: Missing, receiver: Receiver, arrived: Callable[[], int], stop: IsCancelled) -> None:
        """Return when the archive says that it has sent what it can.

        Args:
            arrived: how many of the missing instances have arrived by now, by whatever way.

        Raises:
            UpstreamError: it failed, or sent nothing.
            Cancelled: ``stop()`` became true.
        """


def identifiers(missing: Missing) -> Iterator[Attributes]:
    """What to ask for: whole series together, of others the instances that lack (PS3.4 C.4.2.2.1).

    When neither is named it is the whole study, whatever it may have.
    """
    if not missing.instances and not missing.whole_series:
        yield Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": missing.study_instance_uid})
        return
    whole = sorted(missing.whole_series)
    for part in _parts(whole):
        yield Attributes.of(
            {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": missing.study_instance_uid, "SeriesInstanceUID": part}
        )
    single: dict[str, list[str]] = {}
    for one in missing.instances:
        if one.series_instance_uid not in missing.whole_series:
            single.setdefault(one.series_instance_uid, []).append(one.sop_instance_uid)
    for series, uids in single.items():
        for part in _parts(uids):
            yield Attributes.of(
                {
                    "QueryRetrieveLevel": "IMAGE",
                    "StudyInstanceUID": missing.study_instance_uid,
                    "SeriesInstanceUID": series,
                    "SOPInstanceUID": part,
                }
            )


def _parts(uids: Sequence[str]) -> list[Sequence[str]]:
    return [uids[start : start + _UIDS_A_REQUEST] for start in range(0, len(uids), _UIDS_A_REQUEST)]


def storage_contexts(classes: Sequence[str], room: int) -> list[Pair]:
    """Contexts to receive on: every class gets as many of the usual syntaxes as there is room for."""
    known = [one for one in dict.fromkeys(classes) if one] or list(COMMON_CLASSES)
    each = max(1, min(len(STORED_SYNTAXES), room // len(known)))
    return [(one, syntax) for one in known for syntax in STORED_SYNTAXES[:each]][:room]


Serving = Callable[[Receiver], AbstractContextManager[object]]
"""Makes a receiver reachable for C-STOREs while a C-MOVE to ourselves runs."""


def _already(receiver: Receiver) -> AbstractContextManager[object]:
    """Our server takes them anyway and finds the receiver by itself."""
    return nullcontext(receiver)


def _ignore(_response: RetrieveProgress) -> None:
    return None


@dataclass(frozen=True)
class DimseUpstream:
    """An archive over DIMSE.

    Attributes:
        aet: our AE title, also the move destination that the archive knows us by.
        late_seconds: how long instances of a C-MOVE may come after its final response, from one to the next.
        serving: around a C-MOVE.
        on_response: told of every response to a C-GET or C-MOVE.
    """

    peer: Peer
    aet: str
    via: Via = Via.AUTO
    late_seconds: float = 10.0
    serving: Serving = _already
    on_response: Callable[[RetrieveProgress], None] = _ignore

    def fetch(self, missing: Missing, receiver: Receiver, arrived: Callable[[], int], stop: IsCancelled) -> None:
        """As :class:`Upstream`."""
        if self.via is Via.MOVE or not self._got(missing, receiver, stop):
            self._move(missing, receiver, arrived, stop)

    def _got(self, missing: Missing, receiver: Receiver, stop: IsCancelled) -> bool:
        """C-GET; false when the archive has none and C-MOVE is to be tried."""
        with self._for_get(missing) as association:
            if self.via is Via.AUTO and not offers(association, _STUDY_ROOT.get):
                return False
            try:
                for identifier in identifiers(missing):
                    self._watch(association.get(_STUDY_ROOT.get, identifier, receiver, stop))
            except UpstreamError as error:
                if self.via is Via.GET or error.upstream_status not in _NOT_OFFERED:
                    raise
                return False
        return True

    def _for_get(self, missing: Missing) -> Association:
        asking = [(_STUDY_ROOT.get, one) for one in FALLBACKS]
        storage = storage_contexts([one.sop_class_uid for one in missing.instances], MAX_CONTEXTS - len(asking))
        roles = {sop_class: Role(scu=False, scp=True) for sop_class, _ in storage}
        return connect(self.peer, self.aet, [*asking, *storage], roles=roles)

    def _move(self, missing: Missing, receiver: Receiver, arrived: Callable[[], int], stop: IsCancelled) -> None:
        sent = 0
        with self.serving(receiver):
            with connect(self.peer, self.aet, [(_STUDY_ROOT.move, one) for one in FALLBACKS]) as association:
                for identifier in identifiers(missing):
                    final = self._watch(association.move(_STUDY_ROOT.move, identifier, self.aet, stop))
                    sent += final.completed + final.warning
            self._await_late(len(missing.instances) or sent, arrived, stop)

    def _watch(self, responses: Iterator[RetrieveProgress]) -> RetrieveProgress:
        """Read the responses to the last one and see what it says."""
        final: RetrieveProgress | None = None
        for response in responses:
            self.on_response(response)
            final = response
        if final is None:
            raise UpstreamError(f"{self.peer.name}: no response", UpstreamKind.PROTOCOL)
        if final.failed or final.warning:
            _log.warning(
                "the archive could not send everything",
                peer=self.peer.name,
                status=f"{final.status:04X}H",
                failed=final.failed,
                warning=final.warning,
            )
        if kind(final.status) is Kind.FAILURE and not final.completed:
            raise UpstreamError(
                f"{self.peer.name}: retrieve ended with status {final.status:04X}H",
                UpstreamKind.STATUS,
                upstream_status=final.status,
            )
        return final

    def _await_late(self, expected: int, arrived: Callable[[], int], stop: IsCancelled) -> None:
        """Some archives answer first and send afterwards."""
        before, limit = arrived(), monotonic() + self.late_seconds
        while arrived() < expected and monotonic() < limit:
            if stop():
                raise Cancelled("nobody wants it any more")
            _pause.wait(0.05)
            if arrived() > before:
                before, limit = arrived(), monotonic() + self.late_seconds


def offers(association: Association, sop_class_uid: str) -> bool:
    """Whether a service was accepted on an association."""
    return any(context.abstract_syntax == sop_class_uid for context in association.contexts)


@dataclass(frozen=True)
class FirstOf:
    """Several archives, asked in turn until everything has arrived."""

    upstreams: Sequence[Upstream]

    def fetch(self, missing: Missing, receiver: Receiver, arrived: Callable[[], int], stop: IsCancelled) -> None:
        """As :class:`Upstream`; fails as the last one that failed, when something is missing still."""
        failure: UpstreamError | None = None
        for upstream in self.upstreams:
            try:
                upstream.fetch(missing, receiver, arrived, stop)
            except UpstreamError as error:
                failure = error
            if arrived() >= len(missing.instances):
                return
        if failure is not None:
            raise failure

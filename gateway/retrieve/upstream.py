"""Asking the leading archive to send instances: C-GET on one association, or C-MOVE to ourselves.

C-GET comes first: what arrives on the association that asked for it needs no correlation, no second port and no
configuration at the leading archive. C-MOVE is for archives without C-GET; its instances reach our own server, in
whichever process accepts them, and find their way by their SOP Instance UIDs alone. Move Originator fields are left
out by some archives, and calling AE titles are others' by some, so neither is relied on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.models import SERVICES, Model
from gateway.dicom.status import Kind, kind
from gateway.dimse.negotiation import Role
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.dimse.ports import Peer, Receiver
from gateway.dimse.requestor import Association, RetrieveProgress, connect
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.logs import get_logger
from gateway.retrieve.contexts import FALLBACKS, MAX_CONTEXTS
from gateway.retrieve.missing import Missing
from gateway.retrieve.ports import Pair

_log = get_logger("retrieve")
_STUDY_ROOT = next(service for service in SERVICES if service.model is Model.STUDY_ROOT)
_UIDS_A_REQUEST = 100
_LATE_SECONDS = 10.0
_pause = threading.Event()  # never set: a wait that a stop of the process ends

STORED_SYNTAXES = (
    *FALLBACKS,
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.57",  # JPEG lossless, process 14
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.100",  # MPEG2
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264
)
"""Transfer syntaxes that instances come in, the most frequent first: when contexts run short, the rest is left out."""

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
    """What to ask for: whole series together, of others the instances that lack (PS3.4 C.4.2.2.1)."""
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


@dataclass(frozen=True)
class DimseUpstream:
    """The leading archive over DIMSE.

    Args:
        aet: our AE title, also the move destination that the leading archive knows us by.
    """

    peer: Peer
    aet: str
    via: Via = Via.AUTO
    late_seconds: float = _LATE_SECONDS
    """How long instances of a C-MOVE may come after its final response, from one to the next."""

    def fetch(self, missing: Missing, receiver: Receiver, arrived: Callable[[], int], stop: IsCancelled) -> None:
        """As :class:`Upstream`."""
        if self.via is not Via.MOVE:
            association = self._for_get(missing)
            if self.via is Via.GET or offers(association, _STUDY_ROOT.get):
                with association:
                    for identifier in identifiers(missing):
                        self._last(association.get(_STUDY_ROOT.get, identifier, receiver, stop))
                return
            association.release()
        with connect(self.peer, self.aet, [(_STUDY_ROOT.move, one) for one in FALLBACKS]) as association:
            for identifier in identifiers(missing):
                self._last(association.move(_STUDY_ROOT.move, identifier, self.aet, stop))
        self._await_late(len(missing.instances), arrived, stop)

    def _for_get(self, missing: Missing) -> Association:
        asking = [(_STUDY_ROOT.get, one) for one in FALLBACKS]
        storage = storage_contexts([one.sop_class_uid for one in missing.instances], MAX_CONTEXTS - len(asking))
        roles: Mapping[str, Role] = {sop_class: Role(scu=False, scp=True) for sop_class, _ in storage}
        return connect(self.peer, self.aet, [*asking, *storage], roles=roles)

    def _last(self, responses: Iterator[RetrieveProgress]) -> None:
        """Read the responses to the last one and see what it says."""
        final = deque(responses, maxlen=1).pop()
        status = final.status
        if final.failed or final.warning:
            _log.warning(
                "leading archive could not send everything",
                peer=self.peer.name,
                status=f"{status:04X}H",
                failed=final.failed,
                warning=final.warning,
            )
        if kind(status) is Kind.FAILURE and not final.completed:
            raise UpstreamError(
                f"{self.peer.name}: retrieve ended with {status:04X}H", UpstreamKind.STATUS, upstream_status=status
            )

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

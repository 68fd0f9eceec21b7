"""Sub-operations: coerce an instance and send it over a channel that exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import Originator, StoreChannel
from gateway.errors import GatewayError, Refused, UpstreamError
from gateway.logs import get_logger
from gateway.metrics import PULLED
from gateway.retrieve.ports import Coerce, Pair
from gateway.retrieve.transcode import target_for, transcode

_log = get_logger("retrieve")


@dataclass(frozen=True)
class Parcel:
    """An instance to send and what is to be done to it on the way.

    Attributes:
        pulled: whether it came from the leading archive for this retrieve.
        again: looks up where the instance is now; None where it does not move.
    """

    instance: StoredInstance
    coerce: Coerce
    pulled: bool = False
    again: Callable[[StoredInstance], StoredInstance | None] | None = None

    @property
    def pair(self) -> Pair:
        """What a presentation context is needed for."""
        return self.instance.sop_class_uid, self.instance.transfer_syntax_uid

    def moved(self) -> Parcel | None:
        """The instance in the file that took the place of the one it had when the retrieve was planned, if any has.

        Raises:
            StorageError: the index cannot be read.
        """
        found = self.again(self.instance) if self.again else None
        return replace(self, instance=found) if found and found.path != self.instance.path else None


class Delivery:
    """Sends parcels one after another; the next one is coerced while the peer works on the one just sent.

    Args:
        originator: of the C-MOVE, for the requests of its sub-operations.
    """

    def __init__(self, originator: Originator | None = None) -> None:
        self._originator = originator
        self._ready: tuple[Parcel, Outgoing] | None = None

    def deliver(self, parcel: Parcel, channel: StoreChannel, following: Parcel | None = None) -> int:
        """Send one instance; whatever is wrong with it alone becomes its status and a line in the log.

        When its transfer syntax was refused, it is sent in another one if that can be done without loss.

        Args:
            following: what is going to be delivered next, if that can be said.

        Raises:
            UpstreamError: the association broke.
        """
        try:
            status = self._store_where_it_is(parcel, channel, following)
        except UpstreamError:
            raise
        except GatewayError as problem:
            _report(parcel, problem.status, problem.message)
            return problem.status
        if kind(status) is not Kind.SUCCESS:
            _report(parcel, status, "the destination's response")
        elif parcel.pulled:
            PULLED.labels("forwarded").inc()
        return status

    def _store_where_it_is(self, parcel: Parcel, channel: StoreChannel, following: Parcel | None) -> int:
        """Store an instance, from another file if a reconciliation or a replacement came in between."""
        try:
            return self._store(parcel, channel, following)
        except UpstreamError:
            raise
        except GatewayError:
            if (moved := parcel.moved()) is None:
                raise
        return self._store(moved, channel, following)

    def _store(self, parcel: Parcel, channel: StoreChannel, following: Parcel | None) -> int:
        ready, self._ready = self._ready, None
        outgoing = ready[1] if ready and ready[0] is parcel else parcel.coerce(parcel.instance)
        if not channel.accepts(outgoing.sop_class_uid, outgoing.transfer_syntax_uid):
            target = target_for(outgoing, channel)
            if target is None:
                raise Refused("no accepted presentation context", Status.SOP_CLASS_NOT_SUPPORTED)
            outgoing = transcode(outgoing, target)
        return channel.store(outgoing, self._originator, lambda: self._prepared(following) if following else None)

    def _prepared(self, following: Parcel) -> Outgoing | None:
        """The next instance as it will be sent, unless it is going to be transcoded."""
        try:
            outgoing = following.coerce(following.instance)
        except GatewayError:
            return None  # told when its turn comes
        self._ready = following, outgoing
        return outgoing


def _report(parcel: Parcel, status: int, reason: str) -> None:
    """An instance that was fetched and then not passed on is an error: nobody else will notice it."""
    if parcel.pulled and kind(status) is Kind.FAILURE:
        PULLED.labels("not_forwarded").inc()
    log = _log.error if parcel.pulled else _log.warning
    log("instance not sent", instance=parcel.instance.sop_instance_uid, status=f"{status:04X}H", reason=reason)

"""One sub-operation: coerce an instance and send it over a channel that exists."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import Originator, StoreChannel
from gateway.errors import GatewayError, UpstreamError
from gateway.logs import get_logger
from gateway.retrieve.ports import Coerce, Pair

_log = get_logger("retrieve")


@dataclass(frozen=True)
class Parcel:
    """An instance to send and what is to be done to it on the way."""

    instance: StoredInstance
    coerce: Coerce

    @property
    def pair(self) -> Pair:
        """What a presentation context is needed for."""
        return self.instance.sop_class_uid, self.instance.transfer_syntax_uid


def deliver(parcel: Parcel, channel: StoreChannel, originator: Originator | None = None) -> int:
    """Send one instance; whatever is wrong with it alone becomes its status and a line in the log.

    Raises:
        UpstreamError: the association broke.
    """
    instance = parcel.instance
    try:
        outgoing = parcel.coerce(instance)
        if channel.accepts(outgoing.sop_class_uid, outgoing.transfer_syntax_uid):
            status = channel.store(outgoing, originator)
        else:
            status = Status.SOP_CLASS_NOT_SUPPORTED
    except UpstreamError:
        raise
    except GatewayError as problem:
        _log.warning("instance not sent", sop_instance_uid=instance.sop_instance_uid, reason=problem.message)
        return problem.status
    if kind(status) is not Kind.SUCCESS:
        _log.warning("instance not taken", sop_instance_uid=instance.sop_instance_uid, status=f"{status:04X}H")
    return status

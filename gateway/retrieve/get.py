"""C-GET: send what a request names over the requestor's own association (PS3.4 C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Retrieve
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.dimse.ports import StoreChannel
from gateway.errors import Cancelled
from gateway.retrieve.delivery import deliver
from gateway.retrieve.move import Planner, parcels_of
from gateway.retrieve.ports import Coercion
from gateway.retrieve.tally import Tally


@dataclass(frozen=True)
class GetService:
    """The :class:`~gateway.dimse.ports.GetHandler`.

    Attributes:
        interval: seconds between pending responses.
    """

    plan: Planner
    coercion: Coercion
    interval: float = 1.0
    clock: Callable[[], float] = monotonic

    def __call__(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: IsCancelled
    ) -> Iterator[SubOperations]:
        """Send, and yield the counters; the last ones are final.

        Raises:
            UpstreamError: the requestor's association broke, or nobody could tell what is to be sent.
            Cancelled: after the final counters, when the requestor cancelled.
        """
        plan = self.plan(retrieve, caller)
        tally = Tally(plan.total, "get")
        said = self.clock()
        for parcel in parcels_of(plan, self.coercion, caller, caller.aet):
            if cancelled():
                yield tally.snapshot()
                raise Cancelled("the requestor cancelled")
            tally.count(parcel.instance.sop_instance_uid, deliver(parcel, channel))
            if self.clock() - said >= self.interval:
                said = self.clock()
                yield tally.snapshot()
        yield tally.snapshot()

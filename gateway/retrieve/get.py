"""C-GET: send what a request names over the requestor's own association (PS3.4 C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from time import monotonic

from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Retrieve
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.dimse.ports import StoreChannel
from gateway.errors import Cancelled
from gateway.retrieve.delivery import Delivery
from gateway.retrieve.gate import Gate
from gateway.retrieve.plan import Planner
from gateway.retrieve.ports import Coercion, Recipient
from gateway.retrieve.pull import PullThrough
from gateway.retrieve.supply import Supply
from gateway.retrieve.tally import Tally


@dataclass(frozen=True)
class GetService:
    """The :class:`~gateway.dimse.ports.GetHandler`.

    Attributes:
        pull: for what only the leading archive has; a plan has no such instances when its planner has no survey.
        interval: seconds between pending responses.
    """

    plan: Planner
    coercion: Coercion
    pull: PullThrough | None = None
    interval: float = 0.5
    clock: Callable[[], float] = monotonic

    def __call__(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: IsCancelled
    ) -> Iterator[SubOperations]:
        """Send, and yield the counters; the last ones are final.

        Raises:
            Refused: nobody could tell what is to be sent.
            UpstreamError: the requestor's association broke.
            Cancelled: after the final counters, when the requestor cancelled.
        """
        planning = self.plan.meanwhile(retrieve, caller, Gate(cancelled), self.interval)
        yield from planning.run()
        plan = planning.outcome
        tally = Tally(plan.sop_instance_uids, "get")
        said, delivery = self.clock(), Delivery()
        with Supply(plan, self.plan.archive, self.pull, self.coercion, Recipient(caller.aet, caller.address)) as supply:
            local = zip_longest(supply.local, supply.local[1:])
            for parcel, following in chain(local, ((one, None) for one in supply.arriving(tally))):
                if cancelled():
                    yield tally.snapshot()
                    raise Cancelled("cancelled by the requestor")
                if parcel:
                    tally.count(parcel.instance.sop_instance_uid, delivery.deliver(parcel, channel, following))
                if self.clock() - said >= self.interval:
                    said = self.clock()
                    yield tally.snapshot()
        yield tally.snapshot()

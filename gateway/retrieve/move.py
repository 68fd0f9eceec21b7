"""C-MOVE: send what a request names to a destination (PS3.4 C.4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Retrieve
from gateway.dimse.ports import Cancelled, Originator
from gateway.retrieve.backlog import Backlog
from gateway.retrieve.contexts import proposals
from gateway.retrieve.courier import Courier
from gateway.retrieve.delivery import Parcel
from gateway.retrieve.destinations import Destination, Destinations
from gateway.retrieve.gate import Gate
from gateway.retrieve.plan import Plan, Planner
from gateway.retrieve.ports import Coercion, Connect, Pair, Recipient
from gateway.retrieve.pull import PullThrough
from gateway.retrieve.shipment import Shipment
from gateway.retrieve.supply import Supply
from gateway.retrieve.tally import Tally


@dataclass(frozen=True)
class MoveService:
    """The :class:`~gateway.dimse.ports.MoveHandler`.

    Attributes:
        pull: for what only the leading archive has; a plan has no such instances when its planner has no survey.
        interval: seconds between pending responses.
    """

    plan: Planner
    destinations: Destinations
    coercion: Coercion
    connect: Connect
    pull: PullThrough | None = None
    interval: float = 0.5

    def __call__(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """Send, and yield the counters; the last ones are final.

        Raises:
            Refused: the destination is unknown, or not for this caller; or nobody could tell what is to be sent.
            Cancelled: after the final counters, when the requestor cancelled.
        """
        target = self.destinations.find(destination, caller)
        gate = Gate(cancelled)
        planning = self.plan.meanwhile(retrieve, caller, gate, self.interval)
        yield from planning.run()
        plan = planning.outcome
        tally = Tally(plan.sop_instance_uids, "move")
        yield tally.snapshot()
        if not plan.total:
            return
        recipient = Recipient(target.peer.aet, target.peer.host)
        with Supply(plan, self.plan.archive, self.pull, self.coercion, recipient) as supply:
            contexts = proposals(parcel.pair for parcel in supply.local)
            backlog = Backlog(in_order_of(contexts, supply.local))
            couriers = self._couriers(target, plan, originator, contexts, backlog)
            yield from Shipment(supply, backlog, couriers, tally, gate, interval=self.interval).run()

    def _couriers(
        self,
        target: Destination,
        plan: Plan,
        originator: Originator,
        contexts: Sequence[Sequence[Pair]],
        backlog: Backlog,
    ) -> list[Courier]:
        return [
            Courier(self.connect, target, originator, contexts, lambda: backlog.stopped)
            for _ in range(min(target.associations, plan.total))
        ]


def in_order_of(contexts: Sequence[Sequence[Pair]], parcels: list[Parcel]) -> list[Parcel]:
    """The parcels of one association before those of the next, so that no association is opened twice."""
    if len(contexts) < 2:
        return parcels
    place = {pair: number for number, proposed in enumerate(contexts) for pair in proposed}
    return sorted(parcels, key=lambda parcel: place[parcel.pair])

"""C-MOVE: send what a request names to a destination (PS3.4 C.4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Retrieve
from gateway.dimse.ports import Cancelled, Originator
from gateway.retrieve.backlog import Backlog
from gateway.retrieve.contexts import proposals
from gateway.retrieve.courier import Courier
from gateway.retrieve.delivery import Parcel
from gateway.retrieve.destinations import Destinations
from gateway.retrieve.plan import Plan
from gateway.retrieve.ports import Coercion, Connect, Pair
from gateway.retrieve.shipment import Shipment
from gateway.retrieve.tally import Tally

Planner = Callable[[Retrieve, Caller], Plan]


@dataclass(frozen=True)
class MoveService:
    """The :class:`~gateway.dimse.ports.MoveHandler`.

    Attributes:
        interval: seconds between pending responses.
    """

    plan: Planner
    destinations: Destinations
    coercion: Coercion
    connect: Connect
    interval: float = 1.0

    def __call__(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """Send, and yield the counters; the last ones are final.

        Raises:
            Refused: the destination is unknown, or not for this caller.
            UpstreamError: nobody could tell what is to be sent.
            Cancelled: after the final counters, when the requestor cancelled.
        """
        target = self.destinations.find(destination, caller)
        plan = self.plan(retrieve, caller)
        tally = Tally(plan.total, "move")
        yield tally.snapshot()
        if not plan.total:
            return
        parcels = parcels_of(plan, self.coercion, caller, target.peer.aet)
        contexts = proposals(parcel.pair for parcel in parcels)
        backlog = Backlog(in_order_of(contexts, parcels))
        backlog.close()
        couriers = [
            Courier(self.connect, target.peer, originator, contexts)
            for _ in range(min(target.associations, plan.total))
        ]
        yield from Shipment(backlog, couriers, tally, cancelled, interval=self.interval).run()


def parcels_of(plan: Plan, coercion: Coercion, caller: Caller, destination: str) -> list[Parcel]:
    """What a plan sends, with the rules decided once for each study."""
    parcels: list[Parcel] = []
    for study in plan.studies:
        coerce = coercion.for_study(study.leading, caller, destination)
        parcels += (Parcel(one, coerce) for one in study.local)
    return parcels


def in_order_of(contexts: Sequence[Sequence[Pair]], parcels: list[Parcel]) -> list[Parcel]:
    """The parcels of one association before those of the next, so that no association is opened twice."""
    if len(contexts) < 2:
        return parcels
    place = {pair: number for number, proposed in enumerate(contexts) for pair in proposed}
    return sorted(parcels, key=lambda parcel: place[parcel.pair])

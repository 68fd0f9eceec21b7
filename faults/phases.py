"""Cuts, stalls, delays, half-closes and trickles at each phase, on all three sides of the gateway."""

from __future__ import annotations

from itertools import product
from time import monotonic

from faults.proxy import Fault, Phase, Proxy, Trouble
from faults.world import BOUND, IMAGES, Scenario, World, require, told
from gateway.errors import UpstreamError

_SOONEST = {Fault.DELAY, Fault.TRICKLE}


def _matrix(world: World) -> list[Trouble]:
    """Every fault at every phase; a seeded handful of them in the short form."""
    every = [Trouble(phase, fault) for phase, fault in product(Phase, Fault)]
    return world.chance.sample(every, 6) if world.quick else every


class _Tally:
    """How long each took, and how many ended how."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.slowest = 0.0

    def add(self, trouble: Trouble, seconds: float, end: str, bound: float) -> None:
        what = f"{trouble.fault.value} at {trouble.phase.value}"
        require(seconds < bound, f"{what}: {seconds:.1f} s")
        self.slowest = max(self.slowest, seconds)
        self.ends[end] = self.ends.get(end, 0) + 1

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return f"{sum(self.ends.values())} faults: {ends}; longest {self.slowest:.1f} s"


def _fires(proxy: Proxy, before: int, trouble: Trouble) -> None:
    idle = trouble.phase is Phase.RELEASE  # the peer that is through need not release: a pool keeps associations
    require(idle or proxy.fired > before, f"{trouble.fault.value} at {trouble.phase.value} never happened")


def between_gateway_and_leading_archive(world: World) -> str:
    """A viewer asks; the answer has the corrections, or it is the local one: whole, and in time."""
    tally = _Tally()
    for trouble in _matrix(world):
        world.forget()
        before, began = world.upstream.fired, monotonic()
        with world.upstream.trouble(trouble):
            try:
                end = told(world.find())
            except UpstreamError as error:
                require(error.upstream_status, f"no status: {error.message}")
                end = f"{error.upstream_status:04X}H"
            seconds = monotonic() - began
        require(end in {"new", "old", "A700H", "A702H"}, f"{trouble.fault.value} at {trouble.phase.value}: {end}")
        if trouble.fault is Fault.DELAY:
            require(end == "new", f"a delay at {trouble.phase.value} within the deadline: {end}")
        tally.add(trouble, seconds, end, BOUND)
        world.forget()
        require(world.corrected(), f"{trouble.fault.value} at {trouble.phase.value} was remembered")
        _fires(world.upstream, before, trouble)
    return str(tally)


def between_client_and_gateway(world: World) -> str:
    """What a client asks through a broken line harms nobody; what arrives whole is right."""
    tally = _Tally()
    for trouble in _matrix(world):
        before, began = world.entry.fired, monotonic()
        with world.entry.trouble(trouble):
            try:
                end = told(world.find(port=world.entry.port, patience=3.0))
            except UpstreamError:
                end = "failed at the client"
            seconds = monotonic() - began
        require(end in {"new", "failed at the client"}, f"{trouble.fault.value} at {trouble.phase.value}: {end}")
        tally.add(trouble, seconds, end, 3 * BOUND)
        _fires(world.entry, before, trouble)
    return str(tally)


def between_gateway_and_destination(world: World) -> str:
    """A C-MOVE ends in time, and its counters account for every instance."""
    tally = _Tally()
    for trouble in _matrix(world):
        before, began = world.downstream.fired, monotonic()
        with world.downstream.trouble(trouble):
            final = world.move()
            seconds = monotonic() - began
        accounted = final.completed + final.failed + final.warning
        what = f"{trouble.fault.value} at {trouble.phase.value}"
        require(accounted in {0, IMAGES}, f"{what}: {accounted} of {IMAGES} accounted for, {final.status:04X}H")
        require(accounted == IMAGES or final.status != 0, f"{what}: success without instances")
        require(len(final.failed_uids) == final.failed, f"{what}: {len(final.failed_uids)} of {final.failed} listed")
        tally.add(trouble, seconds, f"{final.status:04X}H", 3 * BOUND)
        _fires(world.downstream, before, trouble)
    return str(tally)


SCENARIOS = [
    Scenario("line to the leading archive", between_gateway_and_leading_archive),
    Scenario("line from a client", between_client_and_gateway),
    Scenario("line to a destination", between_gateway_and_destination),
]

"""Move destinations that are down, refuse, hang, fail or die in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from faults.scripted import Behaviour, Line, Scripted
from faults.world import BOUND, IMAGES, Scenario, World, require
from tests.support.ports import closed_port


@contextmanager
def _at(world: World, port: int) -> Iterator[None]:
    world.downstream.retarget(port)
    try:
        yield
    finally:
        world.downstream.retarget(world.viewer.port)
        world.downstream.drop()


def _moved(world: World, failed: int, statuses: set[int]) -> str:
    """Move while it is broken: in time, every instance accounted for, those that failed listed."""
    began = monotonic()
    final = world.move()
    seconds = monotonic() - began
    said = f"{final.status:04X}H, {final.completed} delivered, {final.failed} failed, {seconds * 1000:.0f} ms"
    require(seconds < 2 * BOUND, f"ended after {seconds:.1f} s")
    require(final.status in statuses, said)
    require(final.remaining is None, f"Number of Remaining Sub-operations on the final response: {said}")
    require(final.failed in {failed, 0 if failed == IMAGES else failed}, said)
    require(len(final.failed_uids) == final.failed, f"{len(final.failed_uids)} listed: {said}")
    return said


def down(world: World) -> str:
    """Nobody listens there."""
    with _at(world, closed_port()):
        return _moved(world, IMAGES, {0xA702})


def _stores(line: Line) -> Iterator[int]:
    """Accept and take instances; yields how many there were before each is answered with Success."""
    line.accept()
    taken = 0
    while message := line.message():
        taken += 1
        yield taken
        context, command, _ = message
        line.answer(context, command, 0)


def _refuses(line: Line) -> None:
    line.accept(refuse=3)
    line.silence()


def _dies(line: Line) -> None:
    for taken in _stores(line):
        if taken == 3:
            raise OSError


def _hangs(line: Line) -> None:
    for taken in _stores(line):
        if taken == 3:
            line.silence()
            return


def _full(line: Line) -> None:
    line.accept()
    while message := line.message():
        context, command, _ = message
        line.answer(context, command, 0xA700)


def _garbage(line: Line) -> None:
    for taken in _stores(line):
        if taken == 3:
            line.send(b"\xff" * 64)
            return


_FAILING = {0xB000, 0xA702}


def _scenario(name: str, behaviour: Behaviour, failed: set[int], statuses: set[int]) -> Scenario:
    def run(world: World) -> str:
        with Scripted(behaviour) as peer, _at(world, peer.port):
            began = monotonic()
            final = world.move()
            seconds = monotonic() - began
            said = f"{final.status:04X}H, {final.completed} delivered, {final.failed} failed, {seconds * 1000:.0f} ms"
            require(seconds < 2 * BOUND, f"late: {said}")
            require(final.status in statuses, said)
            require(final.failed in failed, said)
            require(len(final.failed_uids) == final.failed, f"{len(final.failed_uids)} listed: {said}")
            require(final.completed + final.failed + final.warning in {0, IMAGES}, f"not all accounted for: {said}")
            return said

    return Scenario(f"destination: {name}", run)


SCENARIOS = [
    Scenario("destination: down", down),
    _scenario("refuses every context", _refuses, {IMAGES}, _FAILING),
    _scenario("dies at the third instance of each association", _dies, set(range(1, IMAGES)), _FAILING),
    _scenario("hangs at the third instance", _hangs, set(range(1, IMAGES)), _FAILING),
    _scenario("garbage at the third instance", _garbage, set(range(1, IMAGES)), _FAILING),
    _scenario("disk full", _full, {IMAGES}, _FAILING),
]

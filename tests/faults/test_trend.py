"""What a soak says of memory: a cache that fills is none of its business, what never ends is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.trend import BOUND, ENOUGH, trend
from faults.watch import Held

MIB = 1 << 20


def run(memory: Callable[[float], float], seconds: float = 2 * ENOUGH) -> list[tuple[float, Held]]:
    moments = [seconds * number / 200 for number in range(1, 201)]
    return [(at, Held(int(memory(at)), 10, 10)) for at in moments]


@pytest.mark.parametrize(
    "memory",
    [
        lambda _: 400 * MIB,
        lambda at: (400 - 60 * 0.99**at) * MIB,  # a cache that fills
        lambda at: (400 + 40 * (int(at) % 100 < 10)) * MIB,  # peaks
    ],
)
def test_what_comes_to_an_end_is_no_problem(memory: Callable[[float], float]) -> None:
    samples = run(memory)
    found = trend(samples, samples[-1][1])
    assert found.judged
    assert found.problems == []


def test_what_never_ends_is_one() -> None:
    samples = run(lambda at: 400 * MIB + 2.5 * BOUND * at / (2 * ENOUGH))
    (problem,) = trend(samples, samples[-1][1]).problems
    assert "memory grows by 15.0 MiB in the second half" in problem


def test_a_short_run_is_not_judged_by_its_slope() -> None:
    samples = run(lambda at: 400 * MIB + BOUND * at / 20, seconds=60)
    found = trend(samples, samples[-1][1])
    assert not found.judged
    assert found.problems == []
    assert "not judged below 15 minutes" in str(found)


def test_descriptors_that_stay_are_told() -> None:
    samples = run(lambda _: 400 * MIB)
    (problem,) = trend(samples, Held(400 * MIB, 60, 10)).problems
    assert problem.startswith("descriptors: 50 more")

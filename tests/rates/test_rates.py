"""Token buckets in simulated time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.rates import Buckets, Rate, Times


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_so_many_a_second() -> None:
    clock = Clock()
    buckets, rate = Buckets(clock=clock), Rate(2, burst=3)
    assert [buckets.take("a", rate) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [buckets.take("a", rate) for _ in range(2)] == [0, 0.5]
    clock.now += 100  # a long calm fills the bucket, and no more
    assert [buckets.take("a", rate) for _ in range(4)] == [0, 0, 0, 0.5]


def test_whoever_waits_has_taken_the_token() -> None:
    buckets, rate = Buckets(clock=Clock()), Rate(1)
    assert [buckets.take("a", rate, patience=2) for _ in range(5)] == [0, 1, 2, 3, 3]


def test_looking_takes_nothing() -> None:
    buckets, rate = Buckets(clock=Clock()), Rate(1)
    assert [buckets.wait("a", rate) for _ in range(3)] == [0, 0, 0]
    buckets.take("a", rate)
    assert [buckets.wait("a", rate) for _ in range(3)] == [1, 1, 1]


def test_one_key_does_not_pay_for_thousands_of_others() -> None:
    buckets, rate = Buckets(clock=Clock()), Rate(0.001)
    busy = sum(bool(buckets.take(f"address {number}", rate)) for number in range(400))
    assert busy <= 10  # two cells of 4096 each: some 4 in 400 find both taken


def test_times_of_one_key_only_grow() -> None:
    times = Times()
    times.put("a", 5.0)
    times.put("a", 3.0)
    assert times.of("a") == 5.0
    assert times.of("b") == 0.0


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(per_second: float, burst: int, pauses: list[float]) -> None:
    clock, passed = Clock(), 0
    buckets, rate = Buckets(clock=clock), Rate(per_second, burst)
    for pause in pauses:
        clock.now += pause
        passed += not buckets.take("a", rate)
    assert passed <= burst + (clock.now - 1000) * per_second + 1e-3

"""The circuit breaker, its table and its clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError, UpstreamKind
from gateway.leading.breaker import TABLE, Breaker, Event, State


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tripped(clock: Clock) -> Breaker:
    breaker = Breaker(3, 10.0, clock=clock)
    for _ in range(3):
        breaker.enter()
        breaker.failed()
    assert breaker.state is State.OPEN
    return breaker


def is_shut(breaker: Breaker) -> bool:
    try:
        breaker.enter()
    except UpstreamError as error:
        assert error.kind is UpstreamKind.CIRCUIT_OPEN  # noqa: PT017
        return True
    return False


def test_failures_have_to_be_in_a_row() -> None:
    breaker = Breaker(3, 10.0, clock=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.answered()
    assert breaker.state is State.CLOSED


def test_an_open_circuit_fails_at_once_until_it_is_time_for_one_probe() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.now = 9.9
    assert is_shut(breaker)
    clock.now = 10.0
    assert not is_shut(breaker)
    assert breaker.state is State.HALF_OPEN
    assert is_shut(breaker), "one probe at a time"


@pytest.mark.parametrize(("answers", "state"), [(True, State.CLOSED), (False, State.OPEN)])
def test_the_probe_decides(answers: bool, state: State) -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.now = 10.0
    breaker.enter()
    if answers:
        breaker.answered()
    else:
        breaker.failed()
    assert breaker.state is state
    assert is_shut(breaker) is not answers


def test_a_probe_that_was_given_up_lets_the_next_one_try_at_once() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.now = 10.0
    breaker.enter()
    breaker.given_up()
    assert not is_shut(breaker)


def test_changes_are_told() -> None:
    told: list[State] = []
    clock = Clock()
    breaker = Breaker(1, 10.0, clock=clock, changed=told.append)
    breaker.failed()
    clock.now = 10.0
    breaker.enter()
    breaker.answered()
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_the_table_leaves_no_state_without_a_way_on() -> None:
    assert {state for state, _ in TABLE} == set(State)
    assert (State.CLOSED, Event.DUE) not in TABLE


@given(st.lists(st.sampled_from(["enter", "answered", "failed", "given_up", "wait"]), max_size=40))
def test_no_order_of_events_breaks_it_for_ever(events: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(2, 10.0, clock=clock)
    entered = 0
    for event in events:
        if event == "wait":
            clock.now += 4
        elif event == "enter":
            entered += not is_shut(breaker)
        elif entered:
            entered -= 1
            getattr(breaker, event)()
    for _ in range(entered):
        breaker.given_up()
    clock.now += 10
    assert not is_shut(breaker)

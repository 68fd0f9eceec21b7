"""The life of an inquiry: reports in every order a peer may choose."""

from __future__ import annotations

import pytest

from gateway.commitment.inquiry import ENDED, TRANSITIONS, WAITING, Event, NotPossible, State, step

ALL, SOME = Event.ALL_COMMITTED, Event.SOME_FAILED


def walk(*events: Event) -> tuple[State, bool]:
    state, news = State.REQUESTING, False
    for event in events:
        after = step(state, event)
        state, news = after.state, after.news
    return state, news


@pytest.mark.parametrize(
    ("events", "state", "news"),
    [
        ((Event.TAKEN, ALL), State.SUCCESS, True),
        ((Event.TAKEN, SOME), State.FAILURE, True),
        ((ALL, Event.TAKEN), State.SUCCESS, False),  # the report overtook the response
        ((ALL, Event.REFUSED), State.SUCCESS, False),  # and then the association broke
        ((Event.REFUSED,), State.REFUSED, False),
        ((Event.REFUSED, ALL), State.SUCCESS, True),  # the response was lost, the request was not
        ((Event.TAKEN, Event.TIMEOUT), State.EXPIRED, False),
        ((Event.TAKEN, Event.TIMEOUT, ALL), State.SUCCESS, True),  # late, and still true
        ((Event.TAKEN, ALL, ALL), State.SUCCESS, False),  # repeated
        ((Event.TAKEN, SOME, SOME), State.FAILURE, False),
        ((Event.TAKEN, ALL, SOME), State.FAILURE, True),  # taken back
        ((Event.TAKEN, SOME, ALL), State.FAILURE, False),  # the worse one stands
    ],
)
def test_reports_in_any_order(events: tuple[Event, ...], state: State, news: bool) -> None:
    assert walk(*events) == (state, news)


def test_a_time_out_ends_only_what_waits() -> None:
    for state in State:
        if state in WAITING:
            assert step(state, Event.TIMEOUT).state is State.EXPIRED
        else:
            with pytest.raises(NotPossible):
                step(state, Event.TIMEOUT)


def test_every_state_takes_a_report_and_is_waiting_or_ended() -> None:
    assert set(TRANSITIONS) == set(State) == WAITING | ENDED
    for state in State:
        assert step(state, ALL).state in {State.SUCCESS, State.FAILURE}

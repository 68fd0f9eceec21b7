"""The life of a job, in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commitment.job import ENDED, OPEN, TRANSITIONS, Event, NotPossible, Progress, Retry, State, step

RETRY = Retry(first=5, longest=60, attempts=4)
NEW = Progress(State.ACCEPTED, 0, 100.0)


def walk(*events: Event, start: Progress = NEW, now: float = 100.0) -> Progress:
    for event in events:
        start = step(start, event, now, RETRY)
    return start


def test_decided_and_delivered_is_reported() -> None:
    assert walk(Event.DECIDED, Event.DELIVERED).state is State.REPORTED


def test_an_unanswered_report_is_repeated_with_growing_pauses_until_the_bound() -> None:
    progress, pauses = walk(Event.DECIDED), []
    while progress.state is State.REPORTING:
        pauses.append(progress.due - 100.0)
        progress = step(progress, Event.FAILED, 100.0, RETRY)
    assert pauses == [0, 5, 10, 20]
    assert (progress.state, progress.attempts) == (State.ABANDONED, 4)


def test_a_decision_that_cannot_be_made_is_tried_again_within_the_same_bound() -> None:
    assert walk(Event.FAILED) == Progress(State.ACCEPTED, 1, 105.0)
    assert walk(*[Event.FAILED] * 4).state is State.ABANDONED


def test_no_pause_is_longer_than_the_longest() -> None:
    assert Retry(first=5, longest=60).pause(5) == 60
    assert Retry(first=5, longest=60).pause(10_000) == 60


def test_what_an_operator_resumes_is_decided_anew_with_all_its_attempts() -> None:
    abandoned = walk(Event.DECIDED, *[Event.FAILED] * 4)
    assert step(abandoned, Event.RESUME, 500.0, RETRY) == Progress(State.ACCEPTED, 0, 500.0)
    assert walk(Event.PAUSE, Event.RESUME) == NEW


@pytest.mark.parametrize("meanwhile", [Event.PAUSE, Event.CANCEL])
def test_a_report_that_was_delivered_meanwhile_is_reported(meanwhile: Event) -> None:
    assert walk(Event.DECIDED, meanwhile, Event.DELIVERED).state is State.REPORTED


@pytest.mark.parametrize(("meanwhile", "state"), [(Event.PAUSE, State.PAUSED), (Event.CANCEL, State.CANCELLED)])
def test_what_an_operator_holds_is_not_taken_up_by_a_failure(meanwhile: Event, state: State) -> None:
    assert walk(Event.DECIDED, meanwhile, Event.FAILED).state is state
    assert walk(meanwhile, Event.DECIDED).state is state


def test_what_is_over_cannot_be_paused() -> None:
    with pytest.raises(NotPossible, match="reported"):
        walk(Event.DECIDED, Event.DELIVERED, Event.PAUSE)


def test_every_state_is_open_held_or_ended() -> None:
    assert set(TRANSITIONS) == set(State)
    assert OPEN | {State.PAUSED} | ENDED == set(State)
    assert not OPEN & ENDED


@given(st.lists(st.sampled_from(Event)))
def test_whatever_happens_attempts_stay_within_the_bound(events: list[Event]) -> None:
    progress = NEW
    for event in events:
        if event in TRANSITIONS[progress.state]:
            progress = step(progress, event, 100.0, RETRY)
        assert 0 <= progress.attempts <= RETRY.attempts
        assert 100.0 <= progress.due <= 100.0 + RETRY.longest

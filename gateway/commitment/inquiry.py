"""The life of an inquiry, a transaction we asked of a peer, as a table (SCU role).

Pure: the time is an argument, in seconds since the epoch. Peers report before they answer the request, long after the
time-out, twice, or differently the second time; each of these has its place in the table. A report is never wrong to
take: late, it is still what the peer takes responsibility for. Of two that differ the worse one stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where an inquiry stands; the values are what the ledger, the API and the command line show."""

    REQUESTING = "requesting"
    """Written down; the N-ACTION is about to be sent, or its response is awaited."""
    PENDING = "pending"
    """The peer took the request; its report is awaited."""
    SUCCESS = "success"
    """The peer committed every instance."""
    FAILURE = "failure"
    """The peer reported, and did not commit every instance."""
    REFUSED = "refused"
    """The peer did not take the request, or could not be reached."""
    EXPIRED = "expired"
    """No report in time."""


class Event(Enum):
    """What happens to an inquiry."""

    TAKEN = "taken"
    REFUSED = "refused"
    ALL_COMMITTED = "all committed"
    SOME_FAILED = "some failed"
    TIMEOUT = "time-out"


WAITING = frozenset({State.REQUESTING, State.PENDING})
"""States that a time-out ends."""

ENDED = frozenset(State) - WAITING
"""States that may be forgotten when the ledger is full or they are old."""

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.REQUESTING: {
        Event.TAKEN: State.PENDING,
        Event.REFUSED: State.REFUSED,
        Event.ALL_COMMITTED: State.SUCCESS,  # the report overtook the response
        Event.SOME_FAILED: State.FAILURE,
        Event.TIMEOUT: State.EXPIRED,
    },
    State.PENDING: {
        Event.ALL_COMMITTED: State.SUCCESS,
        Event.SOME_FAILED: State.FAILURE,
        Event.TIMEOUT: State.EXPIRED,
    },
    State.SUCCESS: {
        Event.TAKEN: State.SUCCESS,
        Event.REFUSED: State.SUCCESS,  # the association broke after the report
        Event.ALL_COMMITTED: State.SUCCESS,
        Event.SOME_FAILED: State.FAILURE,
    },
    State.FAILURE: {
        Event.TAKEN: State.FAILURE,
        Event.REFUSED: State.FAILURE,
        Event.ALL_COMMITTED: State.FAILURE,
        Event.SOME_FAILED: State.FAILURE,
    },
    State.REFUSED: {  # the response was lost, the request was not
        Event.ALL_COMMITTED: State.SUCCESS,
        Event.SOME_FAILED: State.FAILURE,
    },
    State.EXPIRED: {
        Event.TAKEN: State.EXPIRED,
        Event.REFUSED: State.REFUSED,
        Event.ALL_COMMITTED: State.SUCCESS,
        Event.SOME_FAILED: State.FAILURE,
    },
}


class NotPossible(ValueError):
    """The event means nothing in this state."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"an inquiry that is {state.value} cannot be given {event.value}")


@dataclass(frozen=True)
class Step:
    """What becomes of an inquiry.

    Attributes:
        news: whether a report's instances are to be written down; false for a repetition, or for a better second one.
    """

    state: State
    news: bool


_REPORTS = frozenset({Event.ALL_COMMITTED, Event.SOME_FAILED})
_REPORTED = frozenset({State.SUCCESS, State.FAILURE})


def step(state: State, event: Event) -> Step:
    """What becomes of an inquiry.

    Raises:
        NotPossible: the table has no such transition.
    """
    after = TRANSITIONS[state].get(event)
    if after is None:
        raise NotPossible(state, event)
    repeated = state in _REPORTED and not (state is State.SUCCESS and event is Event.SOME_FAILED)
    return Step(after, news=event in _REPORTS and not repeated)

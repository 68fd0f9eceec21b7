"""The life of a job, a transaction a peer asked of us, as a table (SCP role).

Pure: the time is an argument, in seconds since the epoch as the ledger keeps it. What happens to a job while a report
of it is on its way (a pause, a cancellation) does not undo the report: delivered is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class State(Enum):
    """Where a job stands; the values are what the ledger, the API and the command line show."""

    ACCEPTED = "accepted"
    """Written down and acknowledged; its instances are not decided yet."""
    REPORTING = "reporting"
    """Decided; the report is due, or on its way, or to be repeated."""
    PAUSED = "paused"
    """Held by an operator; decided anew when resumed."""
    REPORTED = "reported"
    """The requestor answered the report."""
    REJECTED = "rejected"
    """The requestor answered the report with a failure status."""
    ABANDONED = "abandoned"
    """No answer within the bound."""
    CANCELLED = "cancelled"
    """Ended by an operator."""


class Event(Enum):
    """What happens to a job."""

    DECIDED = "decided"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    FAILED = "failed"
    """The attempt came to nothing: no decision could be made, or no answer came."""
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


OPEN = frozenset({State.ACCEPTED, State.REPORTING})
"""States in which the reporter has something to do."""

ENDED = frozenset({State.REPORTED, State.REJECTED, State.ABANDONED, State.CANCELLED})
"""States that may be forgotten when the ledger is full or they are old."""

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.ACCEPTED: {
        Event.DECIDED: State.REPORTING,
        Event.FAILED: State.ACCEPTED,  # ABANDONED at the bound, see step()
        Event.PAUSE: State.PAUSED,
        Event.CANCEL: State.CANCELLED,
    },
    State.REPORTING: {
        Event.DELIVERED: State.REPORTED,
        Event.REJECTED: State.REJECTED,
        Event.FAILED: State.REPORTING,  # likewise
        Event.PAUSE: State.PAUSED,
        Event.CANCEL: State.CANCELLED,
    },
    State.PAUSED: {
        Event.DECIDED: State.PAUSED,
        Event.DELIVERED: State.REPORTED,
        Event.REJECTED: State.REJECTED,
        Event.FAILED: State.PAUSED,
        Event.RESUME: State.ACCEPTED,
        Event.CANCEL: State.CANCELLED,
    },
    State.REPORTED: {},
    State.REJECTED: {Event.RESUME: State.ACCEPTED, Event.CANCEL: State.CANCELLED},
    State.ABANDONED: {Event.RESUME: State.ACCEPTED, Event.CANCEL: State.CANCELLED},
    State.CANCELLED: {
        Event.DECIDED: State.CANCELLED,
        Event.DELIVERED: State.REPORTED,
        Event.REJECTED: State.CANCELLED,
        Event.FAILED: State.CANCELLED,
    },
}


class NotPossible(ValueError):
    """The event means nothing in this state, such as resuming what is not paused."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a job that is {state.value} cannot be given {event.value}")


@dataclass(frozen=True)
class Retry:
    """How long a report is repeated.

    Attributes:
        first: pause after the first failure, in seconds; doubled after each further one.
        longest: the longest pause, in seconds.
        attempts: how often a report is tried in all.
    """

    first: float = 5.0
    longest: float = 3600.0
    attempts: int = 40

    def pause(self, attempts: int) -> float:
        """Seconds to wait after that many failed attempts."""
        return float(min(self.longest, self.first * 2 ** min(attempts - 1, 32)))


@dataclass(frozen=True)
class Progress:
    """What the table changes of a job.

    Attributes:
        attempts: how many came to nothing since it was accepted or resumed.
        due: when the reporter has to look at it next, in seconds since the epoch.
    """

    state: State
    attempts: int
    due: float


def step(progress: Progress, event: Event, now: float, retry: Retry) -> Progress:
    """What becomes of a job.

    Raises:
        NotPossible: the table has no such transition.
    """
    state = TRANSITIONS[progress.state].get(event)
    if state is None:
        raise NotPossible(progress.state, event)
    if event is Event.RESUME:
        return Progress(state, attempts=0, due=now)
    if event is not Event.FAILED or state not in OPEN:
        return replace(progress, state=state, due=now)
    attempts = progress.attempts + 1
    if attempts >= retry.attempts:
        return Progress(State.ABANDONED, attempts, now)
    return Progress(state, attempts, now + retry.pause(attempts))

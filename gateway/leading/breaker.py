"""Circuit breaker: after several failures in a row nobody waits for an archive that is down. A table and a clock.

::

    CLOSED     answers go through; the n-th failure in a row trips it
    OPEN       every question fails at once, until it is time to try
    HALF_OPEN  one probe is under way; its outcome decides, everybody else fails at once
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import Lock
from time import monotonic

from gateway.errors import UpstreamError, UpstreamKind


class State(Enum):
    """Where the breaker stands; ``value`` is what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Event(Enum):
    """What happens to a breaker."""

    ANSWERED = "answered"
    FAILED = "failed"
    TRIPPED = "tripped"
    """Failed, and often enough."""
    GIVEN_UP = "given up"
    """Neither: the asker went away."""
    DUE = "due"
    """It is time to try again."""


TABLE = {
    (State.CLOSED, Event.ANSWERED): State.CLOSED,
    (State.CLOSED, Event.FAILED): State.CLOSED,
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.CLOSED, Event.GIVEN_UP): State.CLOSED,
    (State.OPEN, Event.DUE): State.HALF_OPEN,
    (State.OPEN, Event.ANSWERED): State.CLOSED,  # asked before it opened
    (State.OPEN, Event.FAILED): State.OPEN,
    (State.OPEN, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.GIVEN_UP): State.OPEN,
    (State.HALF_OPEN, Event.ANSWERED): State.CLOSED,
    (State.HALF_OPEN, Event.FAILED): State.OPEN,
    (State.HALF_OPEN, Event.TRIPPED): State.OPEN,
    (State.HALF_OPEN, Event.GIVEN_UP): State.OPEN,
}


class Breaker:
    """The breaker of one archive.

    Args:
        failures: in a row, that open it.
        retry_after: seconds it stays open before one question may try.
        changed: is told the state whenever it changes.
    """

    def __init__(
        self,
        failures: int = 5,
        retry_after: float = 10.0,
        *,
        clock: Callable[[], float] = monotonic,
        changed: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._failures = failures
        self._retry_after = retry_after
        self._clock = clock
        self._changed = changed
        self._lock = Lock()
        self._state = State.CLOSED
        self._in_a_row = 0
        self._try_at = 0.0

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    def enter(self) -> None:
        """Ask to be let through; whoever was let through must report how it went.

        Raises:
            UpstreamError: the circuit is open, or somebody else is trying.
        """
        with self._lock:
            if self._state is State.OPEN and self._clock() >= self._try_at:
                self._apply(Event.DUE)
            elif self._state is not State.CLOSED:
                raise UpstreamError("circuit open: the archive failed too often", UpstreamKind.CIRCUIT_OPEN)

    def answered(self) -> None:
        """The archive answered, if only with a failure status: it is there."""
        with self._lock:
            self._in_a_row = 0
            self._apply(Event.ANSWERED)

    def failed(self) -> None:
        """The archive did not answer."""
        with self._lock:
            self._in_a_row += 1
            self._apply(Event.TRIPPED if self._in_a_row >= self._failures else Event.FAILED)

    def given_up(self) -> None:
        """The asker went away before the archive answered; the next one may try at once."""
        with self._lock:
            if self._state is State.HALF_OPEN:
                self._try_at = self._clock()
                self._move(State.OPEN)

    def _apply(self, event: Event) -> None:
        state = TABLE[self._state, event]
        if state is State.OPEN and self._state is not State.OPEN:
            self._try_at = self._clock() + self._retry_after
        self._move(state)

    def _move(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self._changed(state)

"""An association and an operation on it, as the SCPs see them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.pacing import Pace
from gateway.dimse.ports import Admission, AfterAction

_T = TypeVar("_T")
_LOOK_SECONDS = 0.005


@dataclass
class Session:
    """An association as its SCPs see it."""

    exchange: Exchange
    caller: Caller
    admission: Admission
    negotiated: dict[str, Negotiated]
    dimse: float
    pace: Pace | None = None
    """Of a peer whose requests have a rate."""
    left_to_do: list[AfterAction] = field(default_factory=list)
    is_reporting: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    """What the running request has counted so far, for its log line."""
    _last_id: int = field(default=0)

    def next_message_id(self) -> int:
        """Number our own requests on this association."""
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id


def _nothing() -> None:
    """There is nothing to do meanwhile."""


class Cancellation:
    """The cancel signal of one operation; the connection is looked at some hundred times a second at most.

    Args:
        interval: seconds between two looks; 0 looks each time, where each question is about a whole instance.

    Attributes:
        was_true: whoever asked was told to stop, so what was answered is not all.
        pause: called each time it looks, which is where a handler waits for something.
    """

    def __init__(self, exchange: Exchange, message: Message, *, interval: float = _LOOK_SECONDS) -> None:
        self._exchange = exchange
        self._interval = interval
        self._message_id = message.command.message_id or 0
        self._looked = 0.0
        self.was_true = False
        self.pause: Callable[[], None] = _nothing

    def __call__(self) -> bool:
        """Whether to stop: C-CANCEL came, or the association is over."""
        now = monotonic()
        if now - self._looked >= self._interval:
            self._looked = now
            self.pause()
            self.was_true = self.was_true or self._exchange.cancelled(self._message_id)
        return self.was_true


@contextmanager
def closing(stream: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """Let a handler that is a generator clean up at once when its operation ends before it does."""
    try:
        yield stream
    finally:
        if isinstance(stream, Generator):
            stream.close()

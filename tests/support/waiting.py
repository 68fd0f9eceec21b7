"""Waiting for what another thread or process does: poll a condition until a deadline, then fail and say for what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_never = threading.Event()


def wait_until(condition: Callable[[], T], what: str, *, seconds: float = 15, every: float = 0.01) -> T:
    """Call ``condition`` until it returns something true, and return that.

    Args:
        what: completes the sentence "never happened: …" of the failure.
        seconds: the deadline. Generous, since a busy machine is no failure; a passing test does not wait for it.
    """
    deadline = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() >= deadline:
            raise AssertionError(f"never happened within {seconds:g} s: {what}")
        _never.wait(every)

"""Limits towards one destination, shared by all retrieves of a process: associations at once and bytes a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


class Limits:
    """What one destination is spared.

    A sender may always send a whole instance at once and then waits until its share of the bandwidth has passed, so a
    rate holds over seconds, not over each packet.

    Args:
        associations: at once; 0 is no limit.
        bytes_per_second: 0 is no limit.
    """

    def __init__(
        self, associations: int = 0, bytes_per_second: float = 0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._free = associations or float("inf")
        self._rate = bytes_per_second
        self._clock = clock
        self._paid_until = 0.0
        self._changed = threading.Condition()

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """Wait for an association's place; false when ``stopped()`` became true instead."""
        with self._changed:
            while self._free < 1:
                if stopped():
                    return False
                self._changed.wait(0.2)
            self._free -= 1
            return True

    def release(self) -> None:
        """Give a place back."""
        with self._changed:
            self._free += 1
            self._changed.notify()

    def pay(self, size: int, stopped: Callable[[], bool]) -> None:
        """Account for ``size`` bytes about to be sent, after waiting for what was sent before."""
        if not self._rate:
            return
        with self._changed:
            start = max(self._paid_until, self._clock())
            self._paid_until = start + size / self._rate
            while (left := start - self._clock()) > 0 and not stopped():
                self._changed.wait(min(left, 0.2))

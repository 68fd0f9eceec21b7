"""Signals as something to wait for, in a process with threads.

A Python handler runs between any two instructions of the main thread. One that takes a lock, as ``Event.set`` does,
waits for ever when that thread holds it, and a signal that the kernel hands to another thread does not wake the main
one. The interpreter's wakeup file descriptor has neither fault: it is written to in C, by whichever thread it is. It
only wakes, though: full of one signal it takes no other. Which signals came is noted by their handlers,
which the main thread has run before it goes on.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Self


class Signals:
    """Takes some signals for as long as the block lasts; for the main thread.

    Args:
        numbers: what is waited for; the handlers they had come back at the end of the block.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._came: set[int] = set()

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.settimeout(0)
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float | None = None) -> frozenset[int]:
        """Wait for signals and return those that came since the last call; none when time is up."""
        if not self._came:
            select.select([self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        came, self._came = self._came, set()
        return frozenset(came)

    def _note(self, number: int, _: object) -> None:
        self._came.add(number)

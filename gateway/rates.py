"""Rates: so many a second, and so many at once after a calm (the token bucket, kept as ITU-T I.371's GCRA keeps it).

A bucket's whole state is one number, the time at which it will be full again. A bucket that nobody takes from becomes
full by the passing of time alone, so nothing has to run, and nothing has to be cleaned up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

CELLS = 4096


@dataclass(frozen=True)
class Rate:
    """How often something may happen.

    Attributes:
        per_second: over any longer time; more than 0.
        burst: at once, from a full bucket; 1 or more.
    """

    per_second: float
    burst: float = 1.0

    def take(self, full_at: float, now: float) -> tuple[float, float]:
        """Take one token, which may have to be waited for.

        Args:
            full_at: when the bucket is full again, as it was before.

        Returns:
            When it is full again now, and the seconds until the token is there.
        """
        full_at = max(full_at, now) + 1 / self.per_second
        return full_at, max(0.0, full_at - now - self.burst / self.per_second)


def cells_of(key: str) -> tuple[int, int]:
    """The two cells of a key in two rows of :data:`CELLS`; the same in processes that were forked from one.

    What two keys share they share in one row by far the most often, so the other row tells them apart; both cells are
    shared by one pair of keys in 17 million. Python salts its hashes anew at each start, so nobody can choose a key
    that shares another's.
    """
    number = hash(key)
    return number % CELLS, CELLS + (number >> 32) % CELLS


class Times:
    """When each key's bucket is full again, in a fixed number of cells however many keys there are.

    Args:
        cells: two rows of :data:`CELLS` numbers (format ``d``), such as memory that processes share; own ones if not
            given. Processes that take from one bucket in the same microsecond may take the same token.
    """

    def __init__(self, cells: memoryview[float] | None = None) -> None:
        self._cells = cells if cells is not None else memoryview(bytearray(2 * CELLS * 8)).cast("d")

    def of(self, key: str) -> float:
        """When it is full; never too early, and too late only where both cells are shared."""
        one, other = cells_of(key)
        return min(self._cells[one], self._cells[other])

    def put(self, key: str, full_at: float) -> None:
        """Note when it is full; a later time that another key has put in a cell stays."""
        for cell in cells_of(key):
            self._cells[cell] = max(self._cells[cell], full_at)


class Buckets:
    """A bucket for each key."""

    def __init__(self, times: Times | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._times = times or Times()
        self._clock = clock

    def take(self, key: str, rate: Rate, patience: float = 0.0) -> float:
        """Take a token.

        Args:
            patience: seconds that the caller would wait for it.

        Returns:
            Seconds until it is there; over ``patience`` it was not taken.
        """
        full_at, wait = rate.take(self._times.of(key), self._clock())
        if wait <= patience:
            self._times.put(key, full_at)
        return wait

    def wait(self, key: str, rate: Rate) -> float:
        """Seconds until a token would be there; nothing is taken."""
        return rate.take(self._times.of(key), self._clock())[1]

"""Whether memory grows without end: the slope of its second half, when caches and pools have been filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from faults.watch import Held

ENOUGH = 15 * 60.0
"""Seconds of a run from which on its slope is judged: shorter ones are still filling caches."""
BOUND = 12 << 20
"""Bytes by which the slope may raise the memory of all processes in the second half: what was freed, but lies between
other things in the allocator, grows by some MiB for a long time. In half an hour a leak of 150 bytes an operation is
more, at a hundred operations a second.
"""
MEMORY, DESCRIPTORS, THREADS, DATABASES = 96 << 20, 12, 6, 150
"""What two workers may hold more at the end than after the first tenth, however long the run."""


@dataclass(frozen=True)
class Trend:
    """What was held, and how it went on.

    Attributes:
        first: at the first sample after a tenth of the run.
        half: when half of it was over.
        last: when all was calm again.
        slope: of the memory in the second half, bytes an hour; the median over all pairs of samples, which a peak
            here and there does not move.
        seconds: of the whole run.
    """

    first: Held
    half: Held
    last: Held
    slope: float
    seconds: float

    @property
    def growth(self) -> float:
        """Bytes by which the slope raises the memory in the second half."""
        return self.slope * self.seconds / 2 / 3600

    @property
    def judged(self) -> bool:
        """Whether the run was long enough to tell a cache that fills from a leak."""
        return self.seconds >= ENOUGH

    @property
    def problems(self) -> list[str]:
        """What grew too much."""
        grown = self.last.over(self.first)
        found = [
            f"{name}: {value} more than after a tenth, {most} allowed"
            for name, value, most in (
                ("memory", grown.memory, MEMORY), ("descriptors", grown.descriptors, DESCRIPTORS),
                ("threads", grown.threads, THREADS), ("descriptors of databases", grown.databases, DATABASES),
            )
            if value > most
        ]  # fmt: skip
        if self.judged and self.growth > BOUND:
            found.append(f"memory grows by {_mib(self.growth)} in the second half, {_mib(BOUND)} allowed")
        return found

    def __str__(self) -> str:
        verdict = "judged" if self.judged else f"not judged below {ENOUGH / 60:.0f} minutes"
        memory = ", ".join(_mib(one.memory) for one in (self.first, self.half, self.last))
        return (
            f"{memory} after a tenth, after half, at the end; by its slope {_mib(self.growth)} in the second half "
            f"({_mib(self.slope)} an hour; {verdict})"
        )


def trend(samples: Sequence[tuple[float, Held]], last: Held) -> Trend:
    """The trend of samples taken at even intervals, each with its second.

    Args:
        last: what is held when all is calm again.
    """
    seconds = samples[-1][0]
    half = [one for one in samples if one[0] >= seconds / 2]
    slopes = [(b.memory - a.memory) / (then - now) for (now, a), (then, b) in combinations(half, 2) if then > now]
    first = next(held for at, held in samples if at >= seconds / 10)
    return Trend(first, half[0][1], last, 3600 * median(slopes or [0.0]), seconds)


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"

"""What is told about the running gateway: which part is ready, and what is counted when Prometheus asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from gateway import metrics
from gateway.archive.local import LocalArchive
from gateway.errors import StorageError
from gateway.leading.archive import LeadingArchive
from gateway.leading.breaker import State as Circuit
from gateway.web.health import READY, Check, Finding, State

_SHARE = 20
"""A count is repeated after this many times its own duration at the earliest: at most 5 % of the time goes to it."""


def readiness(archive: LocalArchive, leading: Sequence[LeadingArchive], min_free: int) -> dict[str, Check]:
    """The checks of ``/readyz``."""
    return {
        "archive": lambda: _archive(archive, min_free),
        **{f"leading {one.name}": _leading(one) for one in leading},
    }


def _archive(archive: LocalArchive, min_free: int) -> Finding:
    if archive.generation < 0:
        return Finding(State.NOT_READY, "the index has no generation")
    free = archive.free_bytes
    if free < min_free:
        return Finding(State.NOT_READY, f"{free >> 20} MiB are free, archive.min_free is {min_free >> 20} MiB")
    return READY


def _leading(archive: LeadingArchive) -> Check:
    def check() -> Finding:
        if archive.circuit is Circuit.CLOSED:
            return READY
        return Finding(State.DEGRADED, "it does not answer; local attributes and cached answers are used")

    return check


class Scrape:
    """The registry of this process, with the archive's gauges brought up to date before it is read.

    They are counted anew when the archive has changed, the less often the longer it takes.
    """

    def __init__(self, archive: LocalArchive, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = -1
        self._unpublished = 0
        self._again_at = 0.0

    def __call__(self) -> CollectorRegistry:
        """Called for each scrape."""
        with self._lock:
            try:
                self._count()
            except StorageError:
                metrics.ARCHIVE_FREE_BYTES.set(float("nan"))  # readiness tells why; a scrape is not to fail for it
        return metrics.REGISTRY

    def _count(self) -> None:
        archive = self._archive
        metrics.ARCHIVE_FREE_BYTES.set(archive.free_bytes)
        generation = archive.generation
        started = self._clock()
        if (generation == self._seen and not self._unpublished) or started < self._again_at:
            return
        totals = archive.totals()
        counts = (
            ("patient", totals.patients), ("study", totals.studies), ("series", totals.series),
            ("instance", totals.instances),
        )  # fmt: skip
        for level, count in counts:
            metrics.ARCHIVE_ENTITIES.labels(level).set(count)
        metrics.ARCHIVE_BYTES.set(totals.size)
        metrics.ARCHIVE_UNPUBLISHED.set(totals.unpublished)
        metrics.ARCHIVE_QUARANTINED.set(totals.quarantined)
        self._seen, self._unpublished = generation, totals.unpublished
        ended = self._clock()
        self._again_at = ended + _SHARE * (ended - started)

"""What is told about the running gateway: which part is ready, and what is counted when Prometheus asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from prometheus_client.exposition import generate_latest

from gateway import metrics
from gateway.archive.local import LocalArchive
from gateway.errors import StorageError
from gateway.web.health import READY, Check, Finding, State, ask

_SHARE = 20
"""A count is repeated after this many times its own duration at the earliest: at most 5 % of the time goes to it."""


def readiness(archive: LocalArchive, min_free: int, leading: Callable[[], Mapping[str, bool]]) -> dict[str, Check]:
    """The checks of ``/readyz``.

    A leading archive that is down only degrades: local answers and retrieves go on.

    Args:
        leading: by name, whether each leading archive answers.
    """
    checks: dict[str, Check] = {"archive": lambda: _archive(archive, min_free)}
    return checks | {f"leading {name}": _leading(name, leading) for name in leading()}


def _archive(archive: LocalArchive, min_free: int) -> Finding:
    if archive.generation < 0:
        return Finding(State.NOT_READY, "the index has no generation")
    if not archive.is_writable:
        return Finding(State.NOT_READY, "the folder of the file-set or of the index cannot be written")
    free = archive.free_bytes
    if free < min_free:
        return Finding(State.NOT_READY, f"{free >> 20} MiB are free, archive.min_free is {min_free >> 20} MiB")
    return READY


def _leading(name: str, states: Callable[[], Mapping[str, bool]]) -> Check:
    def check() -> Finding:
        if states().get(name, True):
            return READY
        return Finding(State.DEGRADED, "it does not answer; local attributes and cached answers are used")

    return check


class Scrape:
    """The exposition of this process, with what is looked at rather than counted brought up to date before it is read.

    The archive's content is counted anew when it has changed, the less often the longer it takes.

    Args:
        ready: whether the archive is.
        leading: by name, whether each leading archive answers.
        restarts: how many processes were replaced so far.
    """

    def __init__(
        self,
        archive: LocalArchive,
        ready: Check,
        leading: Callable[[], Mapping[str, bool]],
        restarts: Callable[[], int] = int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive = archive
        self._ready = ready
        self._leading = leading
        self._restarts = restarts
        self._told_restarts = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = -1
        self._unpublished = 0
        self._again_at = 0.0

    def __call__(self) -> str:
        """Called for each scrape."""
        with self._lock:
            self._look()
            try:
                self._count()
            except StorageError:
                metrics.ARCHIVE_FREE_BYTES.set(float("nan"))  # readiness tells why; a scrape is not to fail for it
        return generate_latest(metrics.REGISTRY).decode()

    def _look(self) -> None:
        metrics.ARCHIVE_READY.set(ask(self._ready).state is not State.NOT_READY)
        metrics.ARCHIVE_PUBLISH_DELAY.set(self._archive.publish_delay)
        for name, up in self._leading().items():
            metrics.LEADING_UP.labels(name).set(up)
        restarts = self._restarts()
        metrics.RESTARTS.inc(restarts - self._told_restarts)
        self._told_restarts = restarts

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

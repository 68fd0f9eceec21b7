"""The thread that keeps the DICOMDIR published, and tells this process's caches of deletions in any process.

Publishing takes a bounded part of the time, so a large DICOMDIR is published less often; merging a large one that
somebody changed is done in a process aside. A process that is storing leaves the publication to one that is not for a
round: drawing records takes the interpreter from its associations.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from gateway.archive.delete import deleted_since
from gateway.archive.enrich import enrich
from gateway.archive.index import Index
from gateway.archive.meta import get_meta, set_meta
from gateway.archive.publish import Publisher, signature_of
from gateway.archive.turns import file_lock
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
_USED_SECONDS = 3600
_ENRICH_SECONDS = 0.2
_ENRICH_FILES = 50
_TURNS = 1.5
"""Rounds that a process with stores of its own waits for another to publish."""
_SHARE = 10
"""Publishing takes one part in so many of the time at most: a large DICOMDIR is published less often."""


class Keeper:
    """Publishes in batches: what was changed waits ``delay`` seconds for more to come with it.

    Args:
        tidy: removes what a process that was killed has left, such as a verb beside a running service.
    """

    def __init__(
        self, index: Index, publisher: Publisher, delay: float, clock: Callable[[], float], tidy: Callable[[], object]
    ) -> None:
        self._clock = clock
        self._tidy = tidy
        self._every: float | None = None
        self._task: Callable[[], object] = lambda: None
        self._used: deque[set[str]] = deque()
        self._next = 0.0
        self._aside: subprocess.Popen[bytes] | None = None
        self._index = index
        self._publisher = publisher
        self._delay = delay
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = ""
        self._last_deleted = 0
        self._looked = time.monotonic()
        self._due_since: float | None = None
        self._is_storing = False
        self._announced = ""
        self.observers: list[Callable[[Sequence[str]], None]] = []

    def start(self) -> None:
        """Start the thread."""
        with self._index.read() as db:
            self._last_deleted, _ = deleted_since(db, 0)
        self._thread = threading.Thread(target=self._run, name="archive-keeper", daemon=True)
        self._thread.start()

    def every(self, period: timedelta | None, task: Callable[[], object]) -> None:
        """Have a task done each ``period``, counted over all processes and restarts; None for never."""
        self._every = period.total_seconds() if period else None
        self._task = task

    def used(self, studies: set[str]) -> None:
        """Note that studies were asked for, to be written down before long."""
        if self._thread is not None:
            self._used.append(studies)

    def storing(self) -> None:
        """Note that this process has work of its own in this round."""
        self._is_storing = True

    @property
    def delay(self) -> float:
        """Seconds since the oldest change that is not published, to within a look of this process; 0 without one."""
        since = self._due_since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self) -> None:
        """Publish what is left, and end the thread."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._delay):
            self._once()
        self._once()

    def _once(self) -> None:
        try:
            self._tell()
            self._tidy()
            self._note_used()
            self._keep_schedule()
            self._publish()
            self._enrich()
        except StorageError as error:
            # The disk may be full now and not later; readiness and the log say so meanwhile.
            _log.error("the DICOMDIR was not published", reason=error.message)
        except Exception:  # noqa: BLE001 - the root of the thread: whatever it is, the next round comes
            _log.exception("looking after the archive failed")

    def _publish(self) -> None:
        due, gives_way = self._look(), self._gives_way()
        if self._stop.is_set():
            self._end_aside()
        elif gives_way or self._aside_runs() or time.monotonic() < self._next or not due or not self._settled():
            return
        elif self._publisher.has_much_to_merge():
            self._start_aside()
            return
        started = time.monotonic()
        self._publisher.sync(blocking=self._stop.is_set())
        self._index.checkpoint()
        self._seen = signature_of(self._publisher.dicomdir)
        self._next = started + (1 + _SHARE) * (time.monotonic() - started)
        self._look()

    def _gives_way(self) -> bool:
        """Whether another process, that is not storing, is to publish what this one has; it has a round to do so."""
        storing, self._is_storing = self._is_storing, False
        return storing and self.delay < _TURNS * self._delay

    def _look(self) -> bool:
        """Whether anything is due; what was changed before the last publication, by whichever process, is not."""
        before, self._looked = self._looked, time.monotonic()
        announced, self._announced = self._announced, self._publisher.announced
        due = self._publisher.due()
        if not due:
            self._due_since = None
        elif self._due_since is None or announced != self._announced:
            self._due_since = before
        return due

    def _start_aside(self) -> None:
        module = [sys.executable, "-m", "gateway.archive.aside"]
        place = [self._publisher.dicomdir, self._index.path, self._index.durability.value]
        self._aside = subprocess.Popen([*module, *map(str, place)], stdin=subprocess.DEVNULL)

    def _aside_runs(self) -> bool:
        if self._aside is not None and self._aside.poll() is not None:
            self._aside = None
            self._seen = signature_of(self._publisher.dicomdir)
        return self._aside is not None

    def _end_aside(self) -> None:
        if self._aside is not None:
            self._aside.terminate()  # what it committed stays, the rest is done at the next start
            self._aside.wait()

    def _note_used(self) -> None:
        used: set[str] = set()
        while self._used:
            used |= self._used.popleft()
        if used:
            now = self._clock()
            with self._index.write(visible=False) as db:
                db.executemany(
                    "UPDATE study SET used = ?1 WHERE uid = ?2 AND used < ?1 - ?3",
                    [(now, one, _USED_SECONDS) for one in used],
                )

    def _keep_schedule(self) -> None:
        if self._every is None or self._stop.is_set():
            return
        now = self._clock()
        with self._index.read() as db:
            if now - float(get_meta(db, "retained", 0)) < self._every:
                return
        with self._index.write(visible=False) as db:
            if now - float(get_meta(db, "retained", 0)) < self._every:
                return  # another process was faster
            set_meta(db, "retained", now)
        self._task()

    def _enrich(self) -> None:
        """Look at imported files for a while, in one process at a time, giving way to everything else."""
        started = time.monotonic()
        with file_lock(self._index.path.with_name(self._index.path.name + ".enrich"), blocking=False) as mine:
            while mine and not self._stop.is_set() and time.monotonic() - started < _ENRICH_SECONDS:
                if not enrich(self._index, self._publisher.dicomdir.parent, _ENRICH_FILES):
                    return

    def _settled(self) -> bool:
        """Whether nobody is writing the DICOMDIR: it is as it was a moment ago."""
        before, self._seen = self._seen, signature_of(self._publisher.dicomdir)
        return before == self._seen

    def _tell(self) -> None:
        with self._index.read() as db:
            self._last_deleted, studies = deleted_since(db, self._last_deleted)
        if studies:
            for observer in self.observers:
                observer(studies)

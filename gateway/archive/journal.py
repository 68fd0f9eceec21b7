"""The journal: one sync of a file that is there already makes an acknowledged instance durable.

A new file, its name in a new folder and a row of the index are three things to sync, each a turn of the file system's
own journal. So a small instance is written twice: to its place, unsynced, and into a file whose blocks were written
before, where a sync has nothing but the data to bring out. Its row is committed unsynced after that. An instance of
more than :data:`LONGEST` bytes is synced at its place, and only its row goes through the journal.

A process appends to one of two such files, its *runs*. When one is full, the other takes over while everything is
brought out at once (``syncfs``, and the index's log) in the background; then the first is free again. What comes while
both are taken is synced by itself, row and all.

After a power cut :mod:`gateway.archive.recovery` puts back what was acknowledged and lost. Each record has the number
of its instance's row; numbers grow and are never used twice. The index's log comes back up to some commit, never with
gaps, and deletions are committed synced, which brings out all that was committed before them. So a record whose number
the index has not reached was lost and nobody deleted it, and any other matters only as long as its row is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gateway import metrics
from gateway.archive.runs import PAGE, Body, Entry, Run, Written
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
LONGEST = 1 << 17
"""Bytes of the longest file that is written twice; with a longer one that takes longer than the syncs it saves."""


class JournalFull(Exception):
    """Both runs are taken: the disk does not keep up."""


class Journal:
    """This process's part of the journal; safe to share between threads.

    Nothing is opened before the first instance, and so never before a fork.

    Args:
        base: the files are named after it.
        size: bytes of both runs together; 0 for no journal.
        spare: bytes that stay free on its disk.
        identity: of the index the records belong to.
        bring_out: makes durable what was written so far, files, folders and the index's log.
        write_anew: writes the files of records once more, after the disk has failed to bring them out.
    """

    def __init__(
        self,
        base: Path,
        size: int,
        spare: int,
        identity: Callable[[], bytes],
        bring_out: Callable[[], None],
        write_anew: Callable[[Iterable[Entry]], None],
    ) -> None:
        self._base = base
        self._size = size // 2 // PAGE * PAGE
        self._spare = spare
        self._identity = identity
        self._bring_out = bring_out
        self._write_anew = write_anew
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._free: list[Run] = []
        self._full: list[Run] = []
        self._closed = False

    def body(self, fd: int, size: int) -> Body | None:
        """A file for :meth:`append`; None when there is no journal now."""
        if not self._size:
            return None
        if self._run is None:
            self._work()
            metrics.JOURNALED.labels("synced").inc()
            return None
        if size > min(LONGEST, self._size - 2 * PAGE):
            return Body(size)
        return Body.of(fd, size)

    def append(self, row: int, uid: str, file_id: str, body: Body) -> Written:
        """Make one instance durable; called inside the transaction that commits its row.

        Raises:
            JournalFull: it has to be synced by itself.
            StorageError: the disk refuses.
        """
        try:
            with self._lock:
                written = self._run.append(row, uid, file_id, body) if self._run else None
                if written is None and self._run and self._free:
                    self._full.append(self._run)
                    self._run = self._free.pop()
                    self._begin_work()
                    written = self._run.append(row, uid, file_id, body)
        except OSError as error:
            raise StorageError(f"the journal cannot be written: {error.strerror}") from error
        metrics.JOURNALED.labels("journaled" if written else "synced").inc()
        if written is None:
            self._work()
            raise JournalFull
        return written

    def void(self, written: Written) -> None:
        """Take back a record whose row was not committed."""
        with self._lock, suppress(OSError):
            written.run.void(written)

    def _work(self) -> None:
        with self._lock:
            self._begin_work()

    def _begin_work(self) -> None:
        if not self._closed and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._make_room, name="journal", daemon=True)
            self._thread.start()

    def _make_room(self) -> None:
        """Free what is full, and open what is missing; on a failure the next instance tries again."""
        try:
            while self._full:
                self._empty(self._full[-1])
                with self._lock:
                    self._free.append(self._full.pop())
            while not self._closed and len(self._free) + (self._run is not None) < 2:
                run = Run.claim(self._base, self._size, self._spare)
                run.begin(self._identity())
                with self._lock:
                    self._free.append(run)
                    if self._run is None:
                        self._run = self._free.pop()
        except OSError as error:
            _log.warning("instances are synced one by one", errno=error.errno)
        except StorageError as error:
            _log.warning("instances are synced one by one", reason=error.message)

    def _empty(self, run: Run) -> None:
        """Bring out what a full run holds, and begin it anew."""
        try:
            self._bring_out()
        except OSError as error:
            # A kernel tells of a failed write once, and takes the pages for written from then on.
            _log.error("files could not be brought out and are written anew", errno=error.errno)
            self._write_anew(run.entries())
            self._bring_out()
        identity = self._identity()
        with self._lock:
            run.begin(identity)

    def close(self) -> None:
        """Bring out what is in the journal, and leave it empty.

        Raises:
            StorageError: the disk refuses; the next start puts back what was lost, if anything was.
        """
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join()
        runs = [*self._full, *self._free, *([self._run] if self._run else [])]
        self._run, self._full, self._free = None, [], []
        try:
            if runs:
                self._bring_out()
            while runs:
                runs.pop().end()
        except OSError as error:
            raise StorageError(f"the journal cannot be brought out: {error.strerror}") from error
        finally:
            for run in runs:
                run.drop()

"""Publishing the DICOMDIR: a copy is patched and extended, synced, and renamed over the old one.

Readers that have the old file open keep reading it; whoever opens the name gets one complete file or the other. The
order of steps makes every crash recoverable:

1. The new file is written under the folder of temporary files, and synced.
2. One transaction of the index says which instances it holds, where its records are, and which file it is (inode, size
   and time of modification).
3. The rename, and the sync of the root.
4. Objects whose records have become inactive are unlinked, then their tombstones dropped.

After a crash between 2 and 3 the rename is done at the next start, since the index already speaks of the new file. A
DICOMDIR that is neither the one the index speaks of nor its predecessor was changed by somebody else: it is merged
into the index first, and never overwritten unread. One process publishes at a time, by a lock file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from gateway import metrics
from gateway.archive import canvas, importer
from gateway.archive.batch import PARENTS, Batch, draw, note
from gateway.archive.canvas import Canvas
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.directorybytes import NotADicomdir
from gateway.archive.disk import Disk
from gateway.archive.index import Index
from gateway.archive.meta import get_meta, set_meta
from gateway.archive.renew import any_retired
from gateway.archive.rewrite import rewritten
from gateway.archive.turns import file_lock
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
_FREE = """SELECT id, file_id, unlink AND NOT EXISTS (
 SELECT 1 FROM instance i WHERE i.uid = b.uid AND i.file_id = b.file_id) FROM tombstone b WHERE published = 0"""
_MUCH = 1 << 22
SMALL = 1 << 23
"""Bytes up to which a DICOMDIR is written anew after each deletion, in about a third of a second."""


class Base(Enum):
    """What the next DICOMDIR begins as."""

    COPY = "copy"
    REWRITE = "rewrite"
    """The present one is in another layout."""
    BLANK = "blank"
    """The present one is lost, or older than what the index speaks of."""


class Publisher:
    """Keeps the DICOMDIR in line with the index."""

    def __init__(self, index: Index, disk: Disk, dicomdir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._disk = disk
        self.dicomdir = dicomdir
        self._clock = clock
        self._new = disk.incoming / "DICOMDIR"
        self._lock = index.path.with_name(index.path.name + ".publish")

    @property
    def announced(self) -> str:
        """Which DICOMDIR was published last, by whichever process."""
        with self._index.read() as db:
            return str(get_meta(db, "dicomdir", ""))

    def due(self) -> bool:
        """Whether there is anything to publish, to merge or to unlink."""
        if signature_of(self.dicomdir) != self.announced:
            return True
        with self._index.read() as db:
            row = db.execute(
                "SELECT EXISTS (SELECT 1 FROM instance WHERE published = 0) OR EXISTS (SELECT 1 FROM tombstone)"
                " OR EXISTS (SELECT 1 FROM series WHERE gone = 1) OR EXISTS (SELECT 1 FROM study WHERE gone = 1)"
                " OR EXISTS (SELECT 1 FROM patient WHERE gone = 1)"
            ).fetchone()
        return bool(row[0])

    def has_much_to_merge(self) -> bool:
        """Whether somebody else changed a DICOMDIR that takes long to read."""
        with self._index.read() as db:
            known = {get_meta(db, "dicomdir", ""), get_meta(db, "before", "")}
        found = signature_of(self.dicomdir)
        return found not in {"", *known} and self.dicomdir.stat().st_size > _MUCH

    def sync(
        self, *, blocking: bool = True, compact: bool = False, reread: bool = False,
        progress: importer.Progress | None = None,
    ) -> importer.Imported | None:  # fmt: skip
        """Merge what others changed, publish what we changed, unlink what nobody refers to any more.

        Args:
            blocking: wait for another process that is publishing; else leave the work to it.
            compact: rewrite without inactive records.
            reread: import the DICOMDIR although it is the one published last.

        Returns:
            What an import found, if there was one.

        Raises:
            StorageError: the disk or the index refuses; what was published before is untouched.
        """
        with file_lock(self._lock, blocking=blocking) as mine:
            if not mine:
                return None
            try:
                self._recover()
                found = self._merge(progress, reread=reread)
                self._publish(compact=compact)
                self._unlink()
            except OSError as error:
                raise StorageError(f"the DICOMDIR cannot be published: {error.strerror}") from error
            return found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold publications off, in all processes, while the block runs.

        Raises:
            StorageError: the lock file cannot be opened.
        """
        with file_lock(self._lock):
            yield

    def _recover(self) -> None:
        """End a publication that a crash interrupted before or after its transaction."""
        if not self._new.exists():
            return
        with self._index.read() as db:
            announced, before = get_meta(db, "dicomdir", ""), get_meta(db, "before", "")
        if signature_of(self._new) == announced and signature_of(self.dicomdir) == before:
            self._rename()
        else:
            self._new.unlink()

    # -- merging ---------------------------------------------------------------------------------------------------

    def _merge(self, progress: importer.Progress | None, *, reread: bool) -> importer.Imported | None:
        found = signature_of(self.dicomdir)
        with self._index.read() as db:
            announced, before = get_meta(db, "dicomdir", ""), get_meta(db, "before", "")
        if found and found not in {announced, before}:
            return self._import(found, progress)
        if found and found == announced:
            return self._import(found, progress) if reread else None
        if announced:
            # Ours was lost, or its rename was: the index knows all that it held.
            self._forget_published()
        return None

    def _import(self, signature: str, progress: importer.Progress | None) -> importer.Imported:
        try:
            with Dicomdir(self.dicomdir) as source:
                done = importer.Importer(self._index, self._clock(), progress).run(source)
                appendable = source.appendable and not done.ambiguous
        except NotADicomdir as error:
            raise StorageError(f"{self.dicomdir.name} is no DICOMDIR: {error}") from error
        with self._index.write(visible=False) as db:
            set_meta(db, "dicomdir", signature)
            set_meta(db, "before", "")
            set_meta(db, "base", (Base.COPY if appendable else Base.REWRITE).value)
            retired = any_retired(db)
        if retired:
            self._forget_published()  # whose records are where in somebody else's file, only rows with a UID can tell
        _log.info(
            "imported the DICOMDIR", instances=done.instances, added=done.added, dropped=done.dropped,
            quarantined=len(done.quarantined),
        )  # fmt: skip
        return done

    def _forget_published(self) -> None:
        with self._index.write(visible=False) as db:
            for table in PARENTS:
                db.execute(f"UPDATE {table} SET record = 0")
            db.execute("UPDATE instance SET published = 0")
            db.execute("UPDATE tombstone SET published = 0")
            set_meta(db, "dicomdir", "")
            set_meta(db, "before", "")
            set_meta(db, "base", Base.BLANK.value)

    # -- publishing ------------------------------------------------------------------------------------------------

    def _publish(self, *, compact: bool) -> None:
        with self._index.read() as db:
            db.execute("BEGIN")
            try:
                if not (compact or self._changed(db) or not self.dicomdir.exists()):
                    return
                started = time.monotonic()
                before = signature_of(self.dicomdir)
                moved = self._prepare_copy(Base(get_meta(db, "base", Base.COPY.value)))
                batch = self._draw(db, moved)
            finally:
                db.execute("ROLLBACK")
        self._put(batch, moved, before)
        if compact or self._wasteful():
            self._compact()
        metrics.PUBLISH_SECONDS.observe(time.monotonic() - started)

    @staticmethod
    def _changed(db: sqlite3.Connection) -> bool:
        return bool(
            db.execute(
                "SELECT EXISTS (SELECT 1 FROM instance WHERE published = 0)"
                " OR EXISTS (SELECT 1 FROM tombstone WHERE published = 1)"
                " OR EXISTS (SELECT 1 FROM series WHERE gone = 1) OR EXISTS (SELECT 1 FROM study WHERE gone = 1)"
                " OR EXISTS (SELECT 1 FROM patient WHERE gone = 1)"
            ).fetchone()[0]
        )

    def _prepare_copy(self, base: Base) -> dict[int, int] | None:
        """The file to be changed; where records have moved to, when they were written anew."""
        self._new.unlink(missing_ok=True)
        if base is Base.BLANK or not self.dicomdir.exists():
            self._new.write_bytes(canvas.blank())
            return None
        if base is Base.REWRITE:
            # Somebody else's, in another layout: what could not be read of it is still there to be looked at.
            shutil.copyfile(self.dicomdir, self._index.path.with_name("DICOMDIR.foreign"))
            return rewritten(self.dicomdir, self._new)
        shutil.copyfile(self.dicomdir, self._new)
        return None

    def _draw(self, db: sqlite3.Connection, moved: dict[int, int] | None) -> Batch:
        drawing = Canvas(self._new)
        try:
            batch = draw(db, drawing, moved)
        except BaseException:
            drawing.abandon()
            raise
        drawing.finish()
        return batch

    def _put(self, batch: Batch, moved: dict[int, int] | None, before: str) -> None:
        """Steps 1 to 3: sync, note, rename."""
        fd = os.open(self._new, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._disk.sync(fd)
        finally:
            os.close(fd)
        self._disk.sync_folder(self._disk.incoming)
        announced = signature_of(self._new)
        self._index.sync_log()  # what others committed meanwhile is not left for the transaction to sync
        with self._index.write(visible=False) as db:
            note(db, batch, moved, self._epoch(db))
            set_meta(db, "dicomdir", announced)
            set_meta(db, "before", before)
            set_meta(db, "base", Base.COPY.value)
            if signature_of(self.dicomdir) != before:
                raise StorageError("somebody changed the DICOMDIR while it was being published")
        self._rename()

    @staticmethod
    def _epoch(db: sqlite3.Connection) -> int:
        return int(get_meta(db, "epoch", 1))

    def _rename(self) -> None:
        self._new.rename(self.dicomdir)
        self._disk.sync_folder(self.dicomdir.parent)

    def _wasteful(self) -> bool:
        """Whether inactive records should go: at once where that is cheap, as pydicom shows them, else in numbers."""
        with self._index.read() as db:
            inactive = int(get_meta(db, "inactive", 0))
            if not inactive or self.dicomdir.stat().st_size < SMALL:
                return inactive > 0
            return inactive * 3 > int(db.execute("SELECT count(*) FROM instance").fetchone()[0])

    def _compact(self) -> None:
        before = signature_of(self.dicomdir)
        self._new.unlink(missing_ok=True)
        moved = rewritten(self.dicomdir, self._new)
        self._put(Batch(), moved, before)
        with self._index.write(visible=False) as db:
            set_meta(db, "inactive", 0)

    # -- removing --------------------------------------------------------------------------------------------------

    def _unlink(self) -> None:
        """Step 4: the files of tombstones that no record refers to."""
        with self._index.read() as db:
            found = db.execute(_FREE).fetchall()
        if not found:
            return
        self._disk.remove([file_id for _, file_id, unlink in found if unlink])
        with self._index.write(visible=False) as db:
            db.executemany("DELETE FROM tombstone WHERE id = ?", [(one,) for one, _, _ in found])


def signature_of(path: Path) -> str:
    """What changes whenever a file is written or replaced; empty when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"

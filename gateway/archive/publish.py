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
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from gateway import metrics
from gateway.archive import canvas, importer, records
from gateway.archive.canvas import Canvas
from gateway.archive.dicomdir import Dicomdir, NotADicomdir
from gateway.archive.disk import Disk
from gateway.archive.index import Index, file_lock, get_meta, set_meta
from gateway.archive.rewrite import rewritten
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
_ADDED = """SELECT i.id, i.uid, i.sop_class, i.transfer_syntax, i.file_id, i.attributes,
 s.id, s.record, s.attributes, t.id, t.record, t.attributes, p.id, p.record, p.attributes
FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study JOIN patient p ON p.id = t.patient
WHERE i.published = 0 ORDER BY p.id, t.id, s.id, i.id"""
_HIDDEN = """SELECT b.id, b.file_id, s.record FROM tombstone b LEFT JOIN series s ON s.id = b.series
WHERE b.published = 1"""
_FREE = """SELECT id, file_id, unlink AND NOT EXISTS (
 SELECT 1 FROM instance i WHERE i.uid = b.uid AND i.file_id = b.file_id) FROM tombstone b WHERE published = 0"""
_MUCH = 1 << 22
SMALL = 1 << 23
"""Bytes up to which a DICOMDIR is written anew after each deletion, in about a third of a second."""
_PARENTS = ("series", "study", "patient")


class Base(Enum):
    """What the next DICOMDIR begins as."""

    COPY = "copy"
    REWRITE = "rewrite"
    """The present one is in another layout."""
    BLANK = "blank"
    """The present one is lost, or older than what the index speaks of."""


@dataclass
class Batch:
    """What one publication holds, for the index to note.

    Attributes:
        instances: index row and File ID of those that were added.
        records: for each table, the new offset of each row's record.
        tombstones: rows whose records are inactive now.
        gone: for each table, rows whose records are inactive now.
    """

    instances: list[tuple[int, str]] = field(default_factory=list)
    records: dict[str, dict[int, int]] = field(default_factory=lambda: {one: {} for one in _PARENTS})
    tombstones: list[int] = field(default_factory=list)
    gone: dict[str, list[int]] = field(default_factory=lambda: {one: [] for one in _PARENTS})


class Publisher:
    """Keeps the DICOMDIR in line with the index."""

    def __init__(self, index: Index, disk: Disk, dicomdir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._disk = disk
        self.dicomdir = dicomdir
        self._clock = clock
        self._new = disk.incoming / "DICOMDIR"
        self._lock = index.path.with_name(index.path.name + ".publish")

    def due(self) -> bool:
        """Whether there is anything to publish, to merge or to unlink."""
        with self._index.read() as db:
            if signature_of(self.dicomdir) != get_meta(db, "dicomdir", ""):
                return True
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
        _log.info(
            "imported the DICOMDIR", instances=done.instances, added=done.added, dropped=done.dropped,
            quarantined=len(done.quarantined),
        )  # fmt: skip
        return done

    def _forget_published(self) -> None:
        with self._index.write(visible=False) as db:
            for table in _PARENTS:
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
        batch = Batch()
        drawing = Canvas(self._new)
        try:
            _hide(db, drawing, batch, moved)
            _add(db, drawing, batch, moved)
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
        with self._index.write(visible=False) as db:
            _note(db, batch, moved, self._epoch(db))
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


def _hide(db: sqlite3.Connection, drawing: Canvas, batch: Batch, moved: dict[int, int] | None) -> None:
    """Make inactive what was deleted."""
    by_series: dict[int, dict[str, int]] = {}
    for tombstone, file_id, series_record in db.execute(_HIDDEN):
        at = _moved(series_record or 0, moved)
        if at and at not in by_series:
            by_series[at] = drawing.file_ids(at)
        record = by_series[at].get(file_id, 0) if at else 0
        if record:
            drawing.deactivate(record)
        batch.tombstones.append(tombstone)
    for table in _PARENTS:
        for row, record in db.execute(f"SELECT id, record FROM {table} WHERE gone = 1"):
            if at := _moved(record, moved):
                drawing.deactivate(at)
            batch.gone[table].append(row)


def _add(db: sqlite3.Connection, drawing: Canvas, batch: Batch, moved: dict[int, int] | None) -> None:
    for row in db.execute(_ADDED):
        instance, uid, sop_class, syntax, file_id, attributes = row[:6]
        series, series_record, series_attributes, study, study_record, study_attributes = row[6:12]
        patient, patient_record, patient_attributes = row[12:]
        made = batch.records
        at = made["patient"].get(patient) or _moved(patient_record, moved)
        if not at:
            at = made["patient"][patient] = drawing.append(0, records.parent("PATIENT", patient_attributes))
        above, at = at, made["study"].get(study) or _moved(study_record, moved)
        if not at:
            body = records.parent("STUDY", study_attributes, (series_attributes, attributes))
            at = made["study"][study] = drawing.append(above, body)
        above, at = at, made["series"].get(series) or _moved(series_record, moved)
        if not at:
            at = made["series"][series] = drawing.append(above, records.parent("SERIES", series_attributes))
        drawing.append(at, records.instance(sop_class, uid, syntax, file_id, attributes))
        batch.instances.append((instance, file_id))


def _moved(record: int, moved: dict[int, int] | None) -> int:
    return record if moved is None else moved.get(record, 0)


def _note(db: sqlite3.Connection, batch: Batch, moved: dict[int, int] | None, epoch: int) -> None:
    """Say in the index what the new DICOMDIR holds."""
    if moved is not None:
        for table in _PARENTS:
            rows = db.execute(f"SELECT record, id FROM {table} WHERE record > 0").fetchall()
            db.executemany(f"UPDATE {table} SET record = ? WHERE id = ?", [(moved.get(at, 0), one) for at, one in rows])
    for table, made in batch.records.items():
        db.executemany(f"UPDATE {table} SET record = ? WHERE id = ?", [(at, row) for row, at in made.items()])
    for instance, file_id in batch.instances:
        if not db.execute("UPDATE instance SET published = ? WHERE id = ?", (epoch, instance)).rowcount:
            # Deleted while the file was being written: its record is active there, so it is to be hidden next time.
            db.execute("UPDATE tombstone SET published = 1 WHERE file_id = ?", (file_id,))
    db.executemany("UPDATE tombstone SET published = 0 WHERE id = ?", [(one,) for one in batch.tombstones])
    hidden = len(batch.tombstones) + sum(map(len, batch.gone.values()))
    set_meta(db, "inactive", int(get_meta(db, "inactive", 0)) + hidden)
    _bury_parents(db, batch)


def _bury_parents(db: sqlite3.Connection, batch: Batch) -> None:
    """Drop the rows of parents that are out of the DICOMDIR; one that has instances again gets a new record."""
    for row in batch.gone["series"]:
        db.execute("DELETE FROM series WHERE id = ? AND gone = 1 AND instances = 0", (row,))
        _start_anew(db, "id = ?", row)
    for row in batch.gone["study"]:
        db.execute(
            "DELETE FROM study WHERE id = ?1 AND gone = 1 AND NOT EXISTS (SELECT 1 FROM series WHERE study = ?1)",
            (row,),
        )
        db.execute("UPDATE study SET record = 0, gone = 0 WHERE id = ?", (row,))
        _start_anew(db, "study = ?", row)
    for row in batch.gone["patient"]:
        gone = db.execute(
            "DELETE FROM patient WHERE id = ?1 AND gone = 1 AND NOT EXISTS (SELECT 1 FROM study WHERE patient = ?1)",
            (row,),
        )
        if gone.rowcount:
            db.execute("DELETE FROM patient_name WHERE patient = ?", (row,))
        db.execute("UPDATE patient SET record = 0, gone = 0 WHERE id = ?", (row,))
        db.execute("UPDATE study SET record = 0 WHERE patient = ?", (row,))
        _start_anew(db, "study IN (SELECT id FROM study WHERE patient = ?)", row)


def _start_anew(db: sqlite3.Connection, which: str, row: int) -> None:
    db.execute(f"UPDATE instance SET published = 0 WHERE series IN (SELECT id FROM series WHERE {which})", (row,))
    db.execute(f"UPDATE series SET record = 0, gone = 0 WHERE {which}", (row,))


def signature_of(path: Path) -> str:
    """What changes whenever a file is written or replaced; empty when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"

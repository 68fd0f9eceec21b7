"""From a DICOMDIR into the index: the first import, and the merge of what somebody else changed.

Each run has a number, its epoch, that it leaves on every instance it saw. What carries an older one afterwards is no
longer in the DICOMDIR, so somebody took it out; it is dropped from the index too, unless the DICOMDIR was damaged,
because then its absence proves nothing. Instances that were never published (epoch 0) stay as they are.

Work is committed in parts, so stores and deletions come through while a large import runs.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from gateway.archive import fileid, rows, schema
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.index import Index
from gateway.archive.layout import Quarantined, Record
from gateway.archive.meta import get_meta, set_meta
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.tags import tag_of

_FIRST_PART, _PART = 20_000, 4_000
"""Records to a transaction: large ones for an empty index, small ones where stores wait for their turn."""
_ICON = b"\x88\0\0\2SQ"
_ICON_TAG = tag_of("IconImageSequence")
_PLAIN = re.compile(r"\w[\w.\-]*(?:\\\w[\w.\-]*){0,7}", re.ASCII)

_INSERT = """INSERT INTO instance (series, uid, sop_class, transfer_syntax, file_id, published, attributes)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM tombstone WHERE file_id = ?5)
ON CONFLICT (uid) DO UPDATE SET published = excluded.published, file_id = excluded.file_id,
 enriched = enriched AND file_id = excluded.file_id,
 dataset_offset = CASE WHEN file_id = excluded.file_id THEN dataset_offset ELSE 0 END
WHERE file_id = excluded.file_id OR published NOT IN (0, excluded.published)"""
"""What is deleted stays deleted; what we stored and did not publish yet stays ours; a moved file is followed."""

_INSERT_FIRST = """INSERT OR IGNORE INTO instance
(series, uid, sop_class, transfer_syntax, file_id, published, attributes) VALUES (?, ?, ?, ?, ?, ?, ?)"""

Progress = Callable[[int], None]


@dataclass
class Imported:
    """What an import found.

    Attributes:
        instances: records in use that refer to an instance.
        added: instances the index did not know.
        dropped: instances the DICOMDIR no longer has.
        ambiguous: an entity has several records, so the DICOMDIR is to be written anew with one for each.
    """

    instances: int = 0
    added: int = 0
    dropped: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    ambiguous: bool = False


class Importer:
    """One run over one DICOMDIR."""

    def __init__(self, index: Index, now: float, progress: Progress | None = None) -> None:
        self._index = index
        self._now = now
        self._progress = progress or (lambda _: None)
        self._done = Imported()
        self._patient = Record(0, 0, 0, False, "", "", "", "", "", b"", 0)  # noqa: FBT003 - a tuple
        self._study = self._series = 0
        self._batch: list[tuple[int, str, str, str, str, int, bytes]] = []
        self._touched: set[int] = set()
        self._later: set[int] = set()
        self._first = False
        self._epoch = 0
        self._places: dict[tuple[str, int], int] = {}

    def run(self, source: Dicomdir) -> Imported:
        """Import everything in use, and drop what is gone.

        Raises:
            StorageError: the index refuses; what was committed until then stays.
        """
        with self._index.write(visible=False) as db:
            self._epoch = int(get_meta(db, "epoch", 1)) + 1
            set_meta(db, "epoch", self._epoch)
            before = _count(db)
            self._first = not before and not db.execute("SELECT EXISTS (SELECT 1 FROM tombstone)").fetchone()[0]
            if self._first:
                db.execute("DROP INDEX IF EXISTS instance_series")
                db.execute("DROP INDEX IF EXISTS instance_bare")
        walk = source.records()
        while part := list(islice(walk, _FIRST_PART if self._first else _PART)):
            with self._index.write() as db:
                for _, record in part:
                    self._take(db, record)
                self._flush(db)
            self._progress(self._done.instances)
        self._done.quarantined.extend(source.quarantined)
        with self._index.write() as db:
            for statement in schema.LATE_INDEXES.split(";"):
                db.execute(statement)
            rows.recount(db, self._later)
            self._done.added = _count(db) - before
            if source.consistent and not self._done.quarantined:
                self._done.dropped = self._drop(db)
            _note(db, self._done.quarantined)
        return self._done

    def _take(self, db: sqlite3.Connection, record: Record) -> None:
        match record.type:
            case "PATIENT":
                self._patient, self._study, self._series = record, 0, 0
            case "STUDY":
                self._series = 0
                self._study = self._add_study(db, record)
            case "SERIES":
                self._series = self._add_series(db, record) if self._study else 0
            case _ if record.file_id and record.sop_instance_uid and self._series:
                self._add_instance(record)
            case _ if record.file_id and not record.sop_instance_uid:
                self._bad(record, "no Referenced SOP Instance UID in File")
            case _ if record.file_id and record.type in {"IMAGE", "PRIVATE"}:
                self._bad(record, "an instance outside a series")

    def _bad(self, record: Record, reason: str) -> None:
        self._done.quarantined.append(Quarantined(record.offset, reason))

    def _attributes(self, record: Record) -> Attributes | None:
        try:
            return Attributes.decode(record.attributes, implicit=False).without([_ICON_TAG])
        except MalformedDataset as error:
            self._bad(record, error.reason)
            return None

    def _add_study(self, db: sqlite3.Connection, record: Record) -> int:
        above, mine = self._attributes(self._patient), self._attributes(record)
        uid = mine.text(tags.StudyInstanceUID) if mine is not None else ""
        if above is None or mine is None or not uid:
            self._bad(record, "a study without Study Instance UID or patient")
            return 0
        patient = rows.add_patient(db, rows.patient_key(above, uid), above)
        self._place(db, "patient", patient, self._patient.offset)
        study = rows.add_study(db, patient, uid, mine, self._now)
        self._place(db, "study", study, record.offset)
        return study

    def _add_series(self, db: sqlite3.Connection, record: Record) -> int:
        mine = self._attributes(record)
        uid = mine.text(tags.SeriesInstanceUID) if mine is not None else ""
        if mine is None or not uid:
            self._bad(record, "a series without Series Instance UID")
            return 0
        series = rows.add_series(db, self._study, uid, mine)
        self._place(db, "series", series, record.offset)
        self._touched.add(series)
        return series

    def _place(self, db: sqlite3.Connection, table: str, row: int, offset: int) -> None:
        """Note where an entity's record is; the first one counts when there are several."""
        first = self._places.setdefault((table, row), offset)
        if first != offset:
            self._done.ambiguous = True
        db.execute(f"UPDATE {table} SET record = ? WHERE id = ?", (first, row))

    def _add_instance(self, record: Record) -> None:
        place = record.file_id
        if _PLAIN.fullmatch(place):
            place = place.replace("\\", "/")
        else:
            try:
                place = fileid.parse(place)
            except fileid.BadFileID as error:
                self._bad(record, str(error))
                return
        body = record.attributes
        if _ICON in body:
            kept = self._attributes(record)
            body = kept.encode(implicit=False) if kept is not None else b""
        self._batch.append(
            (self._series, record.sop_instance_uid, record.sop_class_uid, record.transfer_syntax_uid, place,
             self._epoch, body)
        )  # fmt: skip
        self._touched.add(self._series)

    def _flush(self, db: sqlite3.Connection) -> None:
        insert = _INSERT_FIRST if self._first else _INSERT
        if db.executemany(insert, self._batch).rowcount != len(self._batch):
            self._done.ambiguous = True
        self._done.instances += len(self._batch)
        self._batch.clear()
        if self._first:
            self._later |= self._touched
        else:
            rows.recount(db, self._touched)
        self._touched = {self._series} if self._series else set()

    def _drop(self, db: sqlite3.Connection) -> int:
        """Forget published instances that this run did not see; their files are not ours to remove."""
        gone = "published NOT IN (0, ?)"
        series = {row[0] for row in db.execute(f"SELECT DISTINCT series FROM instance WHERE {gone}", (self._epoch,))}
        dropped = db.execute(f"DELETE FROM instance WHERE {gone}", (self._epoch,)).rowcount
        rows.recount(db, series)
        return dropped


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM instance").fetchone()[0])


def _note(db: sqlite3.Connection, quarantined: list[Quarantined]) -> None:
    """Keep the bad records for ``archive verify``, in place of those of the run before."""
    db.execute("DELETE FROM quarantine WHERE place LIKE 'record %'")
    db.executemany(
        "INSERT OR IGNORE INTO quarantine (place, reason) VALUES (?, ?)",
        [(f"record at byte {one.offset}", one.reason) for one in quarantined],
    )

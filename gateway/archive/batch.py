"""One publication's changes: drawn into a copy of the DICOMDIR, then noted in the index.

Drawing reads one snapshot of the index, and noting comes later, in a transaction of its own; in between others store
and delete. What was deleted meanwhile is noted as being in the DICOMDIR, so that the next publication hides it; a
parent that was made inactive and has instances again gets a new record.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from gateway.archive import records
from gateway.archive.canvas import Canvas
from gateway.archive.meta import get_meta, set_meta

PARENTS = ("series", "study", "patient")
"""Tables of what has records without files, from the bottom."""

_ADDED = """SELECT i.id, i.uid, i.sop_class, i.transfer_syntax, i.file_id, i.attributes,
 s.id, s.record, s.attributes, t.id, t.record, t.attributes, p.id, p.record, p.attributes
FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study JOIN patient p ON p.id = t.patient
WHERE i.published = 0 ORDER BY p.id, t.id, s.id, i.id"""
_HIDDEN = """SELECT b.id, b.file_id, s.record FROM tombstone b LEFT JOIN series s ON s.id = b.series
WHERE b.published = 1"""
_STILL_LISTED = """UPDATE tombstone SET published = 1
WHERE file_id = ?2 AND NOT EXISTS (SELECT 1 FROM instance WHERE id = ?1)"""


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
    records: dict[str, dict[int, int]] = field(default_factory=lambda: {one: {} for one in PARENTS})
    tombstones: list[int] = field(default_factory=list)
    gone: dict[str, list[int]] = field(default_factory=lambda: {one: [] for one in PARENTS})


def draw(db: sqlite3.Connection, drawing: Canvas, moved: dict[int, int] | None) -> Batch:
    """Hide what was deleted and add what is new.

    Args:
        moved: where records went when the file was written anew; None when they are where the index says.

    Raises:
        StorageError: the file would pass 2 GiB, or is not what the index says it is.
    """
    batch = Batch()
    _hide(db, drawing, batch, moved)
    _add(db, drawing, batch, moved)
    return batch


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
    for table in PARENTS:
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


def note(db: sqlite3.Connection, batch: Batch, moved: dict[int, int] | None, epoch: int) -> None:
    """Say in the index what the new DICOMDIR holds."""
    if moved is not None:
        for table in PARENTS:
            rows = db.execute(f"SELECT record, id FROM {table} WHERE record > 0").fetchall()
            db.executemany(f"UPDATE {table} SET record = ? WHERE id = ?", [(moved.get(at, 0), one) for at, one in rows])
    for table, made in batch.records.items():
        db.executemany(f"UPDATE {table} SET record = ? WHERE id = ?", [(at, row) for row, at in made.items()])
    added = [(epoch, one) for one, _ in batch.instances]
    if db.executemany("UPDATE instance SET published = ? WHERE id = ?", added).rowcount < len(added):
        # Deleted while the file was being written: their records are active there, so they are to be hidden next time.
        db.executemany(_STILL_LISTED, batch.instances)
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

"""An instance's row in the index, with those of its series, study and patient as far as they are new."""

from __future__ import annotations

import sqlite3

from gateway.archive import rows
from gateway.archive.heads import Head
from gateway.dicom.models import Level


def stored_at(db: sqlite3.Connection, sop_instance_uid: str) -> str | None:
    """The File ID of an instance; None when it is not here."""
    row = db.execute("SELECT file_id FROM instance WHERE uid = ?", (sop_instance_uid,)).fetchone()
    return None if row is None else str(row[0])


def add_new(db: sqlite3.Connection, head: Head, file_id: str, now: float) -> int | None:
    """Put an instance into the index whose series is there and whose UID is not; None, and nothing done, else.

    That is nearly every instance that comes, and takes three statements.
    """
    _, _, study_uid, series_uid = head.uids
    found = db.execute(_ADD_NEW, (*_values(head, file_id), series_uid, study_uid)).fetchall()
    if not found:
        return None
    ((row, series),) = found
    rows.count_one(db, series, now)
    return int(row)


_COLUMNS = "uid, sop_class, transfer_syntax, file_id, size, dataset_offset, attributes"
_ADD_NEW = f"""INSERT INTO instance ({_COLUMNS}, enriched, series)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, series.id FROM series JOIN study ON study.id = series.study
 WHERE series.uid = ?8 AND study.uid = ?9
ON CONFLICT (uid) DO NOTHING RETURNING id, series"""


def _values(head: Head, file_id: str) -> tuple[str | int | bytes, ...]:
    """What stands in an instance's columns."""
    sop_class, uid, *_ = head.uids
    attributes = head.of(Level.IMAGE).encode(implicit=False)
    return uid, sop_class, head.transfer_syntax_uid, file_id, head.size, head.dataset_offset, attributes


def add_instance(db: sqlite3.Connection, head: Head, file_id: str, now: float, *, row: int | None = None) -> int:
    """Put an instance into the index, in place of what had its UID before; the number of its row.

    Args:
        row: the number it had before it was lost.
    """
    _, uid, study_uid, series_uid = head.uids
    _bury(db, uid)
    series = rows.known_series(db, series_uid, study_uid) or _add_series(db, head, now)
    ((made,),) = db.execute(
        f"INSERT INTO instance ({_COLUMNS}, enriched, series, id) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?) RETURNING id",
        (*_values(head, file_id), series, row),
    ).fetchall()
    rows.count_one(db, series, now)
    return int(made)


def _add_series(db: sqlite3.Connection, head: Head, now: float) -> int:
    """The row of an instance's series, made with its parents as far as they are new."""
    study_uid, series_uid = head.uids[2:]
    above = head.of(Level.PATIENT)
    patient = rows.add_patient(db, rows.patient_key(above, study_uid), above)
    study = rows.add_study(db, patient, study_uid, head.of(Level.STUDY), now)
    return rows.add_series(db, study, series_uid, head.of(Level.SERIES))


def _bury(db: sqlite3.Connection, uid: str) -> None:
    """Make what a new instance replaces a tombstone."""
    row = db.execute("SELECT id, series, file_id, published FROM instance WHERE uid = ?", (uid,)).fetchone()
    if row is None:
        return
    db.execute(
        "INSERT INTO tombstone (series, uid, file_id, published) VALUES (?, ?, ?, ?)", (row[1], uid, row[2], row[3] > 0)
    )
    db.execute("DELETE FROM instance WHERE id = ?", (row[0],))
    rows.recount(db, {row[1]})

"""A study's rows made anew from what its files say now, in the running transaction.

Patient and study rows keep what the first instance said, and their records in the DICOMDIR are never changed in place.
So a study whose attributes change gets new rows, under another patient where the Patient ID changed. The old rows are
*retired*: they give their UID up and are marked gone, so that the next publication makes their records inactive in the
same DICOMDIR in which the new ones appear.

A patient's attributes are those of the study that was renewed last; of the patient's other studies nothing was said, so
what their files say otherwise is written over it in their own rows, until they are renewed themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.archive import rows
from gateway.archive.entering import add_instance
from gateway.archive.heads import Head
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.models import Level
from gateway.dicom.tags import vr_of


@dataclass(frozen=True)
class Renewed:
    """An instance as it is to be.

    Attributes:
        row: its row until now.
        replaced: whether it has another file than until now; the old one is to go.
    """

    head: Head
    file_id: str
    row: int
    replaced: bool = False


def study(db: sqlite3.Connection, uid: str, instances: Sequence[Renewed], now: float) -> None:
    """Make the rows of a study anew; when it was received and used stays.

    Args:
        instances: all of the study, in the order of their rows.
    """
    row, patient, received, used = db.execute(
        "SELECT id, patient, received, used FROM study WHERE uid = ?", (uid,)
    ).fetchone()
    series = [one for (one,) in db.execute("SELECT id FROM series WHERE study = ?", (row,))]
    db.executemany(
        "INSERT INTO tombstone (series, uid, file_id, published)"
        " SELECT series, uid, file_id, published > 0 FROM instance WHERE id = ?",
        [(one.row,) for one in instances if one.replaced],
    )
    db.executemany("DELETE FROM instance WHERE series = ?", [(one,) for one in series])
    rows.recount(db, set(series))
    for one in series:
        _retire(db, "series", one)
    _retire(db, "study", row)
    _renew_patient(db, uid, instances[0].head.of(Level.PATIENT))
    for instance in instances:
        add_instance(db, instance.head, instance.file_id, now)
    db.execute("UPDATE study SET received = ?, used = ? WHERE uid = ?", (received, used, uid))
    db.execute("UPDATE patient SET gone = 1 WHERE id = ? AND studies = 0", (patient,))


_UIDS = {"patient": "patient_id", "study": "uid", "series": "uid"}
_MARK = "\n"
"""Between what a retired row was called and its number; no UID and no Patient ID (LO, PS3.5 6.2) can have it."""


def _retire(db: sqlite3.Connection, table: str, row: int) -> None:
    """Leave a row nothing but its record in the DICOMDIR, until that is inactive."""
    name = _UIDS[table]
    db.execute(f"UPDATE {table} SET {name} = {name} || ? || id, gone = 1 WHERE id = ?", (_MARK, row))


def any_retired(db: sqlite3.Connection) -> bool:
    """Whether a publication still has to make records of retired rows inactive."""
    return db.execute("SELECT 1 FROM study WHERE gone = 1 AND instr(uid, ?) LIMIT 1", (_MARK,)).fetchone() is not None


def _renew_patient(db: sqlite3.Connection, study_uid: str, now: Attributes) -> None:
    """A new row for a patient who is known with other attributes, with the other studies under it."""
    key = rows.patient_key(now, study_uid)
    known = db.execute("SELECT id, attributes FROM patient WHERE patient_id = ?", (key,)).fetchone()
    if known is None:
        return
    before = Attributes.decode(known[1], implicit=False)
    changed = [tag for tag in now if tag != tags.SpecificCharacterSet and now.texts(tag) != before.texts(tag)]
    if not changed:
        return
    _retire(db, "patient", known[0])
    patient = rows.add_patient(db, key, before.overlay(now))
    old = {tag: before.get(tag) or Element(vr_of(tag), b"") for tag in changed}
    if tags.SpecificCharacterSet in before:
        old[tags.SpecificCharacterSet] = before[tags.SpecificCharacterSet]
    _move_studies(db, known[0], patient, Attributes(old))


def _move_studies(db: sqlite3.Connection, before: int, patient: int, old: Attributes) -> None:
    """Put a patient's studies under the new row, where they say of the patient what they said before."""
    moved = db.execute("SELECT id, attributes FROM study WHERE patient = ? AND gone = 0", (before,)).fetchall()
    for study_row, encoded in moved:
        mine = old.overlay(Attributes.decode(encoded, implicit=False))
        db.execute(
            "UPDATE study SET patient = ?, record = 0, attributes = ? WHERE id = ?",
            (patient, mine.encode(implicit=False), study_row),
        )
        db.execute("UPDATE series SET record = 0 WHERE study = ?", (study_row,))
        db.execute(
            "UPDATE instance SET published = 0 WHERE series IN (SELECT id FROM series WHERE study = ?)", (study_row,)
        )
    if moved:
        db.execute("UPDATE OR IGNORE patient_name SET patient = ? WHERE patient = ?", (patient, before))
    db.execute("DELETE FROM patient_name WHERE patient = ?", (before,))
    db.execute(
        "UPDATE patient SET studies = (SELECT count(*) FROM study WHERE patient = patient.id AND instances > 0)"
        " WHERE id IN (?, ?)",
        (before, patient),
    )

"""Entities as rows: the columns that follow from an entity's attributes, and finding or making its parents."""

from __future__ import annotations

import sqlite3

from gateway.dicom import moments, tags
from gateway.dicom.attributes import Attributes, element_of
from gateway.dicom.names import groups
from gateway.dicom.patterns import comparable

_PATIENT_ID = tags.PatientID


def patient_key(attributes: Attributes, study_uid: str) -> str:
    """The patient's identity: PatientID, or the Study Instance UID where there is none."""
    return comparable(attributes.text(_PATIENT_ID)) or study_uid


def add_patient(db: sqlite3.Connection, key: str, attributes: Attributes) -> int:
    """The row of a patient, made when it is new."""
    row = db.execute("SELECT id FROM patient WHERE patient_id = ?", (key,)).fetchone()
    if row is not None:
        return int(row[0])
    if not attributes.text(_PATIENT_ID):
        attributes = attributes.overlay(Attributes({_PATIENT_ID: element_of(_PATIENT_ID, key, ())}))
    made = db.execute(
        "INSERT INTO patient (patient_id, attributes) VALUES (?, ?)", (key, attributes.encode(implicit=False))
    )
    name_patient(db, _id(made), attributes)
    return _id(made)


def name_patient(db: sqlite3.Connection, patient: int, attributes: Attributes) -> None:
    """Make the patient findable by each component group of the name."""
    found = {group for name in attributes.texts(tags.PatientName) for group in groups(name)} or {""}
    db.executemany("INSERT OR IGNORE INTO patient_name VALUES (?, ?)", [(one, patient) for one in found])


def add_study(db: sqlite3.Connection, patient: int, uid: str, attributes: Attributes, now: float) -> int:
    """The row of a study, made when it is new; a study known under another patient stays there."""
    row = db.execute("SELECT id FROM study WHERE uid = ?", (uid,)).fetchone()
    if row is not None:
        return int(row[0])
    made = db.execute(
        "INSERT INTO study (patient, uid, date, time, accession, study_id, received, used, attributes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (patient, uid, *study_columns(attributes), now, now, attributes.encode(implicit=False)),
    )
    return _id(made)


def study_columns(attributes: Attributes) -> tuple[str, str, str, str]:
    """Date, time, accession number and study ID."""
    return (
        moments.canonical("DA", attributes.text(tags.StudyDate)),
        moments.canonical("TM", attributes.text(tags.StudyTime)),
        comparable(attributes.text(tags.AccessionNumber)),
        comparable(attributes.text(tags.StudyID)),
    )


def add_series(db: sqlite3.Connection, study: int, uid: str, attributes: Attributes) -> int:
    """The row of a series, made when it is new; a series known under another study stays there."""
    row = db.execute("SELECT id FROM series WHERE uid = ?", (uid,)).fetchone()
    if row is not None:
        return int(row[0])
    columns = (attributes.text(tags.Modality), attributes.text(tags.SeriesNumber))
    made = db.execute(
        "INSERT INTO series (study, uid, modality, number, attributes) VALUES (?, ?, ?, ?, ?)",
        (study, uid, *columns, attributes.encode(implicit=False)),
    )
    return _id(made)


def recount(db: sqlite3.Connection, series: set[int]) -> None:
    """Bring the counts of some series, and of their studies and patients, in line with the instances there are."""
    for one in series:
        db.execute(
            "UPDATE series SET instances = (SELECT count(*) FROM instance WHERE series = ?1) WHERE id = ?1", (one,)
        )
    studies = {row[0] for one in series for row in db.execute("SELECT study FROM series WHERE id = ?", (one,))}
    for one in studies:
        db.execute(
            "UPDATE study SET (series, instances, modalities) = (SELECT count(*), coalesce(sum(instances), 0),"
            " coalesce(group_concat(DISTINCT nullif(modality, '')), '') FROM series WHERE study = ?1 AND instances > 0)"
            " WHERE id = ?1",
            (one,),
        )
    patients = {row[0] for one in studies for row in db.execute("SELECT patient FROM study WHERE id = ?", (one,))}
    for one in patients:
        db.execute(
            "UPDATE patient SET studies = (SELECT count(*) FROM study WHERE patient = ?1 AND instances > 0)"
            " WHERE id = ?1",
            (one,),
        )
    _revive(db, series, studies, patients)


def known_series(db: sqlite3.Connection, uid: str, study_uid: str) -> int | None:
    """The row of a series that is known under this study."""
    row = db.execute(
        "SELECT series.id FROM series JOIN study ON study.id = series.study WHERE series.uid = ? AND study.uid = ?",
        (uid, study_uid),
    ).fetchone()
    return None if row is None else int(row[0])


def count_one(db: sqlite3.Connection, series: int, now: float) -> None:
    """Count one instance more, received now, at a cost that does not depend on how many there are."""
    ((count, modality, study),) = db.execute(
        "UPDATE series SET instances = instances + 1, gone = 0 WHERE id = ? RETURNING instances, modality, study",
        (series,),
    ).fetchall()
    ((instances, patient, patient_gone),) = db.execute(_COUNT_IN_STUDY, (count == 1, now, modality, study)).fetchall()
    if instances == 1 or patient_gone:
        db.execute("UPDATE patient SET studies = studies + ?1, gone = 0 WHERE id = ?2", (instances == 1, patient))


_COUNT_IN_STUDY = """UPDATE study SET instances = instances + 1, series = series + ?1, gone = 0, received = ?2,
modalities = CASE WHEN ?3 = '' OR instr(',' || modalities || ',', ',' || ?3 || ',') THEN modalities
    WHEN modalities = '' THEN ?3 ELSE modalities || ',' || ?3 END
WHERE id = ?4 RETURNING instances, patient, (SELECT gone FROM patient WHERE patient.id = study.patient)"""


def _revive(db: sqlite3.Connection, series: set[int], studies: set[int], patients: set[int]) -> None:
    """What has instances again is not to be taken out of the DICOMDIR."""
    for table, ids, count in (
        ("series", series, "instances"), ("study", studies, "instances"), ("patient", patients, "studies")
    ):  # fmt: skip
        for one in ids:
            db.execute(f"UPDATE {table} SET gone = 0 WHERE id = ? AND gone = 1 AND {count} > 0", (one,))


def _id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid

"""What is in the archive, study by study, for people and for scripts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes

_STUDIES = """SELECT p.patient_id, p.attributes, t.uid, t.date, t.modalities, t.series, t.instances, t.received,
 (SELECT coalesce(sum(i.size), 0) FROM series s JOIN instance i ON i.series = s.id WHERE s.study = t.id)
FROM study t JOIN patient p ON p.id = t.patient WHERE t.instances > 0 ORDER BY p.patient_id, t.date, t.uid"""


@dataclass(frozen=True)
class StudyLine:
    """One study.

    Attributes:
        size: bytes of its files; imported ones count once somebody has looked at them.
        received: seconds since the epoch, of the last instance.
    """

    patient_id: str
    patient_name: str
    study_instance_uid: str
    study_date: str
    modalities: str
    series: int
    instances: int
    size: int
    received: float


def studies(db: sqlite3.Connection) -> Iterator[StudyLine]:
    """Every study, patient by patient, in order of their dates."""
    for patient_id, patient, uid, date, modalities, series, instances, received, size in db.execute(_STUDIES):
        name = Attributes.decode(patient, implicit=False).text(tags.PatientName)
        yield StudyLine(patient_id, name, uid, date, modalities, series, instances, size, received)


@dataclass(frozen=True)
class Totals:
    """How much is in the archive.

    Attributes:
        size: bytes of the instances' files; imported ones count once somebody has looked at them.
        unpublished: instances that the DICOMDIR does not list yet.
        quarantined: directory records that could not be read.
    """

    patients: int
    studies: int
    series: int
    instances: int
    size: int
    unpublished: int
    quarantined: int


_TOTALS = """SELECT (SELECT count(*) FROM patient WHERE studies > 0), (SELECT count(*) FROM study WHERE instances > 0),
 (SELECT count(*) FROM series WHERE instances > 0), (SELECT coalesce(sum(instances), 0) FROM study),
 (SELECT coalesce(sum(size), 0) FROM instance), (SELECT count(*) FROM instance WHERE published = 0),
 (SELECT count(*) FROM quarantine)"""


def totals(db: sqlite3.Connection) -> Totals:
    """Count everything; the sizes take a walk over all instances."""
    return Totals(*db.execute(_TOTALS).fetchone())

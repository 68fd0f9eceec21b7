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

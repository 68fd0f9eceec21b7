"""Answering queries from the index: candidates by SQL, the verdict by :mod:`gateway.dicom.matching`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gateway.archive.conditions import conditions
from gateway.dicom import encoding, matching, tags
from gateway.dicom.attributes import Attributes, Element, element_of, pad
from gateway.dicom.keys import Empties
from gateway.dicom.models import Level
from gateway.errors import Cancelled
from gateway.query.ports import Request

_PATIENT = "p.id, p.attributes, p.studies"
_STUDY = "t.id, t.attributes, t.series, t.instances, t.modalities"
_SERIES = "s.id, s.attributes, s.instances"
_IMAGE = "i.uid, i.sop_class, i.attributes"

_SELECT = {
    Level.PATIENT: f"SELECT {_PATIENT} FROM patient p WHERE p.studies > 0",
    Level.STUDY: f"SELECT {_PATIENT}, {_STUDY} FROM study t JOIN patient p ON p.id = t.patient WHERE t.instances > 0",
    Level.SERIES: f"SELECT {_PATIENT}, {_STUDY}, {_SERIES} FROM series s JOIN study t ON t.id = s.study"
    " JOIN patient p ON p.id = t.patient WHERE s.instances > 0",
    Level.IMAGE: f"SELECT {_PATIENT}, {_STUDY}, {_SERIES}, {_IMAGE} FROM instance i JOIN series s ON s.id = i.series"
    " JOIN study t ON t.id = s.study JOIN patient p ON p.id = t.patient WHERE 1",
}
_PATIENT_COUNTS = "SELECT coalesce(sum(t.series), 0), coalesce(sum(t.instances), 0) FROM study t WHERE t.patient = ?"
_SOP_CLASSES = (
    "SELECT DISTINCT i.sop_class FROM series s JOIN instance i ON i.series = s.id WHERE s.study = ? ORDER BY 1"
)

Row = tuple[Any, ...]


def find(db: sqlite3.Connection, request: Request, empties: Empties) -> Iterator[Attributes]:
    """Yield the entities that match, with the attributes of their level and of all above.

    Raises:
        Cancelled: the request was.
    """
    query = request.query
    matcher = matching.compile(query, empties=empties)
    sought = conditions(matcher, query.level)
    sql = " AND ".join([_SELECT[query.level], *(one.sql for one in sought)])
    builder = _Builder(db, query.level, frozenset(query.keys))
    rows = db.execute(sql, [value for one in sought for value in one.values])
    try:
        for row in rows:
            if request.cancelled():
                raise Cancelled("cancelled by the requestor")
            entity = builder.entity(row)
            if matcher.matches(entity):
                yield entity
    finally:
        rows.close()


class _Builder:
    """Entities from rows. What several rows share, their patient or study, is built once."""

    def __init__(self, db: sqlite3.Connection, level: Level, wanted: frozenset[int]) -> None:
        self._db = db
        self._level = level
        self._wanted = wanted
        self._patient: tuple[int, Attributes] = (0, Attributes())
        self._study: tuple[int, Attributes] = (0, Attributes())
        self._series: tuple[int, Attributes] = (0, Attributes())

    def entity(self, row: Row) -> Attributes:
        if self._patient[0] != row[0]:
            self._patient = (row[0], self._of_patient(row))
        if self._level is Level.PATIENT:
            return self._patient[1]
        if self._study[0] != row[3]:
            self._study = (row[3], self._of_study(row))
        if self._level is Level.STUDY:
            return self._study[1]
        if self._series[0] != row[8]:
            computed = {tags.NumberOfSeriesRelatedInstances: _number(row[10])}
            self._series = (row[8], _joined(self._study[1], row[9], computed))
        if self._level is Level.SERIES:
            return self._series[1]
        uids = {
            tags.SOPInstanceUID: Element("UI", pad("UI", row[11].encode())),
            tags.SOPClassUID: Element("UI", pad("UI", row[12].encode())),
        }
        return _joined(self._series[1], row[13], uids)

    def _of_patient(self, row: Row) -> Attributes:
        computed = {tags.NumberOfPatientRelatedStudies: _number(row[2])}
        if self._wanted & {tags.NumberOfPatientRelatedSeries, tags.NumberOfPatientRelatedInstances}:
            series, instances = self._db.execute(_PATIENT_COUNTS, (row[0],)).fetchone()
            computed[tags.NumberOfPatientRelatedSeries] = _number(series)
            computed[tags.NumberOfPatientRelatedInstances] = _number(instances)
        return _joined(Attributes(), row[1], computed)

    def _of_study(self, row: Row) -> Attributes:
        computed = {
            tags.NumberOfStudyRelatedSeries: _number(row[5]),
            tags.NumberOfStudyRelatedInstances: _number(row[6]),
            tags.ModalitiesInStudy: _modalities(row[7]),
        }
        if tags.SOPClassesInStudy in self._wanted:
            classes = [one for (one,) in self._db.execute(_SOP_CLASSES, (row[3],))]
            computed[tags.SOPClassesInStudy] = element_of(tags.SOPClassesInStudy, "\\".join(classes), ())
        return _joined(self._patient[1], row[4], computed)


@lru_cache(maxsize=1024)
def _modalities(listed: str) -> Element:
    return element_of(tags.ModalitiesInStudy, listed.replace(",", "\\"), ())


@lru_cache(maxsize=4096)
def _number(count: int) -> Element:
    return Element("IS", pad("IS", str(count).encode()))


def _joined(above: Attributes, blob: bytes, computed: dict[int, Element]) -> Attributes:
    """The attributes above, this level's over them, and what was computed."""
    elements, _ = encoding.read(blob, implicit=False)
    if tags.SpecificCharacterSet not in elements and tags.SpecificCharacterSet not in above:
        return above.plus({**elements, **computed})  # mostly: one data set made, not three
    return above.overlay(Attributes(elements)).plus(computed)


def patient_and_study(row: Row) -> Attributes:
    """The patient and study attributes of a row of two blobs."""
    return _joined(_joined(Attributes(), row[0], {}), row[1], {})

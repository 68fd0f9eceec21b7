"""Answering queries from the index: candidates by SQL, the verdict by :mod:`gateway.dicom.matching`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Generic, TypeVar

from gateway.archive.conditions import conditions
from gateway.dicom import encoding, matching, tags
from gateway.dicom.attributes import Attributes, Element, pad
from gateway.dicom.identifier import Query
from gateway.dicom.keys import Empties
from gateway.dicom.matching import Matcher
from gateway.dicom.models import Level
from gateway.errors import Cancelled
from gateway.query.merging import Availability, marked
from gateway.query.ports import Request
from gateway.query.projection import Projection
from gateway.query.template import Template

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
_SOP_CLASSES = (
    "SELECT DISTINCT i.sop_class FROM series s JOIN instance i ON i.series = s.id WHERE s.study = ? ORDER BY 1"
)

Row = tuple[Any, ...]
T = TypeVar("T")
_NOTHING: dict[int, Element] = {}
Join = Callable[[T, bytes, dict[int, Element]], T]


def find(db: sqlite3.Connection, request: Request, empties: Empties) -> Iterator[Attributes]:
    """Yield the entities that match, with the attributes of their level and of all above.

    Raises:
        Cancelled: the request was.
    """
    matcher = matching.compile(request.query, empties=empties)
    entities = _Levels(db, request.query, _joined, Attributes(), _EVERY)
    for row in _rows(db, request, matcher):
        entity = entities.of(row)
        if matcher.matches(entity):
            yield entity


def answers(db: sqlite3.Connection, request: Request, projection: Projection, empties: Empties) -> Iterator[Attributes]:
    """Yield the projected answers for the entities that match, as what is here and is nobody else's to change.

    Raises:
        Cancelled: the request was.
    """
    matcher = matching.compile(request.query, empties=empties)
    template = Template(projection, matcher, Availability.ONLINE)
    drafts = _Levels(db, request.query, template.over, template.blank)
    entities = _Levels(db, request.query, _joined, Attributes(), _EVERY)
    for row in _rows(db, request, matcher):
        draft = drafts.of(row)
        if draft is not None and template.suits(draft):
            if template.matches(draft):
                yield template.answer(draft)
        elif matcher.matches(entity := entities.of(row)):
            yield from projection.answers([marked(entity, Availability.ONLINE)])


def _rows(db: sqlite3.Connection, request: Request, matcher: Matcher) -> Iterator[Row]:
    """The candidates."""
    sought = conditions(matcher, request.query.level)
    sql = " AND ".join([_SELECT[request.query.level], *(one.sql for one in sought)])
    rows = db.execute(sql, [value for one in sought for value in one.values])
    try:
        for row in rows:
            if request.cancelled():
                raise Cancelled("cancelled by the requestor")
            yield row
    finally:
        rows.close()


class _Levels(Generic[T]):
    """What is made of rows, level by level. What several rows share, their patient or study, is made once.

    Args:
        join: puts a level over what was made of those above: its encoded attributes, and the computed ones.
        top: what there is above the patient.
        cheap: computed attributes that are made whether the query asks for them or not.
    """

    def __init__(
        self, db: sqlite3.Connection, query: Query, join: Join[T], top: T, cheap: frozenset[int] = frozenset()
    ) -> None:
        self._db = db
        self._level = query.level
        self._join = join
        self._top = top
        wanted = cheap.union(query.keys)
        self._computed = [[(tag, make) for tag, make in level.items() if tag in wanted] for level in _COMPUTED]
        self._patient: tuple[int, T] = (0, top)
        self._study: tuple[int, T] = (0, top)
        self._series: tuple[int, T] = (0, top)

    def of(self, row: Row) -> T:
        """The row's entity."""
        if self._patient[0] != row[0]:
            self._patient = (row[0], self._over(Level.PATIENT, self._top, row[1], row))
        if self._level is Level.PATIENT:
            return self._patient[1]
        if self._study[0] != row[3]:
            self._study = (row[3], self._over(Level.STUDY, self._patient[1], row[4], row))
        if self._level is Level.STUDY:
            return self._study[1]
        if self._series[0] != row[8]:
            self._series = (row[8], self._over(Level.SERIES, self._study[1], row[9], row))
        if self._level is Level.SERIES:
            return self._series[1]
        return self._over(Level.IMAGE, self._series[1], row[13], row)

    def _over(self, level: Level, above: T, blob: bytes, row: Row) -> T:
        computed = self._computed[level]
        return self._join(above, blob, {tag: make(self._db, row) for tag, make in computed} if computed else _NOTHING)


@lru_cache(maxsize=1024)
def _modalities(listed: str) -> Element:
    # Whatever an instance calls its modality: a study is found for all that, and so are those beside it.
    return Element("CS", pad("CS", listed.replace(",", "\\").encode("ascii", "replace")))


@lru_cache(maxsize=4096)
def _number(count: int) -> Element:
    return Element("IS", pad("IS", str(count).encode()))


def _uid(text: str) -> Element:
    return Element("UI", pad("UI", text.encode()))


def _sum(db: sqlite3.Connection, column: str, patient: int) -> Element:
    (total,) = db.execute(f"SELECT coalesce(sum({column}), 0) FROM study WHERE patient = ?", (patient,)).fetchone()
    return _number(total)


def _sop_classes(db: sqlite3.Connection, study: int) -> Element:
    classes = [one for (one,) in db.execute(_SOP_CLASSES, (study,))]
    return _uid("\\".join(classes))


_COMPUTED: tuple[dict[int, Callable[[sqlite3.Connection, Row], Element]], ...] = (
    {
        tags.NumberOfPatientRelatedStudies: lambda _, row: _number(row[2]),
        tags.NumberOfPatientRelatedSeries: lambda db, row: _sum(db, "series", row[0]),
        tags.NumberOfPatientRelatedInstances: lambda db, row: _sum(db, "instances", row[0]),
    },
    {
        tags.NumberOfStudyRelatedSeries: lambda _, row: _number(row[5]),
        tags.NumberOfStudyRelatedInstances: lambda _, row: _number(row[6]),
        tags.ModalitiesInStudy: lambda _, row: _modalities(row[7]),
        tags.SOPClassesInStudy: lambda db, row: _sop_classes(db, row[3]),
    },
    {tags.NumberOfSeriesRelatedInstances: lambda _, row: _number(row[10])},
    {tags.SOPInstanceUID: lambda _, row: _uid(row[11]), tags.SOPClassUID: lambda _, row: _uid(row[12])},
)
"""What is computed of the entities of each level."""

_EVERY = frozenset(tag for level in _COMPUTED for tag in level) - {
    tags.NumberOfPatientRelatedSeries,
    tags.NumberOfPatientRelatedInstances,
    tags.SOPClassesInStudy,
}
"""Those that cost no look into another table."""


def _joined(above: Attributes, blob: bytes, computed: dict[int, Element]) -> Attributes:
    """The attributes above, this level's over them, and what was computed."""
    elements, _ = encoding.read(blob, implicit=False)
    if tags.SpecificCharacterSet not in elements and tags.SpecificCharacterSet not in above:
        return above.plus({**elements, **computed})  # mostly: one data set made, not three
    return above.overlay(Attributes(elements)).plus(computed)


def patient_and_study(row: Row) -> Attributes:
    """The patient and study attributes of a row of two blobs."""
    return _joined(_joined(Attributes(), row[0], {}), row[1], {})

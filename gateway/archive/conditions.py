"""A compiled query's keys as SQL: a superset of what matches, found through the index's columns.

The semantics are :mod:`gateway.dicom.matching`'s, which has the last word on every candidate. A key that SQL cannot
seek is left to it altogether.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dicom import tags
from gateway.dicom.keys import CombinedKey, Key, NameKey, RangeKey, TextKey, UIDKey
from gateway.dicom.matching import Matcher
from gateway.dicom.models import Level
from gateway.dicom.patterns import Literal, Pattern

_TEXTS = {
    tags.PatientID: "p.patient_id",
    tags.AccessionNumber: "t.accession",
    tags.StudyID: "t.study_id",
    tags.Modality: "s.modality",
}
_UIDS = {
    tags.StudyInstanceUID: (Level.STUDY, "t.uid"),
    tags.SeriesInstanceUID: (Level.SERIES, "s.uid"),
    tags.SOPInstanceUID: (Level.IMAGE, "i.uid"),
}
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Condition:
    """A WHERE clause and the values of its placeholders."""

    sql: str
    values: tuple[str, ...]


def conditions(matcher: Matcher, level: Level) -> list[Condition]:
    """What can be sought; all of them hold for everything that matches."""
    found: list[Condition] = []
    for key in matcher.keys:
        condition = _condition(key, level)
        if condition is None:
            continue
        if not isinstance(key, UIDKey) and (matcher.empties.empty or matcher.empties.absent):
            column = _column(key)
            if not column:
                continue
            condition = Condition(f"({condition.sql} OR {column} = '')", condition.values)
        found.append(condition)
    return found


def _column(key: Key) -> str:
    if isinstance(key, NameKey):
        return "(SELECT max(name) FROM patient_name WHERE patient = p.id)"
    if isinstance(key, TextKey):
        return _TEXTS.get(key.tag, "")
    return "t.date" if isinstance(key, RangeKey | CombinedKey) and key.tag == tags.StudyDate else ""


def _condition(key: Key, level: Level) -> Condition | None:
    match key:
        case UIDKey() if key.tag in _UIDS and _UIDS[key.tag][0] <= level:
            marks = ", ".join("?" * len(key.literals))
            return Condition(f"{_UIDS[key.tag][1]} IN ({marks})", key.literals)
        case TextKey(tag=tags.ModalitiesInStudy, patterns=patterns) if all(
            isinstance(one, Literal) for one in patterns
        ):
            marks = ", ".join("?" * len(patterns))
            return Condition(
                f"EXISTS (SELECT 1 FROM series m WHERE m.study = t.id AND m.modality IN ({marks}))",
                tuple(one.text for one in patterns),
            )
        case TextKey() if key.tag in _TEXTS and not key.every:
            return _any(_seek(_TEXTS[key.tag], one) for one in key.patterns)
        case NameKey(tag=tags.PatientName) if not key.every:
            return _named(key)
        case RangeKey() | CombinedKey() if key.tag == tags.StudyDate:
            return _any(Condition("t.date BETWEEN ? AND ?", days) for days in _days(key))
    return None


def _days(key: RangeKey | CombinedKey) -> list[tuple[str, str]]:
    """First and last day of each range, as the column has them."""
    if isinstance(key, CombinedKey):
        return [(key.earliest[:8] or "0", key.latest[:8] or "9" * 9)]
    return [(a.earliest if a else "0", b.latest if b else "9" * 9) for a, b in key.ranges]


def _seek(column: str, pattern: Pattern) -> Condition | None:
    """Equality, or a stretch of the column's order."""
    if isinstance(pattern, Literal):
        return Condition(f"{column} = ?", (pattern.text,))
    if not pattern.prefix:
        return None
    return Condition(f"({column} >= ? AND {column} < ?)", (pattern.prefix, pattern.prefix + _LAST))


def _named(key: NameKey) -> Condition | None:
    firsts = [next((group for group in name if group is not None), None) for name in key.names]
    sought = _any(_seek("n.name", first) if first else None for first in firsts)
    if sought is None:
        return None
    return Condition(f"p.id IN (SELECT n.patient FROM patient_name n WHERE {sought.sql})", sought.values)


def _any(alternatives: Iterable[Condition | None]) -> Condition | None:
    """One of several; None when one of them restricts nothing."""
    found = list(alternatives)
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return Condition(f"({' OR '.join(one.sql for one in known)})", tuple(v for one in known for v in one.values))

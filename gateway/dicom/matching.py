"""Attribute matching of C-FIND, whole and pure (PS3.4 C.2.2.2).

:func:`compile` turns a query's keys into a :class:`Matcher` once; the matcher then decides entity by entity. Each key
is a value of one of the classes of :mod:`gateway.dicom.keys`, so that an index can read from it what to look for:
literals, a prefix, the ends of a range in sortable text. An index may answer a superset of a key and let the matcher
decide, or answer it exactly and leave it out with :meth:`Matcher.without`.

Where the standard leaves a choice:

- Several values in a key are alternatives, for every VR. Only after Multiple Value Matching was negotiated must all
  of them be there (PS3.4 C.2.2.2.8).
- Names are compared without case, accents and width; everything else with case. A name key of one component group
  is held against each group of the entity's name.
- A key that belongs below the query's level, counts, and binary bulk data never restrict;
  ``Matcher.unsupported`` names them.
- A partial time in an entity counts as its earliest moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from gateway.dicom import moments, tags
from gateway.dicom.attributes import STRING_VRS, Attributes
from gateway.dicom.identifier import InvalidIdentifier, Query
from gateway.dicom.keys import (
    BINARY_VRS,
    DECIMAL,
    MIDNIGHT,
    CombinedKey,
    Empties,
    EmptyKey,
    Key,
    NameKey,
    NumberKey,
    RangeKey,
    SequenceKey,
    TextKey,
    UIDKey,
    holds,
)
from gateway.dicom.models import COMPUTED_ATTRIBUTES, level_of
from gateway.dicom.names import groups
from gateway.dicom.patterns import Literal, Pattern, comparable, name_pattern, pattern
from gateway.dicom.tags import keyword_of, tag_of, vr_of

WILD_CARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""VRs in which ``*`` and ``?`` are wild cards (PS3.4 C.2.2.2.4)."""

_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_DECIMAL_VRS = frozenset({"IS", "DS"})
_ALL_VALUES_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
_EMPTY_KEY = '""'
COUNTS = frozenset(tag for tag in COMPUTED_ATTRIBUTES if tag >> 8 == 0x002012)
"""Numbers of related entities, which are returned and never matched (PS3.4 C.3.4)."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LAST_MOMENT = "235959.999999"


@dataclass(frozen=True)
class Matcher:
    """The compiled keys of a query.

    Attributes:
        keys: those that restrict, in ascending order of their tags.
        unsupported: keys with a value that are not matched on; they call for FF01H (PS3.4 C.4.1.1.4).
    """

    keys: tuple[Key, ...]
    unsupported: tuple[int, ...] = ()
    empties: Empties = field(default_factory=Empties)

    def matches(self, entity: Attributes) -> bool:
        """Whether the entity, with the attributes of its level and above, meets every key."""
        return all(holds(key, entity, self.empties) for key in self.keys)

    @property
    def depends_on(self) -> frozenset[int]:
        """The attributes that decide; what else an entity has means nothing."""
        times = {key.time_tag for key in self.keys if isinstance(key, CombinedKey)}
        return frozenset(key.tag for key in self.keys) | times

    def without(self, dropped: Iterable[int]) -> Matcher:
        """The same but for the keys of these tags, which somebody else has matched exactly."""
        gone = frozenset(dropped)
        return replace(self, keys=tuple(key for key in self.keys if key.tag not in gone))


def compile(query: Query, *, empties: Empties | None = None) -> Matcher:  # noqa: A001 (as in re.compile)
    """Compile the keys of a query.

    Raises:
        InvalidIdentifier: a value is not possible for its VR, such as a wild card in a UID.
    """
    unsupported = tuple(tag for tag in query.keys if _restricts(query.keys, tag) and not _supported(query, tag))
    wanted = [tag for tag in query.keys if tag not in unsupported]
    keys = _compile_all(query.keys, wanted, query)
    return Matcher(keys, unsupported, empties or Empties())


@lru_cache(maxsize=512)
def unsupported(query: Query) -> tuple[int, ...]:
    """The keys with a value that are not matched on; remembered, since viewers ask the same things again.

    Raises:
        InvalidIdentifier: as :func:`compile`.
    """
    return compile(query).unsupported


def _supported(query: Query, tag: int) -> bool:
    if tag in COUNTS or level_of(tag) > query.level:
        return False
    vr = vr_of(tag)
    return vr in STRING_VRS or vr in BINARY_VRS or vr == "SQ"


def _restricts(keys: Attributes, tag: int) -> bool:
    if tag == tags.SpecificCharacterSet:
        return False
    texts = keys.texts(tag)
    return bool(keys[tag].value.strip(b" \0")) and not (texts and all(not text.strip("*") for text in texts))


def _compile_all(keys: Attributes, wanted: Iterable[int], query: Query) -> tuple[Key, ...]:
    compiled = {tag: key for tag in wanted if _restricts(keys, tag) and (key := _compile_one(keys, tag, query))}
    if query.negotiated.combined_datetime:
        _combine(compiled)
    return tuple(compiled[tag] for tag in sorted(compiled))


def _compile_one(keys: Attributes, tag: int, query: Query) -> Key | None:
    vr = vr_of(tag)
    if query.negotiated.empty_value and keys.text(tag) == _EMPTY_KEY:
        return EmptyKey(tag)
    if vr == "SQ":
        return _sequence(keys, tag, query)
    every = query.negotiated.multiple_value and vr in _ALL_VALUES_VRS and len(keys.texts(tag)) > 1
    if vr in BINARY_VRS:
        numbers = keys.numbers(tag)
        return NumberKey(tag, numbers, every) if numbers else None
    texts = tuple(text for text in keys.texts(tag) if text)
    if vr == "PN":
        return _name(tag, texts, every=every)
    make = _MAKERS.get(vr)
    if make:
        return make(tag, vr, texts)
    return TextKey(tag, vr, tuple(_text_pattern(vr, text) for text in texts), every)


def _text_pattern(vr: str, text: str) -> Pattern:
    text = comparable(text)
    return pattern(text) if vr in WILD_CARD_VRS else Literal(text)


def _uid(tag: int, _vr: str, texts: tuple[str, ...]) -> Key:
    if not all(len(text) <= 64 and _UID.fullmatch(text) for text in texts):
        raise InvalidIdentifier(f"{keyword_of(tag)} is not a UID", tag)
    return UIDKey(tag, texts)


def _decimal(tag: int, _vr: str, texts: tuple[str, ...]) -> Key:
    if not all(DECIMAL.fullmatch(text) for text in texts):
        raise InvalidIdentifier(f"{keyword_of(tag)} is not a number", tag)
    return NumberKey(tag, tuple(float(text) for text in texts))


def _moment(tag: int, vr: str, texts: tuple[str, ...]) -> Key:
    try:
        return RangeKey(tag, vr, tuple(moments.interval(vr, text) for text in texts))
    except moments.NoMoment:
        word = {"DA": "date", "TM": "time", "DT": "date-time"}[vr]
        raise InvalidIdentifier(f"{keyword_of(tag)} is no {word} and no range", tag) from None


_MAKERS: dict[str, Callable[[int, str, tuple[str, ...]], Key]] = {
    "UI": _uid,
    **dict.fromkeys(_DECIMAL_VRS, _decimal),
    **dict.fromkeys(_RANGE_VRS, _moment),
}


def _name(tag: int, texts: tuple[str, ...], *, every: bool) -> Key | None:
    names = tuple(tuple(name_pattern(group) if group else None for group in groups(text)) for text in texts)
    if any(not any(name) for name in names) and not every:
        return None
    return NameKey(tag, names, every)


def _sequence(keys: Attributes, tag: int, query: Query) -> Key | None:
    items = keys.sequence(tag)
    if len(items) > 1:
        raise InvalidIdentifier(f"{keyword_of(tag)} as a key has one item", tag)
    nested = _compile_all(items[0], items[0], query) if items else ()
    return SequenceKey(tag, nested) if nested else None


def _combine(compiled: dict[int, Key]) -> None:
    """Put each date and its time together (PS3.4 C.2.2.2.5.4), where both are given as one range."""
    for tag, key in list(compiled.items()):
        time_tag = _time_of(tag)
        time = compiled.get(time_tag) if time_tag else None
        if not isinstance(key, RangeKey) or not isinstance(time, RangeKey) or len(key.ranges) + len(time.ranges) > 2:
            continue
        (first_day, last_day), (first_time, last_time) = key.ranges[0], time.ranges[0]
        earliest = first_day.earliest + (first_time.earliest if first_time else MIDNIGHT) if first_day else ""
        latest = last_day.latest + (last_time.latest if last_time else _LAST_MOMENT) if last_day else ""
        compiled[tag] = CombinedKey(tag, time.tag, earliest, latest)
        del compiled[time.tag]


def _time_of(tag: int) -> int:
    keyword = keyword_of(tag)
    if vr_of(tag) != "DA" or not keyword.endswith("Date"):
        return 0
    try:
        return tag_of(f"{keyword.removesuffix('Date')}Time")
    except KeyError:
        return 0


__all__ = ["Empties", "InvalidIdentifier", "Key", "Matcher", "compile", "unsupported"]

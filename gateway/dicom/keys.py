"""The compiled keys of a query as values: each says what to look for and decides on one entity (PS3.4 C.2.2.2).

An index reads from a key what it can seek (literals, a prefix, the ends of a range in sortable text) and leaves the
rest to ``matches``, which has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dicom import moments
from gateway.dicom.attributes import STRING_VRS, Attributes
from gateway.dicom.moments import Span
from gateway.dicom.names import groups
from gateway.dicom.patterns import Pattern, comparable
from gateway.dicom.tags import vr_of

BINARY_VRS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)?", re.ASCII)
MIDNIGHT = "000000.000000"


@dataclass(frozen=True)
class Empties:
    """What a required key says about an entity that has no value for it.

    Attributes:
        empty: an attribute that is there without a value matches.
        absent: an attribute that is not there at all matches.
    """

    empty: bool = False
    absent: bool = False


@dataclass(frozen=True)
class UIDKey:
    """Single UID and list of UID matching."""

    tag: int
    literals: tuple[str, ...]

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether the entity has one of the UIDs."""
        return any(uid in self.literals for uid in entity.texts(self.tag))


@dataclass(frozen=True)
class TextKey:
    """Single value and wild card matching of text.

    Attributes:
        every: all patterns must be met, not one of them.
    """

    tag: int
    vr: str
    patterns: tuple[Pattern, ...]
    every: bool = False

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether a value of the entity fits a pattern; case counts."""
        values = [comparable(value) for value in entity.texts(self.tag)]
        return _any_or_all(self.every, (any(one.matches(value) for value in values) for one in self.patterns))


@dataclass(frozen=True)
class NameKey:
    """Person name matching.

    Attributes:
        names: alternatives; each has a pattern for each of its component groups, None for one that may be anything.
            An alternative of a single group may be met by any group of the entity's name.
    """

    tag: int
    names: tuple[tuple[Pattern | None, ...], ...]
    every: bool = False

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether a name of the entity fits."""
        found = [groups(value) for value in entity.texts(self.tag)]
        return _any_or_all(self.every, (any(_name_fits(key, name) for name in found) for key in self.names))


@dataclass(frozen=True)
class NumberKey:
    """Single value matching of numbers by value: ``01`` is ``1``; strings of digits and binary numbers alike."""

    tag: int
    numbers: tuple[float, ...]
    every: bool = False

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether the entity has one of the numbers."""
        found = numbers_of(entity, self.tag)
        return _any_or_all(self.every, (number in found for number in self.numbers))


@dataclass(frozen=True)
class RangeKey:
    """Single value and range matching of dates, times and date-times.

    Attributes:
        ranges: alternatives, as (first, last) with both ends included; None is an open end.
    """

    tag: int
    vr: str
    ranges: tuple[tuple[Span | None, Span | None], ...]

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether a value of the entity lies in a range; a value that is no date or time lies in none."""
        for text in entity.texts(self.tag):
            try:
                value = moments.span(self.vr, text)
            except moments.NoMoment:
                continue
            if any(_within(value, first, last) for first, last in self.ranges):
                return True
        return False


@dataclass(frozen=True)
class CombinedKey:
    """A date key and a time key taken together as one range of date-times (PS3.4 C.2.2.2.5.4, when negotiated).

    Attributes:
        tag: of the date.
        earliest: ``YYYYMMDDHHMMSS.FFFFFF``, empty for an open end; ``latest`` likewise.
    """

    tag: int
    time_tag: int
    earliest: str
    latest: str

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether date and time together lie in the range; a missing time is midnight."""
        day = moments.canonical("DA", entity.text(self.tag))
        value = day + (moments.canonical("TM", entity.text(self.time_tag)) or MIDNIGHT)
        return bool(day) and self.earliest <= value and (not self.latest or value <= self.latest)


@dataclass(frozen=True)
class SequenceKey:
    """Sequence matching: one item of the entity must meet all keys of the item."""

    tag: int
    keys: tuple[Key, ...]

    def matches(self, entity: Attributes, empties: Empties) -> bool:
        """Whether an item meets all keys."""
        return any(self.matches_item(item, empties) for item in entity.sequence(self.tag))

    def matches_item(self, item: Attributes, empties: Empties) -> bool:
        """Whether this item is one of those to be returned (PS3.4 C.2.2.3)."""
        return all(holds(key, item, empties) for key in self.keys)


@dataclass(frozen=True)
class EmptyKey:
    """Empty value matching: the entity has no value (PS3.4 C.2.2.2.7, when negotiated)."""

    tag: int

    def matches(self, entity: Attributes, empties: Empties) -> bool:  # noqa: ARG002
        """Whether there is no value."""
        return is_empty(entity, self.tag)


Key = UIDKey | TextKey | NameKey | NumberKey | RangeKey | CombinedKey | SequenceKey | EmptyKey


def numbers_of(entity: Attributes, tag: int) -> tuple[float, ...]:
    """The values of an IS, DS or binary attribute as numbers; what is none is left out."""
    if vr_of(tag) in BINARY_VRS:
        return entity.numbers(tag)
    return tuple(float(text) for text in entity.texts(tag) if DECIMAL.fullmatch(text))


def holds(key: Key, entity: Attributes, empties: Empties) -> bool:
    """Whether an entity meets a key, an entity without a value included."""
    if isinstance(key, EmptyKey) or not is_empty(entity, key.tag):
        return key.matches(entity, empties)
    return empties.empty if key.tag in entity else empties.absent


def is_empty(entity: Attributes, tag: int) -> bool:
    """Whether there is no value, or nothing but padding."""
    element = entity.get(tag)
    if element is None:
        return True
    return not element.value.strip(b" \0") if element.vr in STRING_VRS else not element.value


def _any_or_all(every: bool, verdicts: Iterable[bool]) -> bool:  # noqa: FBT001
    return all(verdicts) if every else any(verdicts)


def _name_fits(key: tuple[Pattern | None, ...], name: tuple[str, ...]) -> bool:
    if len(key) == 1:
        return any(key[0] is None or key[0].matches(group) for group in name)
    return all(
        wanted is None or (position < len(name) and wanted.matches(name[position]))
        for position, wanted in enumerate(key)
    )


def _within(value: Span, first: Span | None, last: Span | None) -> bool:
    return (first is None or _not_before(value, first)) and (last is None or _not_after(value, last))


def _not_before(value: Span, first: Span) -> bool:
    if value.offset is not None and first.offset is not None:
        value, first = value.in_utc(), first.in_utc()
    return value.earliest >= first.earliest


def _not_after(value: Span, last: Span) -> bool:
    if value.offset is not None and last.offset is not None:
        value, last = value.in_utc(), last.in_utc()
    return value.earliest <= last.latest


__all__ = [
    "CombinedKey",
    "Empties",
    "EmptyKey",
    "Key",
    "NameKey",
    "NumberKey",
    "RangeKey",
    "SequenceKey",
    "TextKey",
    "UIDKey",
    "holds",
    "numbers_of",
]

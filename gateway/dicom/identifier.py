"""Identifiers: what a C-FIND, C-MOVE or C-GET request asks for, checked once (PS3.4 C.2, C.4).

A request that breaks the rules becomes :class:`InvalidIdentifier`, which names the offending element and says what
is wrong in words for (0000,0902) Error Comment; the answer is then A900H.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, field
from functools import cached_property

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.models import UNIQUE_KEYS, Level, Model
from gateway.dicom.tags import keyword_of

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_NEVER_KEYS = frozenset(
    {
        tags.QueryRetrieveLevel,
        tags.SpecificCharacterSet,
        tags.TimezoneOffsetFromUTC,
        tags.RetrieveAETitle,
        tags.InstanceAvailability,
    }
)


class InvalidIdentifier(ValueError):
    """An identifier that does not match the SOP class (A900H).

    Attributes:
        comment: for Error Comment (0000,0902), at most 64 characters, without values.
        offending: tags for Offending Element (0000,0901).
    """

    def __init__(self, comment: str, *offending: int) -> None:
        super().__init__(comment)
        self.comment = comment[:64]
        self.offending = offending


@dataclass(frozen=True)
class Negotiated:
    """What extended negotiation settled for a Query/Retrieve SOP class (PS3.4 C.5.1.1)."""

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    timezone: bool = False
    empty_value: bool = False
    multiple_value: bool = False


@dataclass(frozen=True)
class Query:
    """A checked C-FIND identifier.

    Attributes:
        keys: every attribute of the identifier that is a key; Query/Retrieve Level and the like are not among them.
    """

    model: Model
    level: Level
    keys: Attributes
    negotiated: Negotiated = field(default_factory=Negotiated)

    def uids(self, level: Level) -> tuple[str, ...]:
        """The values of a level's unique key; empty when it is universal or absent."""
        values = self.keys.texts(UNIQUE_KEYS[level])
        return () if values == ("*",) else values

    @cached_property
    def canonical(self) -> bytes:
        """The identifier in one spelling: equal queries have equal bytes, return keys included."""
        flags = "".join(str(int(flag)) for flag in astuple(self.negotiated))
        head = f"{self.model.name}/{self.level.name}/{flags}\0"
        return head.encode() + self.keys.encode(implicit=False)


@dataclass(frozen=True)
class Retrieve:
    """A checked C-MOVE or C-GET identifier.

    Attributes:
        uids: for each level that the identifier names, its unique key's values; the request's own level always.
    """

    model: Model
    level: Level
    uids: dict[Level, tuple[str, ...]]


def parse_query(identifier: Attributes, model: Model, negotiated: Negotiated, *, lenient: bool = False) -> Query:
    """Check a C-FIND identifier (PS3.4 C.4.1.2, C.4.1.3).

    Args:
        lenient: accept a missing unique key above the level as if relational queries had been negotiated.

    Raises:
        InvalidIdentifier: no such level in the model, a unique key above it missing or not single, a bad UID.
    """
    level = _level(identifier, model)
    if not (negotiated.relational or lenient):
        for above in _above(model, level):
            _require_single(identifier, above)
    for tag in (tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID):
        values = identifier.texts(tag)
        if values != ("*",):
            _check_uids(tag, values)
    keys = identifier.without([*_NEVER_KEYS, *(tag for tag in identifier if _ignored(tag))])
    kept = {tags.SpecificCharacterSet: identifier[tags.SpecificCharacterSet]} if identifier.terms else {}
    return Query(model, level, Attributes({**keys, **kept}), negotiated)


def parse_retrieve(identifier: Attributes, model: Model, *, relational: bool = False) -> Retrieve:
    """Check a C-MOVE or C-GET identifier (PS3.4 C.4.2.1.4, C.4.2.2.1).

    Raises:
        InvalidIdentifier: no such level, the unique key of the level missing, a wildcard, a bad UID.
    """
    level = _level(identifier, model)
    uids: dict[Level, tuple[str, ...]] = {}
    for above in _above(model, level):
        if not relational:
            _require_single(identifier, above)
        if values := identifier.texts(above.unique_key):
            uids[above] = values
    values = identifier.texts(level.unique_key)
    if not values:
        raise InvalidIdentifier(f"{keyword_of(level.unique_key)} is required", level.unique_key)
    uids[level] = values
    for named, found in uids.items():
        if named is Level.PATIENT:
            _refuse_wildcards(found)
        else:
            _check_uids(named.unique_key, found)
    return Retrieve(model, level, uids)


def _ignored(tag: int) -> bool:
    """Group lengths, private groups and command or file meta tags are no keys."""
    return tag & 0xFFFF == 0 or bool(tag >> 16 & 1) or tag >> 16 in {0x0000, 0x0002}


def _level(identifier: Attributes, model: Model) -> Level:
    name = identifier.text(tags.QueryRetrieveLevel)
    if not name:
        raise InvalidIdentifier("QueryRetrieveLevel is required", tags.QueryRetrieveLevel)
    for level in model.levels:
        if level.name == name:
            return level
    names = ", ".join(level.name for level in model.levels)
    raise InvalidIdentifier(f"{model.value} has {names}", tags.QueryRetrieveLevel)


def _above(model: Model, level: Level) -> tuple[Level, ...]:
    return tuple(one for one in model.levels if one < level)


def _require_single(identifier: Attributes, level: Level) -> None:
    values = identifier.texts(level.unique_key)
    name = keyword_of(level.unique_key)
    if not values:
        raise InvalidIdentifier(f"{name} is required here", level.unique_key)
    if len(values) > 1 or any(char in values[0] for char in "*?"):
        raise InvalidIdentifier(f"{name} above the level must be one value", level.unique_key)


def _refuse_wildcards(values: tuple[str, ...]) -> None:
    if any(char in value for value in values for char in "*?"):
        raise InvalidIdentifier("PatientID in a retrieve has no wildcards", tags.PatientID)


def _check_uids(tag: int, values: tuple[str, ...]) -> None:
    for value in values:
        if len(value) > 64 or not _UID.fullmatch(value):
            raise InvalidIdentifier(f"{keyword_of(tag)} is not a UID", tag)

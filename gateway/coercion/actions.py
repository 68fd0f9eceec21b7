"""Actions on single attributes. Each is a value; ``reads`` and ``writes`` let a plan see ahead.

Actions that take whole sets of attributes from elsewhere stand in ``sources``, those on identity in ``identity``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from typing import Protocol

from gateway.coercion.changes import UTF8
from gateway.coercion.draft import Draft, text_of
from gateway.coercion.formats import Format
from gateway.coercion.nested import change_items
from gateway.coercion.paths import Path
from gateway.coercion.values import checked
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.tags import vr_of


class Action(Protocol):
    """What stands under ``then``."""

    @property
    def reads(self) -> frozenset[int]:
        """Top-level tags whose values in the data set decide what comes out."""

    @property
    def writes(self) -> frozenset[int]:
        """Top-level tags that may be changed."""

    def apply(self, draft: Draft) -> None:
        """Change the draft.

        Raises:
            ValueError: a value cannot be made, or is not one its attribute may have.
        """


@dataclass(frozen=True)
class Set:
    """Set one attribute to a text made by a format."""

    path: Path
    format: Format

    @property
    def reads(self) -> frozenset[int]:
        """What the format looks at, and the sequence that is changed inside."""
        return self.format.reads | ({self.path.top} if self.path.nested else frozenset())

    @property
    def writes(self) -> frozenset[int]:
        """The attribute, or the sequence it stands in."""
        return frozenset({self.path.top})

    def apply(self, draft: Draft) -> None:
        """Set it; an item one past the last is made."""
        element = checked(self.path.tag, self.format.fill(draft))
        change_items(draft, self.path, partial(_with, tag=self.path.tag, element=element))


@dataclass(frozen=True)
class _OnPaths:
    """An action on attributes wherever their paths lead, whatever their values are."""

    paths: tuple[Path, ...]

    @property
    def reads(self) -> frozenset[int]:
        """Only the sequences that are changed inside."""
        return frozenset(path.top for path in self.paths if path.nested)

    @property
    def writes(self) -> frozenset[int]:
        """The attributes, or the sequences they stand in."""
        return frozenset(path.top for path in self.paths)


@dataclass(frozen=True)
class Remove(_OnPaths):
    """Take attributes out, wherever their paths lead."""

    def apply(self, draft: Draft) -> None:
        """Take them out; what is not there needs no action."""
        for path in self.paths:
            if path.nested:
                change_items(draft, path, partial(Attributes.without, tags=[path.tag]), make=False)
            else:
                draft.remove(path.top)


@dataclass(frozen=True)
class Nullify(_OnPaths):
    """Give attributes no value; what is not there becomes there and empty."""

    def apply(self, draft: Draft) -> None:
        """Empty them."""
        for path in self.paths:
            empty = Element(vr_of(path.tag), b"")
            change_items(draft, path, partial(_with, tag=path.tag, element=empty))


@dataclass(frozen=True)
class Default:
    """Set one attribute where it has no value."""

    path: Path
    format: Format

    @property
    def reads(self) -> frozenset[int]:
        """What the format looks at, and the attribute."""
        return self.format.reads | {self.path.top}

    @property
    def writes(self) -> frozenset[int]:
        """The attribute, or the sequence it stands in."""
        return frozenset({self.path.top})

    def apply(self, draft: Draft) -> None:
        """Look at each item by itself."""
        if self.path.nested or not has_value(draft.holder(self.path.tag), self.path.tag):
            element = checked(self.path.tag, self.format.fill(draft))
            change_items(draft, self.path, partial(_where_empty, tag=self.path.tag, element=element))


@dataclass(frozen=True)
class Copy:
    """Copy the first value found at one path to another, as it is where the VRs are the same, else as text."""

    path: Path
    source: Path

    @property
    def reads(self) -> frozenset[int]:
        """The source, and the sequence that is changed inside."""
        return frozenset({self.source.top} | ({self.path.top} if self.path.nested else set()))

    @property
    def writes(self) -> frozenset[int]:
        """The target, or the sequence it stands in."""
        return frozenset({self.path.top})

    def apply(self, draft: Draft) -> None:
        """Nothing is copied from a source without a value."""
        for holder in draft.holders(self.source):
            if has_value(holder, self.source.tag):
                same = vr_of(self.source.tag) == vr_of(self.path.tag)
                found = holder.in_charset(UTF8)[self.source.tag] if same else None
                element = found or checked(self.path.tag, text_of(holder, self.source.tag))
                change_items(draft, self.path, partial(_with, tag=self.path.tag, element=element))
                return


@dataclass(frozen=True)
class Replace:
    r"""Replace what a pattern finds in each value of an attribute.

    Attributes:
        pattern: in Python's syntax; found anywhere in the value.
        text: what is put in, with groups as ``\1`` or ``\g<name>``.
        back: for query keys, a pattern and a text that turn the value in an answer back.
    """

    path: Path
    pattern: re.Pattern[str]
    text: str
    back: tuple[re.Pattern[str], str] | None = None

    @property
    def reads(self) -> frozenset[int]:
        """The attribute."""
        return frozenset({self.path.top})

    @property
    def writes(self) -> frozenset[int]:
        """The attribute, or the sequence it stands in."""
        return frozenset({self.path.top})

    def apply(self, draft: Draft) -> None:
        """Each value by itself; a value that becomes empty stays as an empty one among several."""
        change_values(draft, self.path, lambda one: self.pattern.sub(self.text, one))


@dataclass(frozen=True)
class Table:
    """Values by other values, with the name they go by in the file."""

    name: str
    values: tuple[tuple[str, str], ...]

    @cached_property
    def found(self) -> dict[str, str]:
        """For looking up."""
        return dict(self.values)

    @cached_property
    def backwards(self) -> dict[str, str]:
        """From value to key, where only one key has the value."""
        keys: dict[str, list[str]] = {}
        for key, value in self.values:
            keys.setdefault(value, []).append(key)
        return {value: several[0] for value, several in keys.items() if len(several) == 1}


class Missing(Enum):
    """What becomes of a value that a table does not have."""

    KEEP = "keep"
    EMPTY = "empty"
    FAIL = "fail"


@dataclass(frozen=True)
class Map:
    """Look each value of an attribute up in a table."""

    path: Path
    table: Table
    missing: Missing = Missing.KEEP

    @property
    def reads(self) -> frozenset[int]:
        """The attribute."""
        return frozenset({self.path.top})

    @property
    def writes(self) -> frozenset[int]:
        """The attribute, or the sequence it stands in."""
        return frozenset({self.path.top})

    def apply(self, draft: Draft) -> None:
        """Each value by itself.

        Raises:
            ValueError: a value is not in the table, and that is a failure.
        """
        change_values(draft, self.path, self._looked_up)

    def _looked_up(self, text: str) -> str:
        if text in self.table.found:
            return self.table.found[text]
        if self.missing is Missing.FAIL:
            raise ValueError(f"a value of {self.path} is not in table {self.table.name}")
        return text if self.missing is Missing.KEEP else ""


def change_values(draft: Draft, path: Path, change: Callable[[str], str]) -> None:
    """Change each value of a string attribute, wherever it has one."""

    def changed(holder: Attributes) -> Mapping[int, Element]:
        if not has_value(holder, path.tag):
            return holder
        values = holder.texts(path.tag)
        return {**holder, path.tag: checked(path.tag, "\\".join(change(one) for one in values))}

    if path.nested or has_value(draft.holder(path.tag), path.tag):
        change_items(draft, path, changed, make=False)


def _with(holder: Attributes, *, tag: int, element: Element) -> Mapping[int, Element]:
    return {**holder, tag: element}


def _where_empty(holder: Attributes, *, tag: int, element: Element) -> Mapping[int, Element]:
    return holder if has_value(holder, tag) else {**holder, tag: element}


def has_value(attributes: Attributes, tag: int) -> bool:
    """Whether an attribute is there and not empty."""
    return tag in attributes and bool(attributes[tag].value.strip(b" \0"))

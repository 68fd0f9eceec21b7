"""Actions: what a rule does to a draft. Each is a value; ``reads`` and ``writes`` let a plan see ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from gateway.coercion.changes import UTF8
from gateway.coercion.draft import Draft
from gateway.coercion.formats import Format
from gateway.coercion.nested import change_items
from gateway.coercion.paths import Path
from gateway.coercion.values import checked
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.models import PATIENT_ATTRIBUTES, STUDY_ATTRIBUTES

SETS = {"patient": PATIENT_ATTRIBUTES, "study": STUDY_ATTRIBUTES - {tags.StudyInstanceUID}}
"""Attribute sets by name. A UID of the hierarchy is changed by a UID rule only."""


class Policy(Enum):
    """How values from elsewhere meet those that are there (dcm4chee's attribute update policies)."""

    SUPPLEMENT = "supplement"
    """Only where there is no value yet."""
    MERGE = "merge"
    """Each value that is not empty."""
    OVERWRITE = "overwrite"
    """Each value, an empty one as well."""
    PRESERVE = "preserve"
    """None: what is there stays."""


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
        change_items(draft, self.path, lambda holder: {**holder, self.path.tag: element})


@dataclass(frozen=True)
class Remove:
    """Take attributes out, wherever their paths lead."""

    paths: tuple[Path, ...]

    @property
    def reads(self) -> frozenset[int]:
        """Only the sequences that are changed inside."""
        return frozenset(path.top for path in self.paths if path.nested)

    @property
    def writes(self) -> frozenset[int]:
        """The attributes, or the sequences they stand in."""
        return frozenset(path.top for path in self.paths)

    def apply(self, draft: Draft) -> None:
        """Take them out; what is not there needs no action."""
        for path in self.paths:
            if path.nested:
                change_items(draft, path, partial(Attributes.without, tags=[path.tag]), make=False)
            else:
                draft.remove(path.top)


@dataclass(frozen=True)
class FromLeading:
    """Take attributes from the leading archive's answer for the study; nothing where it gave none.

    Attributes:
        sets: names of attribute sets.
        named: further attributes.
    """

    policy: Policy = Policy.MERGE
    sets: tuple[str, ...] = ()
    named: tuple[int, ...] = ()

    @property
    def reads(self) -> frozenset[int]:
        """Supplement asks what is there."""
        return self.writes if self.policy is Policy.SUPPLEMENT else frozenset()

    @property
    def writes(self) -> frozenset[int]:
        """Every attribute of the sets, and the named ones."""
        return frozenset().union(*(SETS[name] for name in self.sets), self.named)

    def apply(self, draft: Draft) -> None:
        """Put the leading archive's values over those of the draft, as the policy says."""
        if draft.context.leading is None or self.policy is Policy.PRESERVE:
            return
        for tag, element in self._taken(draft.context.leading):
            if self.policy is Policy.SUPPLEMENT and has_value(draft.holder(tag), tag):
                continue
            draft.put(tag, element)

    def _taken(self, leading: Attributes) -> Iterator[tuple[int, Element]]:
        for tag, element in leading.only(self.writes).in_charset(UTF8).without([tags.SpecificCharacterSet]).items():
            if self.policy is Policy.OVERWRITE or element.value.strip(b" \0"):
                yield tag, element


def has_value(attributes: Attributes, tag: int) -> bool:
    """Whether an attribute is there and not empty."""
    return tag in attributes and bool(attributes[tag].value.strip(b" \0"))


AnyAction = Set | Remove | FromLeading

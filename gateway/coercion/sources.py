"""Actions that take attributes from elsewhere: the leading archive, or what the file says of a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from gateway.coercion.actions import has_value
from gateway.coercion.changes import UTF8
from gateway.coercion.draft import Draft
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


@dataclass(frozen=True)
class Device:
    """What the file says of the device that has an AE title."""

    aet: str
    attributes: Attributes


@dataclass(frozen=True)
class Supplement:
    """Fill in what the file knows of the device on one side, institution included; only where there is no value.

    Attributes:
        side: ``sending`` or ``receiving``.
    """

    side: str
    devices: tuple[Device, ...]

    @property
    def reads(self) -> frozenset[int]:
        """Every attribute that a device has."""
        return self.writes

    @property
    def writes(self) -> frozenset[int]:
        """Every attribute that a device has."""
        return frozenset(tag for one in self.devices for tag in one.attributes) - {tags.SpecificCharacterSet}

    def apply(self, draft: Draft) -> None:
        """Nothing for an AE title that the file does not know."""
        aet = draft.context.sending if self.side == "sending" else draft.context.receiving
        for device in self.devices:
            if device.aet == aet:
                for tag, element in device.attributes.in_charset(UTF8).without([tags.SpecificCharacterSet]).items():
                    if not has_value(draft.holder(tag), tag):
                        draft.put(tag, element)

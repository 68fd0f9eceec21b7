"""One entity out of what two archives say of it. Pure."""

from __future__ import annotations

from enum import Enum

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.models import LEADING_ATTRIBUTES

_IDENTITY = frozenset({tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID})
_ONLINE = Element("CS", b"ONLINE")
_NEARLINE = Element("CS", b"NEARLINE")


class Availability(Enum):
    """Instance Availability (0008,0056) as this gateway uses it (PS3.3 C.4.23.1.1)."""

    ONLINE = _ONLINE
    """Here, on disk."""
    NEARLINE = _NEARLINE
    """With the leading archive only; a retrieve fetches it through us."""


def merge(local: Attributes, leading: Attributes | None) -> Attributes:
    """The effective attributes of a local entity.

    The leading archive's patient and study attributes win wherever they have a value. One that it returns empty takes
    nothing away: archives return requested keys that they do not support as empty (PS3.4 C.4.1.1.3.2).
    """
    if leading is None:
        return local
    wins = {
        tag: element
        for tag, element in leading.items()
        if element.value and ((tag in LEADING_ATTRIBUTES and tag not in _IDENTITY) or tag == tags.SpecificCharacterSet)
    }
    return local.overlay(Attributes(wins))


def marked(entity: Attributes, availability: Availability) -> Attributes:
    """The entity with its Instance Availability."""
    return entity.plus({tags.InstanceAvailability: availability.value})

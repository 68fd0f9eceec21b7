"""Actions on identity: whose number a Patient ID is, and under which UIDs an instance goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.coercion.actions import Table
from gateway.coercion.changes import UTF8, sequence_of
from gateway.coercion.convert import PIXELS
from gateway.coercion.draft import Draft
from gateway.coercion.formats import uid_from
from gateway.coercion.values import checked
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element, pad
from gateway.dicom.encoding import item, items, write
from gateway.dicom.tags import tag_of

ISSUER = tag_of("IssuerOfPatientID")
QUALIFIERS = tag_of("IssuerOfPatientIDQualifiersSequence")
OTHER_IDS = tag_of("OtherPatientIDsSequence")
ANY_TAG = PIXELS - 1
"""Stands for every tag of a head, in what an action reads."""
_STANDARD = b"1.2.840.10008."
"""The root of the UIDs that the standard itself assigns (PS3.6 Annex A): they name no object."""


@dataclass(frozen=True)
class Issuer:
    """Says who issued the Patient ID (PS3.3 10.14); an issuer that is there already stays unless ``replace``.

    Attributes:
        universal_id: for Issuer of Patient ID Qualifiers Sequence, with its type, such as ISO or DNS.
    """

    name: str
    universal_id: str = ""
    universal_type: str = "ISO"
    replace: bool = False

    @property
    def reads(self) -> frozenset[int]:
        """The issuer that may be there."""
        return frozenset() if self.replace else frozenset({ISSUER})

    @property
    def writes(self) -> frozenset[int]:
        """The issuer and its qualifiers."""
        return frozenset({ISSUER, QUALIFIERS})

    def apply(self, draft: Draft) -> None:
        """Set it."""
        if not self.replace and draft.holder(ISSUER).text(ISSUER):
            return
        draft.put(ISSUER, checked(ISSUER, self.name))
        if self.universal_id:
            draft.put(QUALIFIERS, _qualifiers(self.universal_id, self.universal_type))


@dataclass(frozen=True)
class KeepPatientID:
    """Keeps the Patient ID that the data set came with, and its issuer, in Other Patient IDs Sequence (PS3.3 C.7.1.1).

    Attributes:
        issuer: for an ID that came without one.
        universal_id: its universal name, which qualifies the kept ID.
    """

    issuer: str
    universal_id: str = ""
    universal_type: str = "ISO"

    @property
    def reads(self) -> frozenset[int]:
        """The ID, its issuer, and the IDs kept so far."""
        return frozenset({tags.PatientID, ISSUER, OTHER_IDS})

    @property
    def writes(self) -> frozenset[int]:
        """The sequence of other IDs."""
        return frozenset({OTHER_IDS})

    def apply(self, draft: Draft) -> None:
        """Add an item, unless the ID is still the current one or is among the others already."""
        patient_id, issuer = draft.base.text(tags.PatientID), draft.base.text(ISSUER) or self.issuer
        now = (draft.holder(tags.PatientID).text(tags.PatientID), draft.holder(ISSUER).text(ISSUER) or self.issuer)
        others = list(draft.holder(OTHER_IDS).sequence(OTHER_IDS))
        known = {now, *((one.text(tags.PatientID), one.text(ISSUER)) for one in others)}
        if patient_id and (patient_id, issuer) not in known:
            kept = Attributes.of({"PatientID": patient_id, "IssuerOfPatientID": issuer, "TypeOfPatientID": "TEXT"})
            if self.universal_id and issuer == self.issuer:
                kept = kept.overlay(Attributes({QUALIFIERS: _qualifiers(self.universal_id, self.universal_type)}))
            draft.put(OTHER_IDS, sequence_of([*others, kept]))


def _qualifiers(universal_id: str, universal_type: str) -> Element:
    values = {"UniversalEntityID": universal_id, "UniversalEntityIDType": universal_type}
    return sequence_of([Attributes.of(values)])


@dataclass(frozen=True)
class RemapUIDs:
    """Gives the UIDs of objects new values, the same ones wherever they stand, sequences included.

    UIDs that the standard assigns, such as SOP classes, stay.

    Attributes:
        table: the new UIDs by the old ones, others stay; None makes new ones under 2.25 that follow from the old.
    """

    table: Table | None = None

    @property
    def reads(self) -> frozenset[int]:
        """The whole head: a UID may stand anywhere in it."""
        return frozenset({ANY_TAG})

    @property
    def writes(self) -> frozenset[int]:
        """Any element that holds a UID; what comes of it is known for a single data set only."""
        return frozenset()

    def apply(self, draft: Draft) -> None:
        """Change every UID of the data set.

        Raises:
            InvalidValue: the table has what is no UID.
        """
        for tag in draft.tags():
            if draft.vr(tag) not in {"UI", "SQ"} or tag == tags.SOPClassUID:
                continue
            holder = draft.holder(tag)
            if tag in holder:
                element = holder.in_charset(UTF8)[tag]
                changed = self._element(tag, element)
                if changed != element:
                    draft.put(tag, changed)

    def _element(self, tag: int, element: Element) -> Element:
        vr, value = element
        if vr == "UI" and value:
            return Element(
                "UI", pad("UI", b"\\".join(self._uid(tag, one) for one in value.rstrip(b"\0 ").split(b"\\")))
            )
        if vr == "SQ":
            return Element("SQ", b"".join(item(write(self._item(one).items(), implicit=False)) for one in items(value)))
        return element

    def _item(self, elements: Mapping[int, Element]) -> dict[int, Element]:
        return {tag: self._element(tag, element) for tag, element in elements.items()}

    def _uid(self, tag: int, uid: bytes) -> bytes:
        text = uid.decode("ascii", "replace")
        if uid.startswith(_STANDARD):
            return uid
        if self.table is None:
            return uid_from(text).encode()
        return checked(tag, self.table.found.get(text, text)).value.rstrip(b"\0")

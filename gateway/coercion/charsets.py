"""Actions on the character set: text stays the same, its bytes and Specific Character Set change together."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.coercion.draft import Draft
from gateway.dicom.charset import Terms
from gateway.dicom.tags import SpecificCharacterSet

_EXTENDED = "ISO 2022 IR "


@dataclass(frozen=True)
class ChangeCharset:
    """Write all text in this character set; in ISO_IR 192 where it lacks a character."""

    terms: Terms

    @property
    def reads(self) -> frozenset[int]:
        """Nothing: whatever the set was, it becomes this one."""
        return frozenset()

    @property
    def writes(self) -> frozenset[int]:
        """Text follows when the changes are put in."""
        return frozenset({SpecificCharacterSet})

    def apply(self, draft: Draft) -> None:
        """Leave word for whoever puts the changes in."""
        draft.charset = self.terms


@dataclass(frozen=True)
class TrimISO2022:
    """Declare a single set with code extensions as the same set without (``ISO 2022 IR 100`` as ``ISO_IR 100``).

    Some viewers know only the plain terms; with one set alone the bytes are the same (PS3.3 C.12.1.1.2).
    """

    @property
    def reads(self) -> frozenset[int]:
        """The character set as it is."""
        return frozenset({SpecificCharacterSet})

    @property
    def writes(self) -> frozenset[int]:
        """The character set."""
        return frozenset({SpecificCharacterSet})

    def apply(self, draft: Draft) -> None:
        """Several sets stay as they are: they need their escape sequences."""
        terms = draft.base.terms
        if len(terms) == 1 and terms[0].startswith(_EXTENDED):
            number = terms[0].removeprefix(_EXTENDED)
            if number not in {"87", "149", "58", "159"}:  # multi-byte: there is no plain term
                draft.charset = ("ISO_IR " + number,)

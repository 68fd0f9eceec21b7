"""Rejection notes: deletion over DICOM (IHE Radiology, Imaging Object Change Management).

A Key Object Selection whose document title is one of four says that the instances of its evidence are to be hidden or
deleted. :func:`read_note` is pure; :mod:`~gateway.commitment.notes` takes notes out of the stream of C-STORE requests;
:mod:`~gateway.commitment.withheld` leaves out what a leading archive goes on offering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gateway.commitment.messages import (
    Reference,
    ReferencedSOPClassUID,
    ReferencedSOPInstanceUID,
    ReferencedSOPSequence,
)
from gateway.dicom.attributes import Attributes

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
"""Key Object Selection Document Storage."""

_CodeValue, _CodingSchemeDesignator = 0x00080100, 0x00080102
_ReferencedSeriesSequence = 0x00081115
_ConceptNameCodeSequence = 0x0040A043
_CurrentRequestedProcedureEvidenceSequence = 0x0040A375


class Title(Enum):
    """Document titles that make a Key Object Selection a rejection note (PS3.16 CID 7011), by DCM code value."""

    QUALITY = "113001"
    """Rejected for Quality Reasons."""
    PATIENT_SAFETY = "113037"
    """Rejected for Patient Safety Reasons."""
    WORKLIST = "113038"
    """Incorrect Modality Worklist Entry."""
    RETENTION = "113039"
    """Data Retention Policy Expired."""


class Action(Enum):
    """What a rejection note does to the instances it names."""

    IGNORE = "ignore"
    """Nothing; the note is stored like any other document."""
    HIDE = "hide"
    """No query, retrieve or commitment knows them any more; their files stay on the disk."""
    DELETE = "delete"
    """Their files are removed, too."""


class OnResend(Enum):
    """What happens when a rejected instance is stored again."""

    RESTORE = "restore"
    """It is stored, and rejected no longer."""
    REFUSE = "refuse"
    """Not authorised (0124H)."""
    IGNORE = "ignore"
    """Success is said and nothing is stored, for senders that would try for ever."""


@dataclass(frozen=True)
class Rules:
    """What is done with rejection notes.

    Attributes:
        keep_notes: whether the notes that hide or delete are stored as documents of their studies.
    """

    actions: Mapping[Title, Action]
    on_resend: OnResend = OnResend.RESTORE
    keep_notes: bool = True


@dataclass(frozen=True)
class Note:
    """A rejection note.

    Attributes:
        references: what its evidence names, each once.
    """

    title: Title
    references: tuple[Reference, ...]


def read_note(document: Attributes) -> Note | None:
    """The rejection note in a Key Object Selection; None for one with another title."""
    for code in document.sequence(_ConceptNameCodeSequence):
        value = code.text(_CodeValue)
        if code.text(_CodingSchemeDesignator) == "DCM" and value in {one.value for one in Title}:
            return Note(Title(value), tuple(dict.fromkeys(_evidence(document))))
    return None


def _evidence(document: Attributes) -> list[Reference]:
    return [
        Reference(instance.text(ReferencedSOPClassUID), instance.text(ReferencedSOPInstanceUID))
        for study in document.sequence(_CurrentRequestedProcedureEvidenceSequence)
        for series in study.sequence(_ReferencedSeriesSequence)
        for instance in series.sequence(ReferencedSOPSequence)
    ]

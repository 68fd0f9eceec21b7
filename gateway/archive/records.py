"""Directory records made from what the index knows (PS3.3 F.5)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pydicom.uid import UID

from gateway.archive import layout
from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes, Element, element_of, pad
from gateway.dicom.encoding import MalformedDataset
from gateway.dicom.tags import tag_of, vr_of


def _keys(keywords: str) -> tuple[int, ...]:
    return tuple(tag_of(keyword) for keyword in keywords.split())


_PATIENT = _keys("SpecificCharacterSet PatientName PatientID")
_STUDY = _keys("SpecificCharacterSet StudyDate StudyTime AccessionNumber StudyDescription StudyInstanceUID StudyID")
_SERIES = _keys("SpecificCharacterSet Modality SeriesInstanceUID SeriesNumber")
_MORE = {
    "PATIENT": _keys("PatientBirthDate PatientSex"),
    "STUDY": _keys("ReferringPhysicianName"),
    "SERIES": _keys("SeriesDate SeriesTime SeriesDescription InstitutionName BodyPartExamined"),
}
_REQUIRED = {"PATIENT": _PATIENT[1:], "STUDY": _STUDY[1:], "SERIES": _SERIES[1:]}
_INSTANCE = frozenset(
    _keys(
        """SpecificCharacterSet ImageType InstanceNumber ContentDate ContentTime AcquisitionDate AcquisitionTime
        AcquisitionDateTime ConceptNameCodeSequence ReferencedSeriesSequence NumberOfFrames Rows Columns
        CompletionFlag VerificationFlag VerificationDateTime ContentLabel ContentDescription ContentCreatorName
        PresentationCreationDate PresentationCreationTime DoseSummationType DoseComment StructureSetLabel
        StructureSetDate StructureSetTime RTPlanLabel RTPlanDate RTPlanTime TreatmentDate TreatmentTime DocumentTitle
        MIMETypeOfEncapsulatedDocument HL7InstanceIdentifier BlendingSequence"""
    )
)
_DATES = _keys("SeriesDate AcquisitionDate ContentDate")
_INSTANCE_NUMBER = tags.InstanceNumber

_TYPES = {
    "RT Dose Storage": "RT DOSE",
    "RT Structure Set Storage": "RT STRUCTURE SET",
    "RT Plan Storage": "RT PLAN",
    "RT Ion Plan Storage": "RT PLAN",
    "Key Object Selection Document Storage": "KEY OBJECT DOC",
    "Raw Data Storage": "RAW DATA",
    "MR Spectroscopy Storage": "SPECTROSCOPY",
    "Spatial Registration Storage": "REGISTRATION",
    "Deformable Spatial Registration Storage": "REGISTRATION",
    "Spatial Fiducials Storage": "FIDUCIAL",
    "Real World Value Mapping Storage": "VALUE MAP",
    "Stereometric Relationship Storage": "STEREOMETRIC",
    "Surface Segmentation Storage": "SURFACE",
    "Tractography Results Storage": "TRACT",
    "Content Assessment Results Storage": "ASSESSMENT",
    "Hanging Protocol Storage": "HANGING PROTOCOL",
}
_ENDINGS = (
    ("Treatment Record Storage", "RT TREAT RECORD"),
    ("Waveform Storage", "WAVEFORM"),
    ("Presentation State Storage", "PRESENTATION"),
    ("Presentation State SOP Class", "PRESENTATION"),
    ("SR Storage", "SR DOCUMENT"),
    ("Dose SR Storage", "SR DOCUMENT"),
    ("Log Storage", "SR DOCUMENT"),
    ("Measurements Storage", "MEASUREMENT"),
    ("Segmentation Storage", "IMAGE"),
)


@lru_cache(maxsize=1024)
def type_of(sop_class_uid: str) -> str:
    """The Directory Record Type of a SOP class; PRIVATE for one that is unknown (PS3.3 F.4)."""
    name = UID(sop_class_uid).name
    if name in _TYPES:
        return _TYPES[name]
    if name.startswith("Encapsulated "):
        return "ENCAP DOC"
    for ending, record_type in _ENDINGS:
        if name.endswith(ending):
            return record_type
    return "IMAGE" if "Image Storage" in name else "PRIVATE"


def parent(record_type: str, blob: bytes, below: Iterable[bytes] = ()) -> bytes:
    """The body of a PATIENT, STUDY or SERIES record.

    A required key that is missing is there, empty: no C-STORE is refused for the sake of the DICOMDIR. A missing study
    date is taken from the first series or instance.

    Args:
        below: attributes of entities below, from the top.
    """
    mine = Attributes.decode(blob, implicit=False)
    wanted = (tags.SpecificCharacterSet, *_REQUIRED[record_type], *_MORE[record_type])
    kept = {tag: mine[tag] for tag in wanted if tag in mine}
    if record_type == "STUDY" and not mine.text(tags.StudyDate):
        kept.update(_dated(below))
    for tag in _REQUIRED[record_type]:
        kept.setdefault(tag, Element(vr_of(tag), b""))
    return _front(record_type) + encoding.write(sorted(kept.items()), implicit=False)


def _dated(below: Iterable[bytes]) -> dict[int, Element]:
    for blob in below:
        lower = Attributes.decode(blob, implicit=False)
        for tag in _DATES:
            if text := lower.text(tag):
                return {tags.StudyDate: element_of(tags.StudyDate, text, ())}
    return {}


def instance(sop_class: str, sop_instance: str, transfer_syntax: str, file_id: str, blob: bytes) -> bytes:
    """The body of a record that refers to a file."""
    record_type = type_of(sop_class)
    try:
        mine = Attributes.decode(blob, implicit=False)
    except MalformedDataset:
        mine = Attributes()  # imported so; the object itself has it
    kept = {tag: element for tag, element in mine.items() if tag in _INSTANCE}
    kept.setdefault(_INSTANCE_NUMBER, Element("IS", b""))
    front = {
        layout.TYPE: _text("CS", record_type),
        layout.FILE_ID: _text("CS", file_id.replace("/", "\\")),
        layout.SOP_CLASS: _text("UI", sop_class),
        layout.SOP_INSTANCE: _text("UI", sop_instance),
        layout.TRANSFER_SYNTAX: _text("UI", transfer_syntax),
    }
    if record_type == "PRIVATE":
        front[layout.PRIVATE_UID] = _text("UI", sop_class)
    return encoding.write(sorted({**front, **kept}.items()), implicit=False)


def _front(record_type: str) -> bytes:
    return encoding.write([(layout.TYPE, _text("CS", record_type))], implicit=False)


def _text(vr: str, text: str) -> Element:
    return Element(vr, pad(vr, text.encode("ascii", "replace")))

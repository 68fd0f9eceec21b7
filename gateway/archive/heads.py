"""The head of an object file: File Meta Information and the attributes in front of bulk data (PS3.10 7.1).

The file is mapped, so only the pages of the head are read, whatever the size of the pixel data.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

from gateway.archive import syntax
from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes, Element, MalformedDataset
from gateway.dicom.models import COMPUTED_ATTRIBUTES, Level, level_of
from gateway.dicom.tags import tag_of
from gateway.errors import BadInstance, StorageError

_STOPS = (tag_of("ContentTemplateSequence"), 0x00290000, 0x00210000)
"""Behind the last attribute wanted (a report's content tree comes later), and nearer stops for malformed files."""

_INFLATED = 1 << 20
_MAX_VALUE = 1 << 16
"""Longer values are bulk data, or an attack, and not for the index."""

_KEYWORDS = """SpecificCharacterSet ImageType InstanceCreationDate InstanceCreationTime SOPClassUID
    SOPInstanceUID AcquisitionDate ContentDate AcquisitionDateTime AcquisitionTime ContentTime
    ConceptNameCodeSequence ReferencedSeriesSequence ReferencedImageSequence AcquisitionNumber InstanceNumber
    ImagePositionPatient ImageOrientationPatient TemporalPositionIdentifier NumberOfTemporalPositions
    SliceLocation ImageComments SliceThickness ContrastBolusAgent EchoTime RepetitionTime KVP
    NumberOfFrames Rows Columns BitsAllocated SamplesPerPixel PhotometricInterpretation PixelSpacing
    LossyImageCompression CompletionFlag VerificationFlag VerificationDateTime VerifyingObserverSequence
    ContentLabel ContentDescription ContentCreatorName PresentationCreationDate PresentationCreationTime
    DoseSummationType DoseComment StructureSetLabel StructureSetDate StructureSetTime RTPlanLabel RTPlanDate RTPlanTime
    TreatmentDate TreatmentTime DocumentTitle MIMETypeOfEncapsulatedDocument HL7InstanceIdentifier
    DataPointRows DataPointColumns BlendingSequence SynchronizationTrigger AcquisitionTimeSynchronized"""
IMAGE_ATTRIBUTES = frozenset(tag_of(keyword) for keyword in _KEYWORDS.split())
"""Attributes of the instance itself that the index keeps: those of directory records, and what viewers ask for."""


@dataclass(frozen=True)
class Head:
    """What a DICOM file says of itself.

    Attributes:
        size: of the whole file in bytes.
        dataset_offset: where the data set begins.
        attributes: those in front of bulk data that any level of the index keeps.
    """

    transfer_syntax_uid: str
    size: int
    dataset_offset: int
    attributes: Attributes

    def of(self, level: Level) -> Attributes:
        """The attributes that belong to one level, with the character set they are written in."""
        if level is Level.IMAGE:
            return self.attributes.only(IMAGE_ATTRIBUTES)
        return self.attributes.only(
            tag for tag in self.attributes if level_of(tag) is level and tag not in COMPUTED_ATTRIBUTES
        )


def read_head(path: Path) -> Head:
    """Read the head of a DICOM file.

    Raises:
        BadInstance: it is none.
        FileNotFoundError: there is no such file.
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _head(file.fileno())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"an object cannot be read: {error.strerror}") from error


def head_of(fd: int) -> Head:
    """Like :func:`read_head`, for a file that is open already."""
    try:
        return _head(fd)
    except OSError as error:
        raise StorageError(f"an object cannot be read: {error.strerror}") from error


def _head(fd: int) -> Head:
    try:
        mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise BadInstance("the file is empty") from error
    view = memoryview(mapped)
    try:
        meta, offset = _meta(view)
        if 0x00020010 not in meta:
            raise BadInstance("File Meta Information has no Transfer Syntax UID")
        uid = meta[0x00020010].value.decode("latin-1").strip("\0 ")
        elements = _elements(view[offset:], uid)
    except MalformedDataset as error:
        raise BadInstance(f"no readable data set: {error.reason}") from error
    kept = {tag: one for tag, one in elements.items() if _kept(tag, one)}
    return Head(uid, len(view), offset, Attributes(kept))


def _kept(tag: int, element: Element) -> bool:
    if len(element.value) > _MAX_VALUE:
        return False
    return tag in IMAGE_ATTRIBUTES or (level_of(tag) is not Level.IMAGE and tag not in COMPUTED_ATTRIBUTES)


def _meta(view: memoryview) -> tuple[dict[int, Element], int]:
    if bytes(view[128:132]) != b"DICM":
        raise BadInstance("the file has no DICM prefix")
    meta, read = encoding.read(view[132:], implicit=False, stop=0x00030000)
    return meta, 132 + read


def _elements(body: memoryview, uid: str) -> dict[int, Element]:
    failure: MalformedDataset | None = None
    for stop in _STOPS:
        try:
            return _read(body, uid, stop)
        except MalformedDataset as error:
            failure = error
    assert failure is not None
    raise failure


def _read(body: memoryview, uid: str, stop: int) -> dict[int, Element]:
    if uid == syntax.EXPLICIT_BIG:
        return syntax.read_big_endian(body, stop=stop)[0]
    if uid == syntax.DEFLATED:
        inflated = zlib.decompressobj(-15).decompress(body, _INFLATED)
        return encoding.read(inflated, implicit=False, stop=stop)[0]
    return encoding.read(body, implicit=uid == syntax.IMPLICIT_LITTLE, stop=stop)[0]


def required_uids(attributes: Attributes) -> tuple[str, str, str, str]:
    """SOP Class, SOP Instance, Study and Series Instance UID.

    Raises:
        BadInstance: one of them is missing or no UID.
    """
    found = tuple(
        attributes.text(tag)
        for tag in (tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID)
    )
    for tag, uid in zip(("SOPClass", "SOPInstance", "StudyInstance", "SeriesInstance"), found, strict=True):
        if not uid or len(uid) > 64 or uid.strip("0123456789."):
            raise BadInstance(f"{tag}UID is missing or no UID")
    return found[0], found[1], found[2], found[3]

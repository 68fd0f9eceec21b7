"""The head of an object file: File Meta Information and the attributes in front of bulk data (PS3.10 7.1).

Only the head is read, in growing parts, whatever the size of the pixel data. Nothing is mapped: a disk that fails under
a map ends the process by a signal.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from gateway.archive import syntax
from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes, Element, MalformedDataset
from gateway.dicom.models import COMPUTED_ATTRIBUTES, Level, level_of
from gateway.dicom.tags import keyword_of, tag_of
from gateway.errors import BadInstance, StorageError

_STOPS = (tag_of("ContentTemplateSequence"), 0x00290000, 0x00210000)
"""Behind the last attribute wanted (a report's content tree comes later), and nearer stops for malformed files."""

_PARTS = (1 << 15, 1 << 19, 1 << 25)
_INFLATED = 1 << 20
_MAX_VALUE = 1 << 16
"""Longer values are bulk data, or an attack, and not for the index."""

_UIDS = (tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID)
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


class Meta(NamedTuple):
    """What is needed of a file's meta information.

    Attributes:
        dataset_offset: where the data set begins.
    """

    transfer_syntax_uid: str
    dataset_offset: int


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

    @cached_property
    def uids(self) -> tuple[str, str, str, str]:
        """SOP Class, SOP Instance, Study and Series Instance UID.

        Raises:
            BadInstance: one of them is missing or no UID.
        """
        found = tuple(self.attributes.text(tag) for tag in _UIDS)
        for tag, uid in zip(_UIDS, found, strict=True):
            if not uid or len(uid) > 64 or uid.strip("0123456789."):
                raise BadInstance(f"{keyword_of(tag)} is missing or no UID")
        return found[0], found[1], found[2], found[3]

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


def head_of(fd: int, meta: Meta | None = None) -> Head:
    """Like :func:`read_head`, for a file that is open already.

    Args:
        meta: what its File Meta Information says, where that is known.
    """
    try:
        return _head(fd, meta)
    except OSError as error:
        raise StorageError(f"an object cannot be read: {error.strerror}") from error


def _head(fd: int, meta: Meta | None = None) -> Head:
    """Read as little as it takes: most heads end within the first part."""
    size = os.fstat(fd).st_size
    for part in _PARTS:
        try:
            head = _parse(os.pread(fd, part, 0), size, meta, last=part == _PARTS[-1])
        except MalformedDataset as error:
            if part >= size or part == _PARTS[-1]:
                raise BadInstance(f"no readable data set: {error.reason}") from error
            continue
        if head is not None:
            return head
    raise AssertionError("the last part returns or raises")


def _parse(data: bytes, size: int, meta: Meta | None, *, last: bool) -> Head | None:
    """The head out of a file's first bytes; None when it goes on behind them."""
    whole = last or len(data) == size
    uid, offset = meta or _meta(data)
    elements, complete = _elements(data[offset:], uid, whole=whole)
    if not complete and not whole:
        return None
    return Head(uid, size, offset, Attributes({tag: one for tag, one in elements.items() if _kept(tag, one)}))


def _kept(tag: int, element: Element) -> bool:
    if len(element.value) > _MAX_VALUE:
        return False
    return tag in IMAGE_ATTRIBUTES or _is_above(tag)


@lru_cache(maxsize=4096)
def _is_above(tag: int) -> bool:
    """Whether an attribute is one of the levels above the instance, and stored there."""
    return level_of(tag) is not Level.IMAGE and tag not in COMPUTED_ATTRIBUTES


def _meta(data: bytes) -> Meta:
    if data[128:132] != b"DICM":
        raise BadInstance("the file has no DICM prefix")
    meta, read = encoding.read(memoryview(data)[132:], implicit=False, stop=0x00030000)
    if 0x00020010 not in meta:
        raise BadInstance("File Meta Information has no Transfer Syntax UID")
    return Meta(meta[0x00020010].value.decode("latin-1").strip("\0 "), 132 + read)


def _elements(body: bytes, uid: str, *, whole: bool) -> tuple[dict[int, Element], bool]:
    """The elements in front of a stop, and whether that stop was reached."""
    for stop in _STOPS if whole else _STOPS[:1]:
        try:
            return _read(body, uid, stop)
        except MalformedDataset:
            if not whole or stop == _STOPS[-1]:
                raise
    raise AssertionError("the last stop returns or raises")


def _read(body: bytes, uid: str, stop: int) -> tuple[dict[int, Element], bool]:
    if uid == syntax.EXPLICIT_BIG:
        elements, end = syntax.read_big_endian(memoryview(body), stop=stop)
        return elements, end < len(body)
    if uid == syntax.DEFLATED:
        body = zlib.decompressobj(-15).decompress(body, _INFLATED)
    elements, end = encoding.read(body, implicit=uid == syntax.IMPLICIT_LITTLE, stop=stop)
    return elements, end < len(body)

"""Another transfer syntax without loss, for a destination that refuses the stored one.

The targets are explicit and implicit VR little endian, which every peer reads. Between these two only the head is
written anew and the pixel data stays in the file, whatever its size. Deflated, big endian and losslessly compressed
instances are decoded in memory, up to :data:`MAX_IN_MEMORY`. Of a decompressed image the pixel data and the three
attributes that describe its layout change, and every other element stays as it was, byte for byte; RLE, JPEG, JPEG-LS
and JPEG 2000 need the ``transcode`` extra. A lossy image is not decoded here.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from gateway.coercion.convert import decoded
from gateway.coercion.heads import syntax_of
from gateway.dicom import tags
from gateway.dicom.attributes import pad
from gateway.dicom.encoding import UNDEFINED, Element, MalformedDataset, item, items, read, write
from gateway.dicom.instance import Outgoing
from gateway.dimse.ports import StoreChannel
from gateway.errors import BadInstance, StorageError
from gateway.retrieve.contexts import EXPLICIT_VR_LITTLE_ENDIAN, FALLBACKS, IMPLICIT_VR_LITTLE_ENDIAN

MAX_IN_MEMORY = 512 << 20
"""Bytes of a data set that is decoded as a whole; larger ones fail alone. Orthanc and dcm4che decode in memory too."""

EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
COMPRESSED = frozenset(
    {
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.57",  # JPEG lossless, process 14
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    }
)
SOURCES = COMPRESSED | {*FALLBACKS, EXPLICIT_VR_BIG_ENDIAN, DEFLATED}

_PIXELS = 0x7FE00000
_FIRST_READ = 64 << 10
_PixelRepresentation = 0x00280103
_PhotometricInterpretation = 0x00280004
_PlanarConfiguration = 0x00280006
_BitsAllocated = 0x00280100
_NumberOfFrames = 0x00280008
_DECODER_ERRORS = (
    ArithmeticError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError, struct.error,
)  # fmt: skip


def target_for(outgoing: Outgoing, channel: StoreChannel) -> str | None:
    """A transfer syntax that the channel takes and the instance can be had in without loss; None if there is none."""
    if outgoing.transfer_syntax_uid not in SOURCES:
        return None
    return next((one for one in FALLBACKS if channel.accepts(outgoing.sop_class_uid, one)), None)


def transcode(outgoing: Outgoing, target: str) -> Outgoing:
    """The same instance in another transfer syntax.

    Args:
        target: explicit or implicit VR little endian.

    Raises:
        BadInstance: it is not what it claims to be, too large to be decoded, or its decoder is not installed.
        StorageError: its file cannot be read.
    """
    try:
        if outgoing.transfer_syntax_uid in FALLBACKS:
            return _recode(outgoing, target)
        return _whole(outgoing, target, _encode(_decode(outgoing), target))
    except MalformedDataset as error:
        raise BadInstance(f"instance cannot be transcoded: {error.reason}") from error


def _encode(elements: dict[int, Element], target: str) -> bytes:
    return write(sorted(elements.items()), implicit=target == IMPLICIT_VR_LITTLE_ENDIAN)


def _whole(outgoing: Outgoing, target: str, data: bytes) -> Outgoing:
    return Outgoing(outgoing.sop_class_uid, outgoing.sop_instance_uid, target, data, outgoing.path, 0, 0)


def _recode(outgoing: Outgoing, target: str) -> Outgoing:
    """Between the two little endian syntaxes: a new head, the same pixel data."""
    implicit = outgoing.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    total = len(outgoing.head) + outgoing.length
    elements, end, data = _read_head(outgoing, implicit=implicit)
    elements = _signed(elements) if implicit else elements
    head = write(elements.items(), implicit=not implicit)
    if end == total:
        return _whole(outgoing, target, head)
    tag, vr, length, body = _pixel_header(data, end, implicit=implicit)
    if length == UNDEFINED or body + length != total:  # something stands behind the pixel data
        everything = _decode(outgoing)
        return _whole(outgoing, target, _encode(_signed(everything) if implicit else everything, target))
    head += _pixel_start(tag, vr, length, implicit=not implicit) + outgoing.head[body:]
    skipped = max(0, body - len(outgoing.head))
    return Outgoing(
        outgoing.sop_class_uid,
        outgoing.sop_instance_uid,
        target,
        head,
        outgoing.path,
        outgoing.offset + skipped,
        outgoing.length - skipped,
    )


def _read_head(outgoing: Outgoing, *, implicit: bool) -> tuple[dict[int, Element], int, bytes]:
    """The elements before the pixel data, where they end, and the bytes at hand: 12 behind that end at least."""
    total = len(outgoing.head) + outgoing.length
    size = len(outgoing.head) + _FIRST_READ
    while True:
        data = _bytes_of(outgoing, min(size, total))
        try:
            elements, end = read(data, implicit=implicit, stop=_PIXELS)
            if end + 12 <= len(data) or len(data) == total:
                return elements, end, data
        except MalformedDataset:
            if len(data) == total:
                raise
        size = min(4 * size, total)
        if size > MAX_IN_MEMORY:
            raise MalformedDataset("the head does not end", size)


def _pixel_header(data: bytes, pos: int, *, implicit: bool) -> tuple[int, str, int, int]:
    """Tag, VR and length of the element at ``pos``, and where its value begins."""
    group, element, code = struct.unpack_from("<HH2s", data, pos)
    if implicit:
        return group << 16 | element, "OW", struct.unpack_from("<L", data, pos + 4)[0], pos + 8
    return group << 16 | element, code.decode("latin-1"), struct.unpack_from("<L", data, pos + 8)[0], pos + 12


def _pixel_start(tag: int, vr: str, length: int, *, implicit: bool) -> bytes:
    if implicit:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
    return struct.pack("<HH2s2xL", tag >> 16, tag & 0xFFFF, vr.encode("latin-1"), length)


def _decode(outgoing: Outgoing) -> dict[int, Element]:
    """Every element in memory, pixel data uncompressed."""
    syntax_uid = outgoing.transfer_syntax_uid
    if len(outgoing.head) + outgoing.length > MAX_IN_MEMORY:
        raise BadInstance("instance is too large to be transcoded")
    data = _bytes_of(outgoing, len(outgoing.head) + outgoing.length)
    if syntax_uid in COMPRESSED:
        return _decompress(data, syntax_uid)
    if syntax_uid == DEFLATED:
        data = _inflate(data)
    elements = dict(decoded(data, syntax_of(EXPLICIT_VR_LITTLE_ENDIAN if syntax_uid == DEFLATED else syntax_uid)))
    bits = elements.get(_BitsAllocated)
    if syntax_uid == EXPLICIT_VR_BIG_ENDIAN and bits and int.from_bytes(bits.value, "little") > 16:
        # PS3.5 swaps OW by words, some writers swap whole pixels, and nothing in the file tells which was done.
        raise BadInstance("byte order of pixels over 16 bits is ambiguous")
    return elements


def _inflate(data: bytes) -> bytes:
    """A deflated data set (PS3.5 A.5), but never more than fits: 600 KB can hold a gigabyte."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data, MAX_IN_MEMORY)
    except zlib.error:
        raise MalformedDataset("not a deflate stream", 0) from None
    if stream.unconsumed_tail or not stream.eof:
        raise MalformedDataset("the deflate stream is too long or does not end", len(plain))
    return plain


def _decompress(data: bytes, syntax_uid: str) -> dict[int, Element]:
    """An image whose frames are losslessly compressed; photometric interpretation as the decoder leaves it."""
    elements, _ = read(data, implicit=False, stop=_PIXELS)
    try:
        image = read_dataset(BytesIO(data), is_implicit_VR=False, is_little_endian=True)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = UID(syntax_uid)
        image.decompress(as_rgb=False, generate_instance_uid=False)
        return elements | _layout(image)
    except _DECODER_ERRORS as error:
        raise BadInstance(f"pixel data cannot be decompressed ({type(error).__name__})") from error


def _layout(image: Dataset) -> dict[int, Element]:
    changed = {
        _PhotometricInterpretation: Element("CS", pad("CS", image.PhotometricInterpretation.encode("ascii"))),
        tags.PixelData: Element(image["PixelData"].VR, image.PixelData),
    }
    if "PlanarConfiguration" in image:
        changed[_PlanarConfiguration] = Element("US", struct.pack("<H", image.PlanarConfiguration))
    if "NumberOfFrames" in image:
        changed[_NumberOfFrames] = Element("IS", pad("IS", str(image.NumberOfFrames).encode("ascii")))
    return changed


def _signed(elements: dict[int, Element]) -> dict[int, Element]:
    """Elements read from implicit VR whose VR depends on Pixel Representation (PS3.5 A.1), nested ones too."""
    representation = elements.get(_PixelRepresentation)
    if representation is None or representation.value != b"\x01\x00":
        return elements
    return dict(_with_signs(elements.items()))


def _with_signs(elements: Iterable[tuple[int, Element]]) -> Iterable[tuple[int, Element]]:
    for tag, element in elements:
        if element.vr == "US" and "SS" in dictionary_VR(tag):
            yield tag, Element("SS", element.value)
        elif element.vr == "SQ":
            value = b"".join(
                item(write(_with_signs(sorted(one.items())), implicit=False)) for one in items(element.value)
            )
            yield tag, Element("SQ", value)
        else:
            yield tag, element


def _bytes_of(outgoing: Outgoing, size: int) -> bytes:
    """The first bytes of the data set as it would be sent."""
    missing = size - len(outgoing.head)
    if missing <= 0:
        return outgoing.head[:size]
    try:
        fd = os.open(outgoing.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            rest = b""
            while len(rest) < missing and (some := os.pread(fd, missing - len(rest), outgoing.offset + len(rest))):
                rest += some
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError("a stored instance cannot be read") from error
    if len(rest) < missing:
        raise MalformedDataset("the file is shorter than the index says", len(rest))
    return outgoing.head + rest

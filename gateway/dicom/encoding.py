"""Little endian data sets as bytes: a lean reader and writer for heads and identifiers (PS3.5 section 7).

Elements are read into :class:`Element` values whose sequences are kept as bytes in one canonical form, explicit
VR little endian with defined lengths, so that two encodings of the same data set compare equal and a value can
be spliced into any data set. Pixel data never passes through here: callers stop before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from gateway.dicom.tags import vr_of

MAX_DEPTH = 64
"""Sequences nested deeper are refused: deep nesting is an attack, never an image (CVE-2026-10528)."""

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
LONG_BYTES = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT_VRS = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
SHORT_BYTES = frozenset(_SHORT_VRS.encode().split())
_SHORT_NAMES = {vr.encode(): vr for vr in _SHORT_VRS.split()}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_TAG = Struct("<HH")
_IMPLICIT = Struct("<HHL")
_EXPLICIT_SHORT = Struct("<HH2sH")
_EXPLICIT_LONG = Struct("<HH2s2xL")
_LENGTH = Struct("<L")


class MalformedDataset(ValueError):
    """Bytes that are no data set; ``offset`` says where reading stopped."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at byte {offset}")
        self.reason = reason
        self.offset = offset


class Element(NamedTuple):
    """One attribute's VR and its value as even-length little endian bytes."""

    vr: str
    value: bytes


def read(data: bytes | memoryview, *, implicit: bool, stop: int = 1 << 32) -> tuple[dict[int, Element], int]:
    """Read the elements whose tag is below ``stop``.

    Returns:
        The elements by tag, and the offset of the first byte not read.

    Raises:
        MalformedDataset: a length runs past the end, tags are not a data set's, or nesting is too deep.
    """
    elements, pos = ({}, 0) if implicit or not isinstance(data, bytes) else _read_short(data, stop)
    view = memoryview(data)
    rest, pos = _read_elements(view, pos, len(view), implicit=implicit, stop=stop, depth=0, delimited=False)
    return {**elements, **rest} if rest else elements, pos


def _read_short(data: bytes, stop: int) -> tuple[dict[int, Element], int]:
    """The elements up to the first that is not of a VR with a short length: mostly all, and three times as fast."""
    elements: dict[int, Element] = {}
    pos, end = 0, len(data)
    unpack, vr_of_code, new = _EXPLICIT_SHORT.unpack_from, _SHORT_NAMES.get, tuple.__new__
    while pos + 8 <= end:
        group, element, raw, length = unpack(data, pos)
        vr = vr_of_code(raw)
        tag, body = group << 16 | element, pos + 8
        if vr is None or tag >= stop or group == 0xFFFE or body + length > end:
            break
        pos = body + length
        elements[tag] = new(Element, (vr, data[body:pos]))
    return elements, pos


def _read_elements(
    view: memoryview, pos: int, end: int, *, implicit: bool, stop: int, depth: int, delimited: bool
) -> tuple[dict[int, Element], int]:
    if depth > MAX_DEPTH:
        raise MalformedDataset(f"sequences nested deeper than {MAX_DEPTH}", pos)
    elements: dict[int, Element] = {}
    while pos < end:
        if pos + 8 > end:
            raise MalformedDataset("truncated element", pos)
        group, element = _TAG.unpack_from(view, pos)
        if group << 16 | element >= stop and group != 0xFFFE:
            return elements, pos  # before its header is read: behind File Meta Information the syntax changes
        tag, vr, length, body = _read_header(view, pos, end, implicit=implicit)
        if tag >> 16 == 0xFFFE:
            if tag == _ITEM_END and delimited:
                return elements, body
            raise MalformedDataset("item tag outside a sequence", pos)
        if length == UNDEFINED or vr == "SQ":
            value, pos = _read_sequence(view, body, end, length, implicit=implicit or vr == "UN", depth=depth)
            elements[tag] = Element("SQ", value)
            continue
        pos = body + length
        if pos > end:
            raise MalformedDataset(f"value of ({tag >> 16:04X},{tag & 0xFFFF:04X}) runs past the end", body)
        elements[tag] = Element(vr, bytes(view[body:pos]))
    if delimited:
        raise MalformedDataset("item without delimiter", pos)
    return elements, pos


def _read_header(view: memoryview, pos: int, end: int, *, implicit: bool) -> tuple[int, str, int, int]:
    """Tag, VR, length and the offset of the value."""
    group, element, raw, short = _EXPLICIT_SHORT.unpack_from(view, pos)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, vr_of(tag) if group != 0xFFFE else "", _LENGTH.unpack_from(view, pos + 4)[0], pos + 8
    if raw in SHORT_BYTES:
        return tag, raw.decode(), short, pos + 8
    if raw not in LONG_BYTES:
        raise MalformedDataset(f"no value representation in ({group:04X},{element:04X})", pos + 4)
    if pos + 12 > end:
        raise MalformedDataset("truncated element", pos)
    return tag, raw.decode(), _LENGTH.unpack_from(view, pos + 8)[0], pos + 12


def _read_sequence(
    view: memoryview, pos: int, end: int, length: int, *, implicit: bool, depth: int
) -> tuple[bytes, int]:
    """The items of a sequence in canonical form, and the offset behind it."""
    limit = end if length == UNDEFINED else pos + length
    if limit > end:
        raise MalformedDataset("sequence runs past the end", pos)
    items: list[bytes] = []
    while pos < limit:
        if pos + 8 > limit:
            raise MalformedDataset("truncated item", pos)
        group, element, size = _IMPLICIT.unpack_from(view, pos)
        tag, pos = group << 16 | element, pos + 8
        if tag == _SEQUENCE_END and length == UNDEFINED:
            return b"".join(items), pos
        if tag != _ITEM:
            raise MalformedDataset("item expected", pos - 8)
        inner = limit if size == UNDEFINED else pos + size
        if inner > limit:
            raise MalformedDataset("item runs past its sequence", pos)
        elements, pos = _read_elements(
            view, pos, inner, implicit=implicit, stop=1 << 32, depth=depth + 1, delimited=size == UNDEFINED
        )
        items.append(item(write(sorted(elements.items()), implicit=False)))
    if length == UNDEFINED:
        raise MalformedDataset("sequence without delimiter", pos)
    return b"".join(items), pos


def item(body: bytes) -> bytes:
    """A sequence item of defined length around an encoded data set."""
    return _IMPLICIT.pack(0xFFFE, 0xE000, len(body)) + body


def items(value: bytes) -> list[dict[int, Element]]:
    """The items of a sequence value in canonical form."""
    found: list[dict[int, Element]] = []
    pos, view = 0, memoryview(value)
    while pos < len(view):
        size = _LENGTH.unpack_from(view, pos + 4)[0]
        elements, _ = read(view[pos + 8 : pos + 8 + size], implicit=False)
        found.append(elements)
        pos += 8 + size
    return found


def write(elements: Iterable[tuple[int, Element]], *, implicit: bool) -> bytes:
    """Encode elements that come in ascending order of their tags."""
    parts: list[bytes] = []
    for tag, (vr, value) in elements:
        size = len(value)
        if implicit or vr in LONG_VRS or size > 0xFFFF:
            parts.append(element_bytes(tag, vr, value, implicit=implicit))
        else:
            parts += (_short_head(tag, vr, size), value)
    return b"".join(parts)


@lru_cache(maxsize=16_384)
def _short_head(tag: int, vr: str, size: int) -> bytes:
    """The same few hundred heads make nearly all answers."""
    return _EXPLICIT_SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), size)


def element_bytes(tag: int, vr: str, value: bytes, *, implicit: bool) -> bytes:
    """One element; a value too long for its VR's 16-bit length goes out as UN (PS3.5 6.2.2)."""
    if implicit:
        if vr == "SQ":
            value = b"".join(item(write(sorted(one.items()), implicit=True)) for one in items(value))
        return _IMPLICIT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
    if vr in LONG_VRS or len(value) > 0xFFFF:
        code = vr if vr in LONG_VRS else "UN"
        return _EXPLICIT_LONG.pack(tag >> 16, tag & 0xFFFF, code.encode(), len(value)) + value
    return _EXPLICIT_SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value

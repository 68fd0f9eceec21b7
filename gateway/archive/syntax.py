"""Big endian data sets as little endian ones: a DICOMDIR or an old object may still be written so (PS3.5 A.3, retired).

Nothing is ever written in big endian; this only turns what is read into the canonical form of
:mod:`gateway.dicom.encoding`.
"""

from __future__ import annotations

from struct import Struct

from gateway.dicom.encoding import LONG_VRS, MAX_DEPTH, UNDEFINED, Element, MalformedDataset, item, write

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

_SHORT = Struct(">HH2sH")
_LENGTH = Struct(">L")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_WIDTHS = {"US": 2, "SS": 2, "AT": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4}
_WIDTHS |= {"FD": 8, "OD": 8, "SV": 8, "UV": 8, "OV": 8}


def read_big_endian(view: memoryview, *, stop: int = 1 << 32) -> tuple[dict[int, Element], int]:
    """Read the elements below ``stop`` with their values turned to little endian, as ``encoding.read`` does.

    Raises:
        MalformedDataset: the bytes are no explicit VR big endian data set.
    """
    return _elements(view, 0, len(view), stop, 0)


def _elements(view: memoryview, pos: int, end: int, stop: int, depth: int) -> tuple[dict[int, Element], int]:
    if depth > MAX_DEPTH:
        raise MalformedDataset(f"sequences nested deeper than {MAX_DEPTH}", pos)
    elements: dict[int, Element] = {}
    while pos + 8 <= end:
        tag, vr, length, body = header(view, pos)
        if tag == _ITEM_END:
            return elements, body
        if tag >= stop:
            return elements, pos
        if vr == "SQ" or length == UNDEFINED:
            value, pos = _sequence(view, body, end, length, depth)
            elements[tag] = Element("SQ", value)
            continue
        pos = body + length
        if pos > end:
            raise MalformedDataset("value runs past the end", body)
        elements[tag] = Element(vr, swapped(vr, bytes(view[body:pos])))
    return elements, pos


def header(view: memoryview, pos: int) -> tuple[int, str, int, int]:
    """Tag, VR, length and the offset of the value of the element at ``pos``."""
    group, element, raw, short = _SHORT.unpack_from(view, pos)
    tag = group << 16 | element
    if group == 0xFFFE:
        return tag, "", _LENGTH.unpack_from(view, pos + 4)[0], pos + 8
    vr = raw.decode("latin-1")
    if not (vr.isascii() and vr.isupper()):
        raise MalformedDataset("no value representation", pos + 4)
    if vr not in LONG_VRS:
        return tag, vr, short, pos + 8
    if pos + 12 > len(view):
        raise MalformedDataset("truncated element", pos)
    return tag, vr, _LENGTH.unpack_from(view, pos + 8)[0], pos + 12


def _sequence(view: memoryview, pos: int, end: int, length: int, depth: int) -> tuple[bytes, int]:
    limit = end if length == UNDEFINED else min(end, pos + length)
    found: list[bytes] = []
    while pos + 8 <= limit:
        tag, _, size, pos = header(view, pos)
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM:
            raise MalformedDataset("item expected", pos - 8)
        inner = limit if size == UNDEFINED else min(limit, pos + size)
        elements, pos = _elements(view, pos, inner, 1 << 32, depth + 1)
        found.append(item(write(sorted(elements.items()), implicit=False)))
    return b"".join(found), pos


def swapped(vr: str, value: bytes) -> bytes:
    """A big endian value as a little endian one."""
    width = _WIDTHS.get(vr, 1)
    if width == 1 or len(value) % width:
        return value
    out = bytearray(len(value))
    for byte in range(width):
        out[byte::width] = value[width - 1 - byte :: width]
    return bytes(out)

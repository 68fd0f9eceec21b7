"""Heads that need more than a cut: another character set, elements out of order, big endian values.

Elements are still handled as they stand: only a text value with other than ASCII characters, and the sequences that
hold one, are written anew. Private elements of unknown VR are kept as they are, whatever they hold.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Iterator
from struct import error as struct_error
from typing import NamedTuple

from gateway.coercion.heads import Outline, Short, Syntax, Window, after_item, after_sequence, outline
from gateway.dicom import charset, tags
from gateway.dicom.attributes import TEXT_VRS, Attributes, pad
from gateway.dicom.encoding import (
    LONG_VRS,
    MAX_DEPTH,
    UNDEFINED,
    Element,
    MalformedDataset,
    element_bytes,
    item,
    items,
    read,
    write,
)
from gateway.dicom.tags import vr_of

PIXELS = 0x7FE00000
"""Conversion stops here: pixel data and what little may follow it hold no text to convert."""

_WIDTHS = {"US": "H", "SS": "H", "OW": "H", "AT": "H", "UL": "I", "SL": "I", "FL": "I", "OF": "I", "OL": "I"}
_WIDTHS |= dict.fromkeys(("FD", "OD", "UV", "SV", "OV"), "Q")


def encoded(tag: int, element: Element, syntax: Syntax) -> bytes:
    """One element in a file's encoding, from the canonical little endian form."""
    if not syntax.big:
        return element_bytes(tag, element.vr, element.value, implicit=syntax.implicit)
    vr, value = element
    if vr == "SQ":
        value = b"".join(
            syntax.header.pack(0xFFFE, 0xE000, len(body)) + body
            for body in (b"".join(encoded(inner, one[inner], syntax) for inner in sorted(one)) for one in items(value))
        )
    elif vr in _WIDTHS:
        value = swapped(vr, value)
    return header(tag, vr, len(value), syntax) + value


def header(tag: int, vr: str, length: int, syntax: Syntax) -> bytes:
    """Tag, VR and length of an element; a value too long for a 16-bit length goes out as UN (PS3.5 6.2.2)."""
    if syntax.implicit:
        return syntax.header.pack(tag >> 16, tag & 0xFFFF, length)
    if vr not in LONG_VRS and length <= 0xFFFF:
        return syntax.short.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)
    code = vr if vr in LONG_VRS else "UN"
    return syntax.short.pack(tag >> 16, tag & 0xFFFF, code.encode(), 0) + syntax.word.pack(length)


def swapped(vr: str, value: bytes) -> bytes:
    """A binary value in the other byte order; strings and bytes stay."""
    code = _WIDTHS.get(vr)
    if code is None or len(value) % array(code).itemsize:
        return value
    numbers = array(code, value)
    numbers.byteswap()
    return numbers.tobytes()


_FRAMES = re.compile(rb"\xfe\xff\x00\xe0(?:\xff{4})?|\xfe\xff[\x0d\xdd]\xe0|SQ\0\0\xff{4}")
"""Item tags and undefined lengths, little endian; each has a NUL or a byte pair that is no text."""


class Span(NamedTuple):
    """Where one element stands: its first byte, its value's first byte, the byte behind it."""

    tag: int
    vr: str
    start: int
    body: int
    end: int


def spans(data: bytes, pos: int, end: int, syntax: Syntax) -> Iterator[Span]:
    """The elements between two offsets in the order they stand in; what is of undefined length is a sequence."""
    while pos < end:
        group, element, raw, length = syntax.short.unpack_from(data, pos)
        tag, body = group << 16 | element, pos + 8
        if syntax.implicit:
            vr, length = vr_of(tag), syntax.word.unpack_from(data, pos + 4)[0]
        else:
            vr = raw.decode("latin-1")
            if vr in LONG_VRS:
                length, body = syntax.word.unpack_from(data, pos + 8)[0], pos + 12
        if length == UNDEFINED:
            after = after_sequence(data, body, syntax.implicit or vr == "UN", syntax)
            yield Span(tag, "SQ" if vr != "UN" else "UN", pos, body, after)
        else:
            after = body + length
            yield Span(tag, vr, pos, body, after)
        pos = after


def ordered(window: Window, syntax: Syntax) -> tuple[bytes, int]:
    """The elements before pixel data in ascending order, of several with one tag the last, and where they ended.

    Raises:
        Short: the window ends before the pixel data.
        MalformedDataset: the bytes are no data set.
    """
    found: dict[int, bytes] = {}
    end = 0
    try:
        for span in spans(window.data, 0, window.whole, syntax):
            if span.tag >= PIXELS:
                break
            found[span.tag], end = window.data[span.start : span.end], span.end
    except struct_error:
        raise _ended(window) from None
    if end > len(window.data):
        raise _ended(window)
    return b"".join(found[tag] for tag in sorted(found)), end


def _ended(window: Window) -> Exception:
    return MalformedDataset("truncated element", window.whole) if window.complete else Short()


def converted_head(
    window: Window, terms: charset.Terms, target: charset.Terms, new: dict[int, bytes], syntax: Syntax
) -> tuple[bytes, int]:
    """Everything before pixel data with its text in another character set and the new elements in it.

    Returns:
        The head and the offset in the old data set where it ended.

    Raises:
        Short, Disordered, MalformedDataset: as :func:`gateway.coercion.heads.outline`.
        Unrepresentable: the other character set lacks a character.
    """
    cut = outline(window, PIXELS - 1, syntax).end
    if cut > len(window.data):
        raise Short
    parts = new | {tags.SpecificCharacterSet: declared(target, syntax)}
    for span in spans(window.data, 0, cut, syntax):
        if span.tag not in parts and span.tag & 0xFFFF:
            parts[span.tag] = _converted(window.data, span, (terms, target), syntax)
    return b"".join(parts[tag] for tag in sorted(parts)), cut


def _converted(data: bytes, span: Span, terms: tuple[charset.Terms, charset.Terms], syntax: Syntax) -> bytes:
    raw = data[span.start : span.end]
    if span.vr in TEXT_VRS:
        value = data[span.body : span.end]
        if plain(value):
            return raw
        value = pad(span.vr, charset.encode(charset.decode(value, terms[0]).rstrip(" \0"), terms[1]))
        return header(span.tag, span.vr, len(value), syntax) + value
    if span.vr != "SQ" or plain(_FRAMES.sub(b"", raw)):
        return raw
    old = Attributes([(tags.SpecificCharacterSet, _declaration(terms[0])), *decoded(raw, syntax)])
    new = old.in_charset(terms[1])
    return raw if new[span.tag] == old[span.tag] else encoded(span.tag, new[span.tag], syntax)


def plain_text(
    window: Window, found: Outline, terms: tuple[charset.Terms, charset.Terms], taken: Collection[int], syntax: Syntax
) -> tuple[list[slice], list[int]] | None:
    """Where text stands in a head that needs no conversion between two character sets; None where some does.

    Args:
        found: of everything before pixel data.
        taken: tags that do not matter, since they are replaced.

    Returns:
        The places of texts, all ASCII now, and the tags of sequences, which would have to be looked at anew.
    """
    texts: list[slice] = []
    sequences: list[int] = []
    for span in spans(window.data, 0, found.end, syntax):
        if span.tag in taken or span.vr not in TEXT_VRS | {"SQ"}:
            continue
        if _converted(window.data, span, terms, syntax) != window.data[span.start : span.end]:
            return None
        if span.vr == "SQ":
            sequences.append(span.tag)
        else:
            texts.append(slice(span.body, span.end))
    return texts, sequences


def plain(value: bytes) -> bool:
    """Whether a text reads the same in every character set."""
    return value.isascii() and b"\x1b" not in value


def declared(terms: charset.Terms, syntax: Syntax) -> bytes:
    """Specific Character Set as an element."""
    return encoded(tags.SpecificCharacterSet, _declaration(terms), syntax)


def _declaration(terms: charset.Terms) -> Element:
    return Element("CS", pad("CS", "\\".join(terms).encode("latin-1")))


def decoded(data: bytes, syntax: Syntax) -> Iterable[tuple[int, Element]]:
    """Elements in the canonical form of :mod:`gateway.dicom.encoding`.

    Raises:
        MalformedDataset: the bytes are no data set.
    """
    if not syntax.big:
        return read(data, implicit=syntax.implicit)[0].items()
    try:
        return _from_big(data, 0, len(data), syntax, 0).items()
    except struct_error:
        raise MalformedDataset("truncated element", len(data)) from None


def _from_big(data: bytes, start: int, end: int, syntax: Syntax, depth: int) -> dict[int, Element]:
    if depth > MAX_DEPTH:
        raise MalformedDataset(f"sequences nested deeper than {MAX_DEPTH}", start)
    found: dict[int, Element] = {}
    for span in spans(data, start, end, syntax):
        if span.end > end:
            raise MalformedDataset("an element runs past the end", span.start)
        if span.vr == "SQ":
            found[span.tag] = Element("SQ", _items_from_big(data, span.body, span.end, syntax, depth))
        else:
            found[span.tag] = Element(span.vr, swapped(span.vr, data[span.body : span.end]))
    return found


def _items_from_big(data: bytes, pos: int, end: int, syntax: Syntax, depth: int) -> bytes:
    made: list[bytes] = []
    while pos < end:
        group, element, length = syntax.header.unpack_from(data, pos)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise MalformedDataset("item expected", pos)
        body = pos + 8
        pos = after_item(data, body, False, syntax, depth) if length == UNDEFINED else body + length  # noqa: FBT003
        inner = _from_big(data, body, pos - 8 if length == UNDEFINED else pos, syntax, depth + 1)
        made.append(item(write(sorted(inner.items()), implicit=False)))
    return b"".join(made)

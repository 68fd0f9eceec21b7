"""The raw bytes of a data set's head: where each element starts and ends, without decoding any value.

A head is cut, not parsed: to change PatientName only its first and last byte need to be known. Sequences of undefined
length are stepped through by their items (PS3.5 7.5), nested ones too, down to the same depth as
:mod:`gateway.dicom.encoding` reads.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from struct import Struct
from struct import error as struct_error

from gateway.dicom.encoding import LONG_VRS, MAX_DEPTH, UNDEFINED, MalformedDataset

_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(vr.encode() for vr in LONG_VRS)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class Short(Exception):
    """The bytes at hand end before what is wanted; more of the file is needed."""


class Disordered(Exception):
    """Tags do not ascend (against PS3.5 7.1), so an element may stand anywhere."""


@dataclass(frozen=True)
class Syntax:
    """How a transfer syntax encodes the elements outside pixel data (PS3.5 Annex A)."""

    implicit: bool = False
    big: bool = False
    deflated: bool = False
    short: Struct = field(init=False, compare=False)
    word: Struct = field(init=False, compare=False)
    header: Struct = field(init=False, compare=False)

    def __post_init__(self) -> None:
        order = ">" if self.big else "<"
        object.__setattr__(self, "short", Struct(order + "HH2sH"))
        object.__setattr__(self, "word", Struct(order + "L"))
        object.__setattr__(self, "header", Struct(order + "HHL"))


IMPLICIT = Syntax(implicit=True)
EXPLICIT = Syntax()
BIG = Syntax(big=True)
DEFLATED = Syntax(deflated=True)
_SYNTAXES = {
    "1.2.840.10008.1.2": IMPLICIT,
    "1.2.840.10008.1.2.2": BIG,
    "1.2.840.10008.1.2.1.99": DEFLATED,
    "1.2.840.10008.1.2.4.95": DEFLATED,  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": DEFLATED,  # JPIP HTJ2K Referenced Deflate
    "1.2.840.113619.5.2": IMPLICIT,  # GE private: implicit but for its pixel data, which is never touched here
}


def syntax_of(transfer_syntax_uid: str) -> Syntax:
    """The encoding of a transfer syntax; all encapsulated ones are explicit VR little endian (PS3.5 A.4)."""
    return _SYNTAXES.get(transfer_syntax_uid, EXPLICIT)


@dataclass(slots=True)
class Window:
    """The beginning of a data set at hand, and how long the whole of it is."""

    data: bytes
    whole: int

    @property
    def complete(self) -> bool:
        """Whether the bytes at hand are the whole data set."""
        return len(self.data) >= self.whole


@dataclass(slots=True)
class Outline:
    """The elements of a head in their order.

    Attributes:
        tags: ascending.
        marks: for each tag, the bytes that say where the next element begins: tag, VR and length, or the whole of a
            sequence of undefined length. Behind them one mark more, the tag of the first element not covered.
        end: the offset of that element.
    """

    tags: list[int]
    marks: list[slice]
    end: int

    def place(self, tag: int) -> tuple[int, int]:
        """The offsets of an element's first byte and of the byte behind it; both where it would stand if absent."""
        at = bisect_left(self.tags, tag)
        if at == len(self.tags):
            return self.end, self.end
        start = self.marks[at].start
        if self.tags[at] != tag:
            return start, start
        return start, self.marks[at + 1].start if at + 1 < len(self.tags) else self.end


def outline(window: Window, last: int, syntax: Syntax) -> Outline:
    """The elements up to the tag ``last``. The last one may end behind the bytes at hand.

    Raises:
        Short: the window ends before it.
        Disordered: a tag is not above the one before it.
        MalformedDataset: the bytes are no data set.
    """
    try:
        found = _implicit_outline(window, last, syntax) if syntax.implicit else _explicit_outline(window, last, syntax)
    except (struct_error, IndexError):
        if window.complete:
            raise MalformedDataset("truncated element", window.whole) from None
        raise Short from None
    if found.end > window.whole:
        raise MalformedDataset("an element runs past the end", window.whole)
    return found


def _explicit_outline(window: Window, last: int, syntax: Syntax) -> Outline:
    # This loop is the cost of a head not seen before: no calls but unpack and append.
    data, whole, unpack, long_ = window.data, window.whole, syntax.short.unpack_from, syntax.word.unpack_from
    tags: list[int] = []
    marks: list[slice] = []
    previous, pos = -1, 0
    while pos < whole:
        group, element, vr, length = unpack(data, pos)
        tag = group << 16 | element
        if not previous < tag <= last:
            break
        previous = tag
        tags.append(tag)
        if vr in _SHORT_VRS:
            marks.append(slice(pos, pos + 8))
            pos += 8 + length
            continue
        if vr not in _LONG_VRS:
            raise MalformedDataset(f"no value representation in ({group:04X},{element:04X})", pos + 4)
        length = long_(data, pos + 8)[0]
        if length != UNDEFINED:
            marks.append(slice(pos, pos + 12))
            pos += 12 + length
        else:
            after = after_sequence(data, pos + 12, vr == b"UN", syntax)
            marks.append(slice(pos, after))
            pos = after
    return _outlined(window, tags, marks, pos, syntax)


def _implicit_outline(window: Window, last: int, syntax: Syntax) -> Outline:
    data, whole, unpack = window.data, window.whole, syntax.header.unpack_from
    tags: list[int] = []
    marks: list[slice] = []
    previous, pos = -1, 0
    while pos < whole:
        group, element, length = unpack(data, pos)
        tag = group << 16 | element
        if not previous < tag <= last:
            break
        previous = tag
        tags.append(tag)
        if length != UNDEFINED:
            marks.append(slice(pos, pos + 8))
            pos += 8 + length
        else:
            after = after_sequence(data, pos + 8, True, syntax)  # noqa: FBT003
            marks.append(slice(pos, after))
            pos = after
    return _outlined(window, tags, marks, pos, syntax)


def _outlined(window: Window, tags: list[int], marks: list[slice], pos: int, syntax: Syntax) -> Outline:
    if pos < window.whole:
        group, element = syntax.header.unpack_from(window.data, pos)[:2]
        if tags and group << 16 | element <= tags[-1]:
            raise Disordered
    marks.append(slice(pos, pos + 4))
    return Outline(tags, marks, pos)


def after_sequence(data: bytes, pos: int, implicit: bool, syntax: Syntax, depth: int = 1) -> int:  # noqa: FBT001
    """The offset behind a sequence of undefined length whose items begin at ``pos``."""
    if depth > MAX_DEPTH:
        raise MalformedDataset(f"sequences nested deeper than {MAX_DEPTH}", pos)
    while True:
        group, element, length = syntax.header.unpack_from(data, pos)
        tag, pos = group << 16 | element, pos + 8
        if tag == _SEQUENCE_END:
            return pos
        if tag != _ITEM:
            raise MalformedDataset("item expected", pos - 8)
        if length != UNDEFINED:
            pos += length
        else:
            pos = after_item(data, pos, implicit, syntax, depth)


def after_item(data: bytes, pos: int, implicit: bool, syntax: Syntax, depth: int) -> int:  # noqa: FBT001
    """The offset behind an item of undefined length whose elements begin at ``pos``."""
    while True:
        group, element, vr, length = syntax.short.unpack_from(data, pos)
        if group == 0xFFFE:
            if element == _ITEM_END & 0xFFFF:
                return pos + 8
            raise MalformedDataset("item without delimiter", pos)
        body = pos + 8
        if implicit:
            length = syntax.word.unpack_from(data, pos + 4)[0]
        elif vr in _LONG_VRS:
            length, body = syntax.word.unpack_from(data, pos + 8)[0], pos + 12
        elif vr not in _SHORT_VRS:
            raise MalformedDataset(f"no value representation in ({group:04X},{element:04X})", pos + 4)
        if length == UNDEFINED:
            pos = after_sequence(data, body, implicit or vr == b"UN", syntax, depth + 1)
        else:
            pos = body + length

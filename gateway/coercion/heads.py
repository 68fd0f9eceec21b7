"""The raw bytes of a data set's head: where each element starts and ends, without decoding any value.

A head is cut, not parsed: to change PatientName only its first and last byte need to be known. Sequences of undefined
length are stepped through by their items (PS3.5 7.5), nested ones too, down to the same depth as
:mod:`gateway.dicom.encoding` reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from struct import error as struct_error

from gateway.dicom.encoding import LONG_VRS, MAX_DEPTH, UNDEFINED, MalformedDataset

_SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_IS_LONG = {vr.encode(): vr in LONG_VRS for vr in (*_SHORT.split(), *LONG_VRS)}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_NEVER = 1 << 32


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


def locate(window: Window, wanted: tuple[int, ...], syntax: Syntax) -> list[tuple[int, int]]:
    """For each wanted tag, ascending, the offsets of its first byte and of the byte behind it.

    Both are the place where it would stand when it is absent. The end may lie behind the bytes at hand: a last
    element that is to go need not be read.

    Raises:
        Short: the window ends before the last of them.
        Disordered: a tag is not above the one before it.
        MalformedDataset: the bytes are no data set.
    """
    try:
        if syntax.implicit:
            return _locate_implicit(window, wanted, syntax)
        return _locate_explicit(window, wanted, syntax)
    except (struct_error, IndexError):
        if window.complete:
            raise MalformedDataset("truncated element", window.whole) from None
        raise Short from None


def _locate_explicit(window: Window, wanted: tuple[int, ...], syntax: Syntax) -> list[tuple[int, int]]:
    # This loop is the cost of a coerced instance: no calls but unpack, nothing kept for elements passed over.
    data, whole, unpack, long_ = window.data, window.whole, syntax.short.unpack_from, syntax.word.unpack_from
    spans: list[tuple[int, int]] = []
    remaining = iter(wanted)
    want, previous, pos = next(remaining, _NEVER), -1, 0
    while want != _NEVER and pos < whole:
        group, element, vr, length = unpack(data, pos)
        tag = group << 16 | element
        while want < tag:
            spans.append((pos, pos))
            want = next(remaining, _NEVER)
        if want == _NEVER:
            return spans
        if tag <= previous:
            raise Disordered
        previous = tag
        is_long = _IS_LONG.get(vr)
        if is_long:
            length = long_(data, pos + 8)[0]
            after = pos + 12 + length if length != UNDEFINED else after_sequence(data, pos + 12, vr == b"UN", syntax)
        elif is_long is None:
            raise MalformedDataset(f"no value representation in ({group:04X},{element:04X})", pos + 4)
        else:
            after = pos + 8 + length
        if want == tag:
            spans.append((pos, after))
            want = next(remaining, _NEVER)
        pos = after
    return _finish(spans, len(wanted), pos, whole)


def _locate_implicit(window: Window, wanted: tuple[int, ...], syntax: Syntax) -> list[tuple[int, int]]:
    data, whole, unpack = window.data, window.whole, syntax.header.unpack_from
    spans: list[tuple[int, int]] = []
    remaining = iter(wanted)
    want, previous, pos = next(remaining, _NEVER), -1, 0
    while want != _NEVER and pos < whole:
        group, element, length = unpack(data, pos)
        tag = group << 16 | element
        while want < tag:
            spans.append((pos, pos))
            want = next(remaining, _NEVER)
        if want == _NEVER:
            return spans
        if tag <= previous:
            raise Disordered
        previous = tag
        after = pos + 8 + length if length != UNDEFINED else after_sequence(data, pos + 8, True, syntax)  # noqa: FBT003
        if want == tag:
            spans.append((pos, after))
            want = next(remaining, _NEVER)
        pos = after
    return _finish(spans, len(wanted), pos, whole)


def _finish(spans: list[tuple[int, int]], wanted: int, pos: int, whole: int) -> list[tuple[int, int]]:
    if pos > whole:
        raise MalformedDataset("an element runs past the end", whole)
    return spans + [(pos, pos)] * (wanted - len(spans))


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
        else:
            is_long = _IS_LONG.get(vr)
            if is_long is None:
                raise MalformedDataset(f"no value representation in ({group:04X},{element:04X})", pos + 4)
            if is_long:
                length, body = syntax.word.unpack_from(data, pos + 8)[0], pos + 12
        if length == UNDEFINED:
            pos = after_sequence(data, body, implicit or vr == b"UN", syntax, depth + 1)
        else:
            pos = body + length

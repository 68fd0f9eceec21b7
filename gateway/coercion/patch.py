"""A patch: changes made ready for many files, and the layouts of the heads it met.

The instances of a series have heads of the same layout: the same elements with the same lengths, only other values. A
layout remembers where the marks of a head stand and what they are. If a new head has the same bytes there, its elements
begin and end at the same places, by induction from the first; fetching and comparing the marks is one call in C, ten
times cheaper than walking from element to element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

from gateway.coercion.changes import UTF8, Changes
from gateway.coercion.convert import PIXELS, converted_head, encoded
from gateway.coercion.heads import Outline, Short, Syntax, Window, outline
from gateway.dicom import charset, tags
from gateway.dicom.attributes import Attributes

_MOST_LAYOUTS = 8
_LENGTH_TO_END = 0x00080001
_EXPECTED = frozenset(
    {
        tags.StudyDate,
        tags.StudyTime,
        tags.AccessionNumber,
        tags.PatientName,
        tags.PatientID,
        tags.StudyInstanceUID,
        tags.StudyID,
    }
)
"""What every composite instance has (types 1 and 2 in PS3.3 C.7.1.1 and C.7.2.1), if only without a value."""


Encoded = dict[int, bytes]
"""What is to stand in place of an element, by tag, ascending; empty bytes remove."""


@dataclass(frozen=True)
class Layout:
    """A head met before, and how it is rebuilt.

    Attributes:
        pieces: slices of the old bytes, each with the new bytes that follow it.
        cut: the offset from which the old bytes go on as they are.
    """

    marks: Callable[[bytes], tuple[bytes, ...]]
    expected: tuple[bytes, ...]
    last: slice
    pieces: tuple[tuple[slice, bytes], ...]
    cut: int

    def fits(self, window: Window) -> bool:
        """Whether a head has this layout. The last mark alone tells most that have not."""
        data = window.data
        return data[self.last] == self.expected[-1] and self.cut <= window.whole and self.marks(data) == self.expected

    def rebuilt(self, data: bytes) -> bytes:
        """The new head."""
        parts: list[bytes] = []
        for old, new in self.pieces:
            parts.append(data[old])
            parts.append(new)
        return b"".join(parts)


@dataclass(frozen=True)
class Patch:
    """Changes made ready for many files.

    Safe to share between threads: two that race only compute the same value twice.
    """

    changes: Changes
    _encoded: dict[tuple[charset.Terms, Syntax], Encoded | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    _layouts: dict[Syntax, tuple[Layout, ...]] = field(default_factory=dict, compare=False, repr=False)

    def head(self, window: Window, syntax: Syntax) -> tuple[bytes, int]:
        """The new head of a data set, and the offset in it from which the old bytes go on.

        Raises:
            Short, Disordered, MalformedDataset: as :func:`gateway.coercion.heads.outline`.
        """
        for layout in self._layouts.get(syntax, ()):
            if layout.fits(window):
                return layout.rebuilt(window.data), layout.cut
        found = outline(window, max(self.changes.last, tags.SpecificCharacterSet), syntax)
        terms = _terms(window, found)
        target = terms if self.changes.charset is None else self.changes.charset
        values = self._ready(target, syntax)
        if values is None or target != terms:
            return self._converted(window, terms, UTF8 if values is None else target, syntax)
        if any(tag in _EXPECTED and found.place(tag)[0] == found.place(tag)[1] for tag in values):
            outline(window, PIXELS, syntax)  # out of order it may stand further down: look, or there would be two
        layout = _layout(window.data, found, values)
        self._layouts[syntax] = (layout, *self._layouts.get(syntax, ()))[:_MOST_LAYOUTS]
        return layout.rebuilt(window.data), layout.cut

    def _converted(
        self, window: Window, terms: charset.Terms, target: charset.Terms, syntax: Syntax
    ) -> tuple[bytes, int]:
        try:
            return converted_head(window, terms, target, self._ready(target, syntax) or {}, syntax)
        except charset.Unrepresentable:
            return converted_head(window, terms, UTF8, self._ready(UTF8, syntax) or {}, syntax)

    def _ready(self, terms: charset.Terms, syntax: Syntax) -> Encoded | None:
        """The new elements for a file of this character set; None where the set lacks a character."""
        key = (terms, syntax)
        if key not in self._encoded:
            try:
                values = self.changes.values.in_charset(terms)
                self._encoded[key] = _laid_out(values, self.changes, syntax)
            except charset.Unrepresentable:
                self._encoded[key] = None
        return self._encoded[key]


def _laid_out(values: Attributes, changes: Changes, syntax: Syntax) -> Encoded:
    """The new elements, and nothing for those that go: removed ones and lengths that would be wrong."""
    found = {tag: encoded(tag, values[tag], syntax) if tag in values else b"" for tag in changes.tags}
    lengths = dict.fromkeys([_LENGTH_TO_END, *(tag & 0xFFFF0000 for tag in changes.tags)], b"")
    return dict(sorted({**lengths, **found}.items()))


def _terms(window: Window, found: Outline) -> charset.Terms:
    start, end = found.place(tags.SpecificCharacterSet)
    if end > len(window.data):
        raise Short
    value = window.data[start + 8 : end].decode("latin-1")
    return tuple(term.strip(" \0") for term in value.split("\\")) if value else ()


def _layout(data: bytes, found: Outline, values: Encoded) -> Layout:
    start, end = found.place(tags.SpecificCharacterSet)
    marks = [slice(start, end) if one.start == start and end > start else one for one in found.marks]
    marks.append(found.marks[-1])
    pieces: list[tuple[slice, bytes]] = []
    kept = 0
    for tag, value in values.items():
        start, end = found.place(tag)
        if pieces and start == kept:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + value)
        else:
            pieces.append((slice(kept, start), value))
        kept = end
    getter: Callable[[bytes], tuple[bytes, ...]] = itemgetter(*marks)
    return Layout(getter, getter(data), marks[-1], tuple(pieces), kept)

"""A patch: changes made ready for many files."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.coercion.changes import UTF8, Changes
from gateway.coercion.convert import PIXELS, converted_head, declared, encoded, plain_text
from gateway.coercion.heads import Outline, Short, Syntax, Window, outline
from gateway.coercion.layouts import Cuts
from gateway.dicom import charset, tags
from gateway.dicom.attributes import Attributes

_MOST_LAYOUTS = 8
_CHARSET = (tags.SpecificCharacterSet,)
_CHARSET_GROUP = (0x00080000, 0x00080001)
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
class Patch:
    """Changes made ready for many files.

    Safe to share between threads: two that race only compute the same value twice.
    """

    changes: Changes
    _encoded: dict[tuple[charset.Terms, Syntax], Encoded | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    _layouts: dict[Syntax, tuple[Cuts, ...]] = field(default_factory=dict, compare=False, repr=False)

    def head(self, window: Window, syntax: Syntax) -> tuple[bytes, int]:
        """The new head of a data set, and the offset in it from which the old bytes go on.

        Raises:
            Short, Disordered, MalformedDataset: as :func:`gateway.coercion.heads.outline`.
        """
        if not self.changes:
            return b"", 0
        for layout in self._layouts.get(syntax, ()):
            if layout.fit(window):
                return layout.rebuilt(window.data), layout.kept
        found = outline(window, max(self.changes.last, tags.SpecificCharacterSet), syntax)
        terms = _terms(window, found)
        target = terms if self.changes.charset is None else self.changes.charset
        values = self._ready(target, syntax)
        if values is None or target != terms:
            return self._converted(window, terms, UTF8 if values is None else target, syntax)
        if any(tag in _EXPECTED and found.place(tag)[0] == found.place(tag)[1] for tag in values):
            # Out of order it may stand further down: the layout has to reach that far, or there would be two of it.
            found = outline(window, PIXELS - 1, syntax)
        return self._cut(window, Cuts.of(window.data, found, values, _CHARSET), syntax)

    def _cut(self, window: Window, layout: Cuts, syntax: Syntax) -> tuple[bytes, int]:
        self._layouts[syntax] = (layout, *self._layouts.get(syntax, ()))[:_MOST_LAYOUTS]
        return layout.rebuilt(window.data), layout.kept

    def _converted(
        self, window: Window, terms: charset.Terms, target: charset.Terms, syntax: Syntax
    ) -> tuple[bytes, int]:
        """Another character set: nothing but its name changes where all text is ASCII, as it is in most heads."""
        found = outline(window, PIXELS - 1, syntax)
        if found.end > len(window.data):
            raise Short
        values = self._ready(target, syntax) or {}
        named = values | dict.fromkeys(_CHARSET_GROUP, b"") | {tags.SpecificCharacterSet: declared(target, syntax)}
        try:
            if (found_plain := plain_text(window, found, (terms, target), named, syntax)) is not None:
                texts, sequences = found_plain
                whole = (tags.SpecificCharacterSet, *sequences)
                return self._cut(window, Cuts.of(window.data, found, dict(sorted(named.items())), whole, texts), syntax)
            return converted_head(window, terms, target, values, syntax)
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

"""Layouts: heads met before, recognised at a glance.

The instances of a series have heads of the same layout: the same elements with the same lengths, only other values. A
layout remembers where the marks of a head stand and what they are. If a new head has the same bytes there, its elements
begin and end at the same places, by induction from the first; fetching and comparing the marks is one call in C, five
times cheaper than walking from element to element.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from operator import itemgetter

from gateway.coercion.convert import plain
from gateway.coercion.heads import Outline, Short, Window

Getter = Callable[[bytes], tuple[bytes, ...]]


@dataclass(frozen=True)
class Marks:
    """What all heads of a layout have in common.

    Attributes:
        end: the offset of the first element behind the head.
    """

    getter: Getter
    expected: tuple[bytes, ...]
    last: slice
    end: int

    @classmethod
    def of(cls, data: bytes, found: Outline, whole: Collection[int] = ()) -> Marks:
        """The marks of a head; of the elements in ``whole`` the values belong to the layout."""
        marks = list(found.marks)
        for tag in whole:
            start, end = found.place(tag)
            if end > start:
                marks[found.tags.index(tag)] = slice(start, end)
        getter = _getter([*marks, marks[-1]])
        return cls(getter, getter(data), marks[-1], found.end)

    def fit(self, window: Window) -> bool:
        """Whether a head has this layout. The last mark alone tells most that have not.

        A layout that ends with its data set fits only one that is all at hand and ends there too.
        """
        data = window.data
        if data[self.last] != self.expected[-1] or self.end > window.whole or self.getter(data) != self.expected:
            return False
        return bool(self.expected[-1]) or len(data) == window.whole == self.end


@dataclass(frozen=True)
class Glance:
    """Fetches the bytes of certain elements, tag and length included, out of heads of one layout."""

    marks: Marks
    elements: Getter

    @classmethod
    def of(cls, window: Window, found: Outline, tags: Collection[int]) -> Glance:
        """For those of the tags that this head has.

        Raises:
            Short: one of them ends behind the bytes at hand.
        """
        places = [found.place(tag) for tag in tags]
        if any(end > len(window.data) for _, end in places):
            raise Short
        return cls(Marks.of(window.data, found), _getter([slice(start, end) for start, end in places if end > start]))


@dataclass(frozen=True)
class Cuts:
    """Rebuilds heads of one layout.

    Attributes:
        pieces: slices of the old bytes, each with the new bytes that follow it.
        kept: the offset from which the old bytes go on as they are.
        texts: fetches the values that must be ASCII, where the character set changes under them.
    """

    marks: Marks
    pieces: tuple[tuple[slice, bytes], ...]
    kept: int
    texts: Getter | None = None

    @classmethod
    def of(
        cls,
        data: bytes,
        found: Outline,
        values: dict[int, bytes],
        whole: Collection[int],
        texts: list[slice] | None = None,
    ) -> Cuts:
        """For new elements by tag, ascending; empty bytes remove."""
        pieces: list[tuple[slice, bytes]] = []
        kept = 0
        for tag, value in values.items():
            start, end = found.place(tag)
            if pieces and start == kept:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + value)
            else:
                pieces.append((slice(kept, start), value))
            kept = end
        return cls(Marks.of(data, found, whole), tuple(pieces), kept, _getter(texts) if texts else None)

    def fit(self, window: Window) -> bool:
        """Whether a head can be rebuilt by these cuts."""
        return self.marks.fit(window) and (self.texts is None or plain(b"".join(self.texts(window.data))))

    def rebuilt(self, data: bytes) -> bytes:
        """The new head."""
        parts: list[bytes] = []
        for old, new in self.pieces:
            parts.append(data[old])
            parts.append(new)
        return b"".join(parts)


def _getter(slices: list[slice]) -> Getter:
    if len(slices) > 1:
        many: Getter = itemgetter(*slices)
        return many
    return lambda data: tuple(data[one] for one in slices)

"""Answers cut out of what an index keeps: encoded elements are put in order, never decoded.

An index has each entity's own level as a data set in explicit VR. All answers of a query have the same shape, so one
pass over the bytes of a level drops each element that was asked for into its place, and the answer is what lies in the
places, joined. It costs a tenth of decoding the levels, overlaying, projecting and encoding them, and means the same:
what would not come out the same, byte for byte, is left to those. That are

- character sets: where a level is written in another one than the asker reads, only what is ASCII is put together;
- sequences and other elements with long lengths that were asked for, whose items need a look;
- an entity without its unique key, and bytes that are no data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError

from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.encoded import Encoded
from gateway.dicom.matching import Matcher
from gateway.query.merging import Availability
from gateway.query.projection import Projection

_HEAD = Struct("<6sH")
_SHORT, _LONG = 8, 12
"""Bytes in front of a value, by the size of its length (PS3.5 7.1.2)."""
_PASS, _PASS_LONG, _LOOK = -1, -2, -3
_VERDICTS = 1024


class _Places(dict[bytes, int]):
    """Where an element goes, by its tag and VR as they stand in a data set, or what else is to be done with it.

    Filled as elements are met: of the few that an archive has, each is thought about once.
    """

    def __init__(self, place_of: Mapping[int, int]) -> None:
        self._place_of = place_of

    def __missing__(self, head: bytes) -> int:
        tag, vr = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little"), head[4:]
        if vr in encoding.SHORT_BYTES:
            self[head] = self._place_of.get(tag, _PASS)
        else:
            self[head] = _PASS_LONG if vr in encoding.LONG_BYTES and tag not in self._place_of else _LOOK
        return self[head]


Draft = tuple[list[bytes], bool]
"""An answer as far as some levels of its entity go.

An encoded element in each place, the blank one where nothing is known; and whether all these levels are written in the
character set that the query declares.
"""


class Template:
    """The answers to one query, to be filled level by level.

    Args:
        matcher: the query's keys, which an answer has to meet.
        availability: of all that is filled in.
    """

    def __init__(self, projection: Projection, matcher: Matcher, availability: Availability) -> None:
        shape = {**projection.shape, tags.InstanceAvailability: availability.value}
        blank = {tags.SpecificCharacterSet: b""} | {tag: _written(tag, element) for tag, element in shape.items()}
        order = {tag: place for place, tag in enumerate(sorted(blank))}
        self._blank = [blank[tag] for tag in order]
        self._charset = order[tags.SpecificCharacterSet]
        self._empty = [b"" if tag == tags.SpecificCharacterSet else blank[tag] for tag in order]
        self._unique = order[projection.unique]
        self._place_of = {tag: order[tag] for tag in projection.asked if tag != tags.InstanceAvailability}
        self._places = _Places({**self._place_of, tags.SpecificCharacterSet: self._charset})
        self._keys = [order[tag] for tag in sorted(matcher.depends_on)]
        self._verdict = lru_cache(_VERDICTS)(lambda data: matcher.matches(Attributes.decode(data, implicit=False)))

    @property
    def blank(self) -> Draft | None:
        """With nothing filled in."""
        return self._blank, True

    def over(self, above: Draft | None, level: bytes, computed: Mapping[int, Element]) -> Draft | None:
        """A draft with a level's own elements put over those above, and what was computed over them.

        Returns:
            None when these bytes need a closer look.
        """
        if above is None:
            return None
        parts, as_declared = above
        parts, empty, places, unpack = parts.copy(), self._empty, self._places, _HEAD.unpack_from
        declared, parts[self._charset] = parts[self._charset], b""
        pos, end = 0, len(level)
        try:
            while pos < end:
                head, size = unpack(level, pos)
                place, stop = places[head], pos + size + _SHORT
                if place >= 0:
                    parts[place] = level[pos:stop] if size else empty[place]
                elif place != _PASS:
                    if place == _LOOK:
                        return None
                    stop = pos + _LONG + int.from_bytes(level[pos + _SHORT : pos + _LONG], "little")
                pos = stop
        except StructError:  # cut short in the middle of a head
            return None
        if pos != end:  # cut short, or a length that is undefined
            return None
        for tag, element in computed.items():
            if (at := self._place_of.get(tag)) is not None:
                parts[at] = _written(tag, element) if element.value else empty[at]
        as_declared = as_declared and parts[self._charset] == declared
        parts[self._charset] = declared
        return parts, as_declared

    def suits(self, draft: Draft) -> bool:
        """Whether the draft says it all: it has its unique key, and the asker reads the character set."""
        parts, as_declared = draft
        unique = parts[self._unique]
        known = unique is not self._blank[self._unique] and unique[_SHORT:].strip(b" \0") != b""
        return known and (as_declared or self._is_ascii(parts))

    def _is_ascii(self, parts: list[bytes]) -> bool:
        known = [part[_SHORT:] for part, blank in zip(parts, self._blank, strict=True) if part is not blank]
        values = b"".join(known)
        return values.isascii() and b"\x1b" not in values

    def matches(self, draft: Draft) -> bool:
        """Whether it is an answer. The verdict on equal values is remembered, as on a date that many studies share."""
        if not self._keys:
            return True
        parts, _ = draft
        known = [parts[place] for place in self._keys if parts[place] is not self._blank[place]]
        return self._verdict(self._blank[self._charset] + b"".join(known))

    @staticmethod
    def answer(draft: Draft) -> Attributes:
        """The answer."""
        return Encoded(b"".join(draft[0]))


@lru_cache(maxsize=4096)
def _written(tag: int, element: Element) -> bytes:
    return encoding.write([(tag, element)], implicit=False)

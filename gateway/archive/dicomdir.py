"""Reading a DICOMDIR as it is found in the field (PS3.3 Annex F, PS3.10 8.6).

The records are followed by their offsets, depth first. The usual record, explicit VR little endian with its links
first in an item of defined length, is taken apart by one ``Struct``; anything else goes the slow way: implicit VR, big
endian, undefined lengths, missing delimiters, other orders. Offsets that are all shifted are mended by the nearest
record, a file without offsets is read in order by the types of its records.

A record that cannot be read is put into quarantine with the reason, and the walk goes on; where its links are
lost, what hung on them is left out rather than guessed at, since a guess could move an image to another patient.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from gateway.archive.directorybytes import DirectoryBytes
from gateway.archive.layout import (
    BODY_AT,
    FILE_ID,
    IN_USE,
    ITEM,
    LOWER,
    LOWER_HEADER,
    NEXT,
    NEXT_HEADER,
    RECORD,
    SOP_CLASS,
    SOP_INSTANCE,
    TRANSFER_SYNTAX,
    TYPE,
    TYPE_HEADER,
    USE_HEADER,
    Quarantined,
    Record,
)
from gateway.dicom import encoding
from gateway.dicom.attributes import Element, MalformedDataset

_new = tuple.__new__
_RANK = {"PATIENT": 0, "STUDY": 1, "SERIES": 2}
_KEYS = {b"\x00\x15": 0, b"\x10\x15": 1, b"\x11\x15": 2, b"\x12\x15": 3}
MAX_DEPTH = 16


class Dicomdir(DirectoryBytes):
    """An open DICOMDIR with its records; a context manager.

    Attributes:
        quarantined: filled while :meth:`records` is walked.
        links_lost: whether records may hang on what could not be read.
        appendable: after a walk, whether every record has the shape that the publisher patches in place.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.quarantined: list[Quarantined] = []
        self.links_lost = False
        self.appendable = self.ends_well
        self._shift = 0

    def records(self) -> Iterator[tuple[int, Record]]:
        """Every record in use with its depth, parents before children.

        Children of an inactive record are not visited: nobody reaches them.
        """
        if self._without_offsets():
            yield from self._in_order()
            return
        seen = bytearray(self.size // 32 + 2)  # no record is shorter than 50 bytes
        stack = [(self.first_root or self.items_at, 0)] if self._at_item(self.items_at) else []
        while stack:
            offset, depth = stack.pop()
            at = self._locate(offset)
            if at < 0:
                self._lost(offset, "link leads to no record")
                continue
            if seen[at >> 5]:
                self._lost(offset, "link leads back to a record seen before")
                continue
            seen[at >> 5] = 1
            record = self.record_at(at)
            if record is None:
                continue
            if record.next:
                stack.append((record.next, depth))
            if not record.in_use or not record.type:
                continue
            yield depth, record
            if record.lower:
                if depth + 1 >= MAX_DEPTH:
                    self._lost(at, "records nested too deep")
                else:
                    stack.append((record.lower, depth + 1))

    def _lost(self, offset: int, reason: str) -> None:
        self.links_lost = True
        self.quarantined.append(Quarantined(offset, reason))

    def record_at(self, at: int) -> Record | None:
        """The record whose item begins at ``at``; None, and an entry in quarantine, when even its links are lost.

        A record whose links can be read but nothing else has an empty type.
        """
        if not self.implicit and not self.big and at + RECORD.size <= self.size:
            record = self._usual(at)
            if record is not None:
                return record
        self.appendable = False
        return self._unusual(at)

    def _usual(self, at: int) -> Record | None:
        fields = RECORD.unpack_from(self._map, at)
        item, length, next_header, following, use_header, use, lower_header, lower, type_header, type_length = fields
        end = at + 8 + length
        if (
            item != ITEM
            or end > self.size
            or next_header != NEXT_HEADER
            or use_header != USE_HEADER
            or lower_header != LOWER_HEADER
            or type_header != TYPE_HEADER
        ):
            return None
        body = self._map[at + BODY_AT : end]
        pos, size = 8 + type_length, len(body)
        found = ["", "", "", ""]
        while pos + 8 <= size and body[pos : pos + 2] == b"\4\0":
            slot = _KEYS.get(body[pos + 2 : pos + 4])
            stop = pos + 8 + (body[pos + 6] | body[pos + 7] << 8)
            if slot is not None:
                found[slot] = body[pos + 8 : stop].decode("latin-1").rstrip("\0 ")
            elif body[pos + 4 : pos + 6] not in {b"UI", b"CS", b"UL", b"US"}:
                return None
            pos = stop
        if pos > size:
            return None
        name = body[8 : 8 + type_length].decode("latin-1").strip()
        fields = (at, following, lower, use != 0, name, *found, body, pos)
        return _new(Record, fields)  # twice as fast as calling Record, and done a million times

    def _unusual(self, at: int) -> Record | None:
        try:
            body, end = self._item_bounds(at)
            implicit = self.implicit
            read = self._elements(body, end, 1 << 32, implicit=implicit)
        except MalformedDataset as error:
            return self._links_only(at, error.reason)
        if TYPE not in read:
            return self._links_only(at, "no Directory Record Type")
        in_use = IN_USE not in read or _number(read[IN_USE]) != 0
        links = {tag: _number(read.pop(tag, None)) for tag in (NEXT, LOWER, IN_USE)}
        texts = {
            tag: read[tag].value.decode("latin-1").strip("\0 ") if tag in read else ""
            for tag in (TYPE, FILE_ID, SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX)
        }
        kept = sorted((tag, element) for tag, element in read.items() if tag >= TYPE)
        front = encoding.write([one for one in kept if one[0] >> 16 == 4], implicit=False)
        rest = encoding.write([one for one in kept if one[0] >> 16 > 4], implicit=False)
        return Record(
            at, links[NEXT], links[LOWER], in_use, texts[TYPE], texts[FILE_ID], texts[SOP_CLASS],
            texts[SOP_INSTANCE], texts[TRANSFER_SYNTAX], front + rest, len(front),
        )  # fmt: skip

    def _links_only(self, at: int, reason: str) -> Record | None:
        """What is left of a bad record: its links, so that its sisters stay reachable."""
        self.quarantined.append(Quarantined(at, reason))
        try:
            read = self._elements(at + 8, min(self.size, at + 58), TYPE, implicit=self.implicit)
        except MalformedDataset:
            self.links_lost = True
            return None
        following = _number(read.get(NEXT))
        if _number(read.get(LOWER)):
            self.links_lost = True
        return Record(at, following, 0, True, "", "", "", "", "", b"", 0)  # noqa: FBT003

    def _locate(self, offset: int) -> int:
        """The record that an offset means; -1 when there is none near."""
        if self.items_at <= offset < self.size and self._at_item(offset):
            return offset
        table = self._sequential()
        if not table:
            return -1
        if not self._shift and self.first_root and not self._at_item(self.first_root):
            self._shift = table[0] - self.first_root
        self.appendable = False
        wanted = offset + self._shift
        place = bisect_left(table, wanted)
        nearest = min(table[max(0, place - 1) : place + 1], key=lambda one: abs(one - wanted))
        return nearest if abs(nearest - wanted) <= 64 else -1

    def _without_offsets(self) -> bool:
        """Whether the first records have no links although there are several."""
        if not self._at_item(self.items_at):
            return False
        at = self._locate(self.first_root) if self.first_root else -1
        if at >= 0 and (first := self.record_at(at)) and (first.next or first.lower):
            return False
        table = self._sequential()
        noted = len(self.quarantined)
        linked = any(one.next or one.lower for one in map(self.record_at, table[:64]) if one)
        del self.quarantined[noted:]
        return not linked and len(table) > 1

    def _in_order(self) -> Iterator[tuple[int, Record]]:
        self.appendable = False
        for at in self._sequential():
            record = self.record_at(at)
            if record is not None and record.in_use and record.type:
                yield _RANK.get(record.type, 3), record


def _number(element: Element | None) -> int:
    """The value of a link, whose VR may be wrong or unknown: unsigned, as wide as it is."""
    return int.from_bytes(element.value, "little") if element and len(element.value) in {2, 4} else 0

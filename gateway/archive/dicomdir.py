"""Reading a DICOMDIR as it is found in the field (PS3.3 Annex F, PS3.10 8.6).

A large file is mapped. The records are followed by their offsets, depth first. The usual record, explicit VR little
endian with its links first in an item of defined length, is taken apart by one ``Struct``; anything else goes the
slow way: implicit VR, big endian, undefined lengths, missing delimiters, other orders. Offsets that are all shifted
are mended by the nearest record, a file without offsets is read in order by the types of its records.

A record that cannot be read is put into quarantine with the reason, and the walk goes on; where its links are
lost, what hung on them is left out rather than guessed at, since a guess could move an image to another patient.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct, unpack
from types import TracebackType
from typing import Self

from gateway.archive import syntax
from gateway.archive.layout import (
    BODY_AT,
    CONSISTENCY,
    FILE_ID,
    FIRST_ROOT,
    IN_USE,
    ITEM,
    LOWER,
    LOWER_HEADER,
    NEXT,
    NEXT_HEADER,
    RECORD,
    SEQUENCE,
    SEQUENCE_END,
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
from gateway.dicom.encoding import UNDEFINED

_MAPPED = 1 << 25
_new = tuple.__new__
_RANK = {"PATIENT": 0, "STUDY": 1, "SERIES": 2}
_SHORT = Struct("<HH2sH")
_KEYS = {b"\x00\x15": 0, b"\x10\x15": 1, b"\x11\x15": 2, b"\x12\x15": 3}
MAX_DEPTH = 16


class NotADicomdir(ValueError):
    """The file is no DICOMDIR at all; its reason says why."""


class Dicomdir:
    """An open DICOMDIR; a context manager.

    Attributes:
        quarantined: filled while :meth:`records` is walked.
        consistent: whether whoever wrote it had finished (File-set Consistency Flag, PS3.3 F.3.2.1).
        appendable: after a walk, whether every record has the shape that the publisher patches in place.

    Raises:
        NotADicomdir: no Directory Record Sequence is to be found.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise NotADicomdir("the file is empty")
            # A file that somebody cuts short ends a process that has it mapped, so only what is large is mapped.
            self._map = (
                mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size > _MAPPED else file.read()
            )  # fmt: skip
        self.size = len(self._map)
        self.quarantined: list[Quarantined] = []
        self.links_lost = False
        self._table: list[int] | None = None
        self._shift = 0
        self._view = memoryview(self._map)
        try:
            self._read_front()
        except MalformedDataset as error:
            self.close()
            raise NotADicomdir(str(error)) from error
        except NotADicomdir:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file."""
        self._view.release()
        if isinstance(self._map, mmap.mmap):
            with suppress(BufferError):  # a traceback may still hold a view; the map goes with it
                self._map.close()

    def _read_front(self) -> None:
        """File meta, then the elements of the file-set up to the sequence of records."""
        pos, uid = 0, ""
        if self._map[128:132] == b"DICM":
            meta, read = encoding.read(self._view[132:], implicit=False, stop=0x00030000)
            pos = 132 + read
            uid = meta[0x00020010].value.decode("latin-1").strip("\0 ") if 0x00020010 in meta else ""
        self.implicit, self.big = self._detect(pos, uid)
        self.first_root = 0
        self.consistent = True
        self.file_set_id = ""
        while pos + 8 <= self.size:
            tag, _, length, body = self._header(pos)
            if tag == SEQUENCE:
                self.items_at = body
                self.sequence_length = length
                self.appendable = self._ends_well()
                return
            if length == UNDEFINED:
                raise NotADicomdir("an undefined length where none may be")
            self._front_element(tag, bytes(self._view[body : body + length]))
            pos = body + length
        raise NotADicomdir("no Directory Record Sequence")

    def _detect(self, pos: int, uid: str) -> tuple[bool, bool]:
        """Whether VRs are implicit, and the bytes big endian: as the bytes are, since the meta may be wrong."""
        head = self._map[pos : pos + 8]
        if head[:4].startswith(b"\0\4"):
            return False, True
        if len(head) < 8 or not head.startswith(b"\4\0"):
            raise NotADicomdir("no group 0004 where the data set begins")
        explicit = head[4:6].isalpha() and head[4:6].isupper()
        return (not explicit) if uid != syntax.EXPLICIT_BIG else False, False

    def _front_element(self, tag: int, value: bytes) -> None:
        if tag == FIRST_ROOT and len(value) == 4:
            self.first_root = unpack(">L" if self.big else "<L", value)[0]
        elif tag == CONSISTENCY:
            self.consistent = not any(value)
        elif tag == 0x00041130:
            self.file_set_id = value.decode("latin-1").strip(" \0")

    def _ends_well(self) -> bool:
        """Whether new records can go where the sequence's delimiter stands, at the very end."""
        plain = not self.implicit and not self.big and self.sequence_length == UNDEFINED
        return plain and self._map[self.size - 8 :] == SEQUENCE_END

    def _header(self, pos: int) -> tuple[int, str, int, int]:
        if self.big:
            return syntax.header(self._view, pos)
        group, element, raw, short = _SHORT.unpack_from(self._view, pos)
        tag = group << 16 | element
        if self.implicit or group == 0xFFFE:
            return tag, "", unpack("<L", self._view[pos + 4 : pos + 8])[0], pos + 8
        vr = raw.decode("latin-1")
        if not (raw.isalpha() and raw.isupper()):
            raise MalformedDataset("no value representation", pos)
        if vr not in encoding.LONG_VRS:
            return tag, vr, short, pos + 8
        if pos + 12 > self.size:
            raise MalformedDataset("truncated element", pos)
        return tag, vr, unpack("<L", self._view[pos + 8 : pos + 12])[0], pos + 12

    # -- walking ---------------------------------------------------------------------------------------------------

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

    def _elements(self, start: int, end: int, stop: int, *, implicit: bool) -> dict[int, Element]:
        if self.big:
            return syntax.read_big_endian(self._view[start:end], stop=stop)[0]
        return encoding.read(self._view[start:end], implicit=implicit, stop=stop)[0]

    # -- bounds and the sequential order ---------------------------------------------------------------------------

    def _at_item(self, pos: int) -> bool:
        return self._map[pos : pos + 4] == (b"\xff\xfe\xe0\x00" if self.big else ITEM)

    def _item_bounds(self, at: int) -> tuple[int, int]:
        """Where the elements of the item at ``at`` begin and end."""
        if at + 8 > self.size:
            raise MalformedDataset("truncated record", at)
        length = unpack(">L" if self.big else "<L", self._view[at + 4 : at + 8])[0]
        if length == UNDEFINED:
            return at + 8, self._elements_end(at + 8, 0)
        if at + 8 + length > self.size:
            raise MalformedDataset("record runs past the end of the file", at)
        return at + 8, at + 8 + length

    def _elements_end(self, pos: int, depth: int) -> int:
        """Where elements end that no length bounds: at a delimiter, or where the next item begins without one."""
        while pos + 8 <= self.size:
            tag, _, length, body = self._header(pos)
            if tag >> 16 == 0xFFFE:
                return pos
            if length == UNDEFINED:
                pos = self._sequence_end(body, depth + 1)
            elif body + length > self.size:
                raise MalformedDataset("value runs past the end", pos)
            else:
                pos = body + length
        return min(pos, self.size)

    def _sequence_end(self, pos: int, depth: int) -> int:
        if depth > encoding.MAX_DEPTH:
            raise MalformedDataset("sequences nested too deep", pos)
        while pos + 8 <= self.size:
            tag, _, length, body = self._header(pos)
            if tag == 0xFFFEE0DD:
                return body
            if tag == 0xFFFEE00D:
                pos = body
            elif tag != 0xFFFEE000:
                raise MalformedDataset("item expected", pos)
            else:
                pos = self._elements_end(body, depth) if length == UNDEFINED else body + length
        raise MalformedDataset("sequence without delimiter", pos)

    def _sequential(self) -> list[int]:
        """Offsets of all records in the order they stand in the file."""
        if self._table is None:
            self._table = list(self._scan())
        return self._table

    def _scan(self) -> Iterator[int]:
        pos, item = self.items_at, b"\xff\xfe\xe0\x00" if self.big else ITEM
        while 0 <= pos < self.size - 8:
            if self._at_item(pos):
                yield pos
                try:
                    pos = self._item_bounds(pos)[1]
                except MalformedDataset:
                    pos += 8
                continue
            tag = unpack(">HH" if self.big else "<HH", self._view[pos : pos + 4])
            if tag == (0xFFFE, 0xE0DD):
                return
            pos = pos + 8 if tag == (0xFFFE, 0xE00D) else self._map.find(item, pos + 1)

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

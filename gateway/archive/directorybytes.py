"""A DICOMDIR as bytes: its front, and where items and elements begin and end, in any of the encodings of the field.

A large file is mapped. What is wrong with the bytes is told by :class:`~gateway.dicom.attributes.MalformedDataset`;
what to make of that is the walk's business, in :mod:`gateway.archive.dicomdir`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct, unpack
from types import TracebackType
from typing import Self

from gateway.archive import syntax
from gateway.archive.layout import CONSISTENCY, FIRST_ROOT, ITEM, SEQUENCE, SEQUENCE_END
from gateway.dicom import encoding
from gateway.dicom.attributes import Element, MalformedDataset
from gateway.dicom.encoding import UNDEFINED

_MAPPED = 1 << 25
_SHORT = Struct("<HH2sH")


class NotADicomdir(ValueError):
    """The file is no DICOMDIR at all; its reason says why."""


class DirectoryBytes:
    """An open DICOMDIR; a context manager.

    Attributes:
        size: in bytes.
        implicit: whether VRs are.
        big: whether the bytes are big endian.
        items_at: where the first item of the Directory Record Sequence should begin.
        first_root: the offset of the first record as the file says it.
        file_set_id: (0004,1130).
        consistent: whether whoever wrote it had finished (File-set Consistency Flag, PS3.3 F.3.2.1).
        ends_well: whether new records can go where the sequence's delimiter stands, at the very end.

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
        self._table: list[int] | None = None
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
                self.ends_well = self._ends_well()
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

    def _elements(self, start: int, end: int, stop: int, *, implicit: bool) -> dict[int, Element]:
        if self.big:
            return syntax.read_big_endian(self._view[start:end], stop=stop)[0]
        return encoding.read(self._view[start:end], implicit=implicit, stop=stop)[0]

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

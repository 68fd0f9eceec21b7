"""Writing a DICOMDIR: records appended to, linked and made inactive in a mapped file that nobody else reads yet.

The layout is the one all tools survive: explicit VR little endian, a sequence of undefined length with its delimiter
at the very end, items of defined length with their links first. The file is either a copy of the published DICOMDIR or
a new one; it is synced, and put in the published one's place by its owner.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from struct import Struct
from uuid import uuid4

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.archive.layout import (
    BODY_AT,
    ITEM,
    LOWER_AT,
    LOWER_HEADER,
    MAX_BYTES,
    NEXT_AT,
    NEXT_HEADER,
    RECORD,
    SEQUENCE_END,
    USE_AT,
    USE_HEADER,
)
from gateway.dicom import encoding
from gateway.dicom.attributes import Element, pad
from gateway.errors import StorageError

_LONG = Struct("<L")
_SHORT = Struct("<H")
_LINKS = Struct("<4sL8sL8sH8sL")
_GROWTH = 1 << 20
_FIRST_ROOT = b"\4\0\0\x12UL\4\0"
_LAST_ROOT = b"\4\0\2\x12UL\4\0"
_SEQUENCE = b"\4\0\x20\x12SQ\0\0\xff\xff\xff\xff"
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


class Canvas:
    """A DICOMDIR being written. Offsets are from the beginning of the file; the root has offset 0.

    Args:
        path: a complete DICOMDIR in the layout of this module.

    Raises:
        StorageError: it has another layout.
        OSError: the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._fd, 0)
        self._end = len(self._map) - 8
        start = self._map.find(_SEQUENCE)
        self._first = self._map.find(_FIRST_ROOT, 0, start) + 8
        self._last = self._map.find(_LAST_ROOT, 0, start) + 8
        if start < 0 or self._first < 8 or self._last < 8 or self._map[self._end :] != SEQUENCE_END:
            self.abandon()
            raise StorageError("the DICOMDIR has a layout that cannot be extended")
        self._tails: dict[int, int] = {}

    def append(self, parent: int, body: bytes) -> int:
        """Add a record as the last child of ``parent`` and return its offset.

        Args:
            body: everything from Directory Record Type on.

        Raises:
            StorageError: the file would pass 2 GiB.
        """
        at, size = self._end, BODY_AT + len(body)
        if at + size + 8 > MAX_BYTES:
            raise StorageError("the DICOMDIR would pass 2 GiB", hint="split the archive into several file-sets")
        if at + size + 8 > len(self._map):
            # Without blocks behind it, a write to a map is a signal on a full disk, not an error.
            os.posix_fallocate(self._fd, len(self._map), at + size + _GROWTH - len(self._map))
            self._map.resize(at + size + _GROWTH)
        links = _LINKS.pack(ITEM, size - 8, NEXT_HEADER, 0, USE_HEADER, 0xFFFF, LOWER_HEADER, 0)
        self._map[at : at + size] = links + body
        self._end = at + size
        self._link(parent, at)
        return at

    def _link(self, parent: int, at: int) -> None:
        tail = self._tails.get(parent) or self._tail(parent)
        if tail:
            _LONG.pack_into(self._map, tail + NEXT_AT, at)
        else:
            _LONG.pack_into(self._map, parent + LOWER_AT if parent else self._first, at)
        if not parent:
            _LONG.pack_into(self._map, self._last, at)
        self._tails[parent] = at

    def _tail(self, parent: int) -> int:
        if not parent:
            last: int = _LONG.unpack_from(self._map, self._last)[0]
            if last and not self._next(last):
                return last
        *_, tail = (0, *self.children(parent))
        return tail

    def children(self, parent: int) -> list[int]:
        """Offsets of the children of a record, inactive ones included."""
        at: int = _LONG.unpack_from(self._map, parent + LOWER_AT if parent else self._first)[0]
        found: list[int] = []
        seen: set[int] = set()
        while at and at not in seen:
            if self._map[at : at + 4] != ITEM:
                raise StorageError("a link of the DICOMDIR leads to no record")
            seen.add(at)
            found.append(at)
            at = self._next(at)
        return found

    def _next(self, at: int) -> int:
        following: int = _LONG.unpack_from(self._map, at + NEXT_AT)[0]
        return following

    def deactivate(self, at: int) -> None:
        """Make a record inactive (PS3.3 F.3.2.2, Record In-use Flag 0000H)."""
        _SHORT.pack_into(self._map, at + USE_AT, 0)

    def file_ids(self, parent: int) -> dict[str, int]:
        """The children in use that refer to a file, by their path with slashes."""
        found: dict[str, int] = {}
        for at in self.children(parent):
            in_use, type_length = RECORD.unpack_from(self._map, at)[5], RECORD.unpack_from(self._map, at)[9]
            pos = at + RECORD.size + type_length
            end = at + 8 + _LONG.unpack_from(self._map, at + 4)[0]
            while in_use and pos < end and self._map[pos : pos + 2] == b"\4\0":
                length = _SHORT.unpack_from(self._map, pos + 6)[0]
                if self._map[pos + 2 : pos + 4] == b"\0\x15":
                    value = self._map[pos + 8 : pos + 8 + length].decode("latin-1").rstrip("\0 ")
                    found["/".join(one.strip(" ") for one in value.split("\\"))] = at
                    break
                pos += 8 + length
        return found

    def finish(self) -> None:
        """Write the delimiter, cut what was mapped ahead, and close."""
        self._map[self._end : self._end + 8] = SEQUENCE_END
        size = self._end + 8
        self._map.flush()
        self._map.close()
        os.ftruncate(self._fd, size)
        os.close(self._fd)

    def abandon(self) -> None:
        """Close without finishing."""
        self._map.close()
        os.close(self._fd)


def blank(file_set_id: str = "") -> bytes:
    """A DICOMDIR without records, with a new Media Storage SOP Instance UID (PS3.5 B.2)."""
    meta = {
        0x00020001: Element("OB", b"\0\1"),
        0x00020002: _uid(_MEDIA_STORAGE_DIRECTORY),
        0x00020003: _uid(f"2.25.{uuid4().int}"),
        0x00020010: _uid("1.2.840.10008.1.2.1"),
        0x00020012: _uid(IMPLEMENTATION_CLASS_UID),
        0x00020013: Element("SH", pad("SH", IMPLEMENTATION_VERSION_NAME.encode())),
    }
    body = encoding.write(sorted(meta.items()), implicit=False)
    length = Element("UL", _LONG.pack(len(body)))
    front = {
        0x00041130: Element("CS", pad("CS", file_set_id.encode("ascii", "replace"))),
        0x00041200: Element("UL", bytes(4)),
        0x00041202: Element("UL", bytes(4)),
        0x00041212: Element("US", bytes(2)),
    }
    return b"".join(
        [
            bytes(128), b"DICM", encoding.write([(0x00020000, length)], implicit=False), body,
            encoding.write(sorted(front.items()), implicit=False), _SEQUENCE, SEQUENCE_END,
        ]
    )  # fmt: skip


def _uid(text: str) -> Element:
    return Element("UI", pad("UI", text.encode()))

"""The splice: changed elements put into the encoded head of a stored instance, the rest left in the file.

Only as much of the file is read as lies before the last changed element. What stands between two changed elements is
copied as it is, so untouched elements stay identical byte for byte, odd ones included. The values go in in the file's
own character set; where that lacks a character, the whole data set's text up to the pixel data becomes ISO_IR 192.

A group length (gggg,0000) of a touched group, and Length to End (0008,0001), would be wrong afterwards and are dropped;
both are retired (PS3.5 7.2).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Self

from gateway.coercion.convert import PIXELS, decoded, ordered
from gateway.coercion.heads import Disordered, Short, Syntax, Window, outline, syntax_of
from gateway.coercion.patch import Patch
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.encoding import MalformedDataset
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.errors import BadInstance, StorageError

_FIRST_READ = 16 * 1024  # holds the patient and study attributes of nearly every instance
_MAX_HEAD = 64 * 1024 * 1024
_MAX_INFLATED = 512 * 1024 * 1024


Choose = Callable[[Window, Syntax], Patch]
"""Picks the patch for a data set whose beginning is at hand; may ask for more of it by raising ``Short``."""


def splice(stored: StoredInstance, patch: Patch | Choose) -> Outgoing:
    """The instance with the changes in it, ready to be sent.

    Raises:
        BadInstance: the file is not the data set it should be, or inflates to more than 512 MiB.
        StorageError: the file cannot be read.
    """
    if isinstance(patch, Patch) and not patch.changes:
        return Outgoing.untouched(stored)
    syntax = syntax_of(stored.transfer_syntax_uid)
    try:
        with HeadReader(stored) as reader:
            head, cut, values = _spliced(reader, patch, syntax)
            if not cut and not head:
                return Outgoing.untouched(stored)
            if syntax.deflated:
                head, cut = _deflate(head + reader.window.data[cut:]), stored.size - stored.dataset_offset
    except MalformedDataset as error:
        raise BadInstance(f"instance cannot be coerced: {error.reason}") from error
    offset = stored.dataset_offset + cut
    return Outgoing(
        values.text(tags.SOPClassUID) if tags.SOPClassUID in values else stored.sop_class_uid,
        values.text(tags.SOPInstanceUID) if tags.SOPInstanceUID in values else stored.sop_instance_uid,
        stored.transfer_syntax_uid,
        head,
        stored.path,
        offset,
        stored.size - offset,
    )


def _spliced(reader: HeadReader, patch: Patch | Choose, syntax: Syntax) -> tuple[bytes, int, Attributes]:
    """The new head, the offset in the data set from which the old bytes go on, and the values changed."""
    while True:
        try:
            chosen = patch if isinstance(patch, Patch) else patch(reader.window, syntax)
            return *chosen.head(reader.window, syntax), chosen.changes.values
        except Short:
            reader.more()
        except Disordered:
            data, cut = _in_order(reader, syntax)
            window = Window(data, len(data))
            chosen = patch if isinstance(patch, Patch) else patch(window, syntax)
            head, kept = chosen.head(window, syntax)
            return (head + data[kept:], cut, chosen.changes.values) if head or kept else (b"", 0, chosen.changes.values)


def read_head(stored: StoredInstance, stop: int = PIXELS) -> Attributes:
    """The attributes of a stored instance below ``stop``, without pixel data; big endian ones made little endian.

    Raises:
        BadInstance: the file is not the data set it should be.
        StorageError: the file cannot be read.
    """
    syntax = syntax_of(stored.transfer_syntax_uid)
    try:
        with HeadReader(stored) as reader:
            return Attributes(decoded(_head_bytes(reader, min(stop, PIXELS), syntax), syntax))
    except MalformedDataset as error:
        raise BadInstance(f"instance cannot be read: {error.reason}") from error


def _head_bytes(reader: HeadReader, stop: int, syntax: Syntax) -> bytes:
    while True:
        try:
            cut = outline(reader.window, stop - 1, syntax).end
            if cut <= len(reader.window.data):
                return reader.window.data[:cut]
            reader.more()
        except Short:
            reader.more()
        except Disordered:
            return _in_order(reader, syntax)[0]


def _in_order(reader: HeadReader, syntax: Syntax) -> tuple[bytes, int]:
    while True:
        try:
            return ordered(reader.window, syntax)
        except Short:
            reader.more()


class HeadReader:
    """Reads the beginning of a stored data set, and more of it when asked."""

    def __init__(self, stored: StoredInstance) -> None:
        self._stored = stored
        self._fd = -1
        self.window = Window(b"", stored.size - stored.dataset_offset)

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._stored.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError("a stored instance cannot be opened") from error
        try:
            if syntax_of(self._stored.transfer_syntax_uid).deflated:
                data = _inflate(self._read(self.window.whole))
                self.window = Window(data, len(data))
            else:
                self.window.data = self._read(min(_FIRST_READ, self.window.whole))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def more(self) -> None:
        """Have four times as much of the data set at hand.

        Raises:
            MalformedDataset: the file ends early, or the head is longer than any head is.
        """
        have = len(self.window.data)
        if have >= min(self.window.whole, _MAX_HEAD):
            raise MalformedDataset("the head does not end", have)
        self.window.data = self._read(min(4 * have, self.window.whole, _MAX_HEAD))

    def _read(self, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, self._stored.dataset_offset)
            while len(data) < size and (next_ := os.pread(self._fd, size - len(data), self._offset(data))):
                data += next_
        except OSError as error:
            raise StorageError("a stored instance cannot be read") from error
        if len(data) < size:
            raise MalformedDataset("the file is shorter than the index says", len(data))
        return data

    def _offset(self, data: bytes) -> int:
        return self._stored.dataset_offset + len(data)


def _inflate(data: bytes) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5), but never to more than 512 MiB: 600 KB can hold a gigabyte."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data, _MAX_INFLATED)
    except zlib.error:
        raise MalformedDataset("not a deflate stream", 0) from None
    if stream.unconsumed_tail:
        raise MalformedDataset(f"inflates to more than {_MAX_INFLATED >> 20} MiB", len(plain))
    if not stream.eof:
        raise MalformedDataset("the deflate stream does not end", len(plain))
    return plain


def _deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = stream.compress(data) + stream.flush()
    return packed + b"\0" if len(packed) % 2 else packed

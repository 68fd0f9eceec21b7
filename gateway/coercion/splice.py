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
from dataclasses import dataclass, field
from typing import Self

from gateway.coercion.changes import UTF8, Changes
from gateway.coercion.convert import PIXELS, converted_head, decoded, encoded, ordered
from gateway.coercion.heads import Disordered, Short, Syntax, Window, locate, syntax_of
from gateway.dicom import charset, tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.encoding import MalformedDataset
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.errors import BadInstance, StorageError

_FIRST_READ = 16 * 1024  # holds the patient and study attributes of nearly every instance
_MAX_HEAD = 64 * 1024 * 1024
_MAX_INFLATED = 512 * 1024 * 1024
_CHARSET_TAGS = (tags.SpecificCharacterSet,)
_PIXEL_TAGS = (PIXELS,)
_LENGTH_TO_END = 0x00080001
_EXPECTED = frozenset(
    map(
        tags.tag_of,
        [
            "StudyDate",
            "StudyTime",
            "AccessionNumber",
            "ReferringPhysicianName",
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyInstanceUID",
            "StudyID",
        ],
    )
)
"""What every composite instance has (types 1 and 2 in PS3.3 C.7.1.1 and C.7.2.1), if only without a value."""

Encoded = tuple[tuple[int, ...], tuple[bytes, ...]]
"""Tags to be located, ascending, and the bytes to be put in their places; empty bytes remove."""


@dataclass(frozen=True)
class Patch:
    """Changes made ready for many files: their bytes are made once per character set and encoding.

    Safe to share between threads: two that race only compute the same value twice.
    """

    changes: Changes
    _ready: dict[tuple[charset.Terms, Syntax], Encoded | None] = field(default_factory=dict, compare=False, repr=False)

    def encoded(self, terms: charset.Terms, syntax: Syntax) -> Encoded | None:
        """What to put where in a file of this character set; None where the set lacks a character."""
        key = (terms, syntax)
        if key not in self._ready:
            self._ready[key] = self._encode(terms, syntax)
        return self._ready[key]

    def _encode(self, terms: charset.Terms, syntax: Syntax) -> Encoded | None:
        try:
            values = self.changes.values.in_charset(terms)
        except charset.Unrepresentable:
            return None
        return laid_out(values, self.changes.tags, syntax)


def laid_out(values: Attributes, changed: tuple[int, ...], syntax: Syntax) -> Encoded:
    """The tags to locate for a change of ``changed``, with the bytes of those that have a value in ``values``."""
    places = {tag: encoded(tag, values[tag], syntax) if tag in values else b"" for tag in changed}
    dropped = {tag & 0xFFFF0000 for tag in changed} | {_LENGTH_TO_END}
    everything = {**dict.fromkeys(dropped, b""), **places}
    order = tuple(sorted(everything))
    return order, tuple(everything[tag] for tag in order)


def splice(stored: StoredInstance, patch: Patch) -> Outgoing:
    """The instance with the changes in it, ready to be sent.

    Raises:
        BadInstance: the file is not the data set it should be, or inflates to more than 512 MiB.
        StorageError: the file cannot be read.
    """
    if not patch.changes:
        return Outgoing.untouched(stored)
    syntax = syntax_of(stored.transfer_syntax_uid)
    try:
        with HeadReader(stored) as reader:
            head, cut = _spliced(reader, patch, syntax)
            if syntax.deflated:
                head, cut = _deflate(head + reader.window.data[cut:]), reader.window.whole
    except MalformedDataset as error:
        raise BadInstance(f"instance cannot be coerced: {error.reason}") from error
    values = patch.changes.values
    offset = stored.size if syntax.deflated else stored.dataset_offset + cut
    return Outgoing(
        values.text(tags.SOPClassUID) if tags.SOPClassUID in values else stored.sop_class_uid,
        values.text(tags.SOPInstanceUID) if tags.SOPInstanceUID in values else stored.sop_instance_uid,
        stored.transfer_syntax_uid,
        head,
        stored.path,
        offset,
        stored.size - offset,
    )


def _spliced(reader: HeadReader, patch: Patch, syntax: Syntax) -> tuple[bytes, int]:
    """The new head, and the offset in the data set from which the old bytes go on."""
    while True:
        try:
            terms = terms_of(reader.window, syntax)
            plan = patch.encoded(terms, syntax)
            if plan is None:
                values = laid_out(patch.changes.values.in_charset(UTF8), patch.changes.tags, syntax)
                return converted_head(reader.window, terms, values, syntax)
            return joined(reader.window, plan, syntax)
        except Short:
            reader.more()
        except Disordered:
            return _from_disorder(reader, patch, syntax)


def joined(window: Window, plan: Encoded, syntax: Syntax) -> tuple[bytes, int]:
    """Put the bytes of a plan in their places; returns the head and where the rest of the old bytes begins."""
    data, kept = window.data, 0
    parts: list[bytes] = []
    places = locate(window, plan[0], syntax)
    if any(start == end and tag in _EXPECTED for tag, (start, end) in zip(plan[0], places, strict=True)):
        locate(window, _PIXEL_TAGS, syntax)  # it may stand further down, out of order: look, or there would be two
    for (start, end), value in zip(places, plan[1], strict=True):
        if start != kept:
            parts.append(data[kept:start])
        parts.append(value)
        kept = end
    return b"".join(parts), kept


def terms_of(window: Window, syntax: Syntax) -> charset.Terms:
    """Specific Character Set of a data set whose beginning is at hand.

    Raises:
        Short, Disordered, MalformedDataset: as :func:`gateway.coercion.heads.locate`.
    """
    ((start, end),) = locate(window, _CHARSET_TAGS, syntax)
    if end <= start + 8:
        return ()
    if end > len(window.data):
        raise Short
    return tuple(term.strip(" \0") for term in window.data[start + 8 : end].decode("latin-1").split("\\"))


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
            ((cut, _),) = locate(reader.window, (stop,), syntax)
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


def _from_disorder(reader: HeadReader, patch: Patch, syntax: Syntax) -> tuple[bytes, int]:
    """Splice into a data set whose elements are out of order: they are put in order first."""
    data, cut = _in_order(reader, syntax)
    window = Window(data, len(data))
    terms = terms_of(window, syntax)
    plan = patch.encoded(terms, syntax)
    if plan is None:
        values = laid_out(patch.changes.values.in_charset(UTF8), patch.changes.tags, syntax)
        head, kept = converted_head(window, terms, values, syntax)
    else:
        head, kept = joined(window, plan, syntax)
    return head + data[kept:], cut


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

"""The files of the journal: records behind one another in blocks that were written before.

A file is begun with a number of its own, so that what it held before means nothing; each record has that number, and
digests by which one that was cut off is told.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

import xxhash

from gateway.errors import StorageError

PAGE = 4096
_BLOCK = 1 << 20
_MAGIC = b"LEADGWJ1"
_RUN = Struct("<8s16s16s")
_RECORD = Struct("<8s16sQQQQHH")
_DIGEST = Struct("<Q")
_TRIES = 1000


class Entry(NamedTuple):
    """One record as it is found again.

    Attributes:
        row: number of the instance's row in the index; records are in the order of these.
        path: the run's file; the instance's is at ``offset`` there.
        size: of the instance's file in bytes.
        kept: bytes of it that the run has: all of them, or none where it was synced at its place.
    """

    row: int
    sop_instance_uid: str
    file_id: str
    path: Path
    offset: int
    size: int
    kept: int
    digest: int

    def read(self) -> bytes:
        """The instance's file, where the run has it."""
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), self.kept, self.offset)

    def is_whole(self, path: Path) -> bool:
        """Whether a file has these bytes, or as many, where there is nothing to compare with."""
        try:
            if not self.kept:
                return path.stat().st_size == self.size
            found = path.read_bytes()
        except FileNotFoundError:
            return False
        return len(found) == self.size and xxhash.xxh3_64_intdigest(found) == self.digest


class Body(NamedTuple):
    """A file's bytes, read before the index is locked; ``data`` is empty for a file to be synced at its place."""

    size: int
    data: bytes = b""
    digest: int = 0

    @classmethod
    def of(cls, fd: int, size: int) -> Body:
        """The bytes of an open file."""
        data = os.pread(fd, size, 0)
        return cls(size, data, xxhash.xxh3_64_intdigest(data))


class Written(NamedTuple):
    """Where a record was written, to be made void if its row is not committed after all."""

    run: Run
    begun: bytes
    offset: int
    body: Body


class Run:
    """A file that this process holds and fills from the front, once for each time it is free."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self._fd = fd
        self._size = size
        self._id = self._identity = b""
        self._at = 0

    @classmethod
    def claim(cls, base: Path, size: int, spare: int = 0) -> Run:
        """Take a file that nobody holds, or make one, with all its blocks written.

        Args:
            spare: bytes that stay free on the disk.

        Raises:
            OSError: there is no room for it.
        """
        for number in range(_TRIES):
            path = base.with_name(f"{base.name}-{number:03}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink and not _begun(fd):
                    _fill(fd, size, spare)
                    return cls(path, fd, size)
            except BlockingIOError:
                pass
            except BaseException:
                path.unlink(missing_ok=True)
                os.close(fd)
                raise
            os.close(fd)
        raise StorageError("no name is left for a journal")

    def begin(self, identity: bytes) -> None:
        """Start anew from the front; what was there before means nothing once the first record is synced."""
        self._id, self._identity = secrets.token_bytes(16), identity
        os.pwrite(self._fd, _padded(_RUN.pack(_MAGIC, self._id, identity)), 0)
        self._at = PAGE

    def append(self, row: int, uid: str, file_id: str, body: Body) -> Written | None:
        """Write a record and sync it; None where it does not fit."""
        head = self._head(row, uid, file_id, body)
        if self._at + len(head) + _in_pages(len(body.data)) > self._size:
            return None
        flags = os.RWF_DSYNC if self._at > PAGE else 0
        if os.pwritev(self._fd, [head, body.data], self._at, flags) != len(head) + len(body.data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not flags:
            os.fdatasync(self._fd)  # the first record brings out the run's beginning with it
        written = Written(self, self._id, self._at, body)
        self._at += len(head) + _in_pages(len(body.data))
        return written

    def _head(self, row: int, uid: str, file_id: str, body: Body) -> bytes:
        names = uid.encode(), file_id.encode()
        head = _RECORD.pack(_MAGIC, self._id, row, body.size, len(body.data), body.digest, *map(len, names)) + b"".join(
            names
        )
        return _padded(head + _DIGEST.pack(xxhash.xxh3_64_intdigest(head)))

    def void(self, written: Written) -> None:
        """Make a record mean nothing, unless the run has begun anew since."""
        if written.begun != self._id:
            return
        os.pwrite(self._fd, self._head(0, "", "", written.body), written.offset)
        os.fdatasync(self._fd)

    def entries(self) -> Iterator[Entry]:
        """The records it holds."""
        return entries(self.path, self._fd, self._identity)

    def end(self) -> None:
        """Say that all of it is elsewhere; and let go of the file.

        Raises:
            OSError: the disk refuses.
        """
        clear(self._fd)
        self.drop()

    def drop(self) -> None:
        """Let go of the file as it is."""
        os.close(self._fd)


def entries(path: Path, fd: int, identity: bytes) -> Iterator[Entry]:
    """The records of a run whose bytes are all there, in the order they were written."""
    head = os.pread(fd, PAGE, 0)
    if len(head) < PAGE:
        return
    magic, run, mine = _RUN.unpack_from(head)
    if magic != _MAGIC or mine != identity:
        return
    at = PAGE
    while (entry := _entry(path, fd, at, run)) is not None:
        yield entry
        at = entry.offset + _in_pages(entry.kept)


def _entry(path: Path, fd: int, at: int, run: bytes) -> Entry | None:
    head = os.pread(fd, PAGE, at)
    try:
        magic, of, row, size, kept, digest, *lengths = _RECORD.unpack_from(head)
        end = _RECORD.size + sum(lengths)
        (check,) = _DIGEST.unpack_from(head, end)
    except StructError:
        return None
    if magic != _MAGIC or of != run or check != xxhash.xxh3_64_intdigest(head[:end]):
        return None
    names = head[_RECORD.size : end]
    uid, file_id = names[: lengths[0]].decode(), names[lengths[0] :].decode()
    body = os.pread(fd, kept, at + PAGE)
    if kept and (len(body) != kept or xxhash.xxh3_64_intdigest(body) != digest):
        return None  # its sync never ended: nobody was told
    return Entry(row, uid, file_id, path, at + PAGE, size, kept, digest)


def clear(fd: int) -> None:
    """Say of a run that all of it is elsewhere.

    Raises:
        OSError: the disk refuses.
    """
    if _begun(fd):
        os.pwrite(fd, bytes(PAGE), 0)
        os.fdatasync(fd)


def _begun(fd: int) -> bool:
    """Whether a run has a beginning, and so perhaps records."""
    return os.pread(fd, len(_MAGIC), 0) == _MAGIC


def _fill(fd: int, size: int, spare: int) -> None:
    """Write every block of a file, so that later writes change nothing but data."""
    if os.fstat(fd).st_size == size:
        return
    os.ftruncate(fd, 0)
    disk = os.fstatvfs(fd)
    if disk.f_bavail * disk.f_frsize < size + max(size, spare):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # and not after having filled the disk
    block = bytes(_BLOCK)
    for at in range(0, size, _BLOCK):
        os.pwrite(fd, block[: min(_BLOCK, size - at)], at)
    os.fsync(fd)


def _in_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % PAGE)

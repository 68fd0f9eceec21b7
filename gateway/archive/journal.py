"""The journal: one sync of a file that is there already makes an acknowledged instance durable.

A new file, its name in a new folder and a row of the index are three things to sync, each a turn of the file system's
own journal. So an instance of ordinary size is written twice: to its place, unsynced, and into a file whose blocks
were written before, where a sync has nothing but the data to bring out. Its row is committed unsynced after that.

A process appends to one of two such files, its *runs*. When one is full, the other takes over while everything is
brought out at once (``syncfs``, and the index's log) in the background; then the first is free again. What comes while
both are taken is synced by itself, as are instances of more than :data:`LONGEST` bytes.

After a power cut :mod:`gateway.archive.recovery` puts back what was acknowledged and lost. Each record has the number
of its instance's row; numbers grow and are never used twice. The index's log comes back up to some commit, never with
gaps, and deletions are committed synced, which brings out all that was committed before them. So a record whose number
the index has not reached was lost and nobody deleted it, and any other matters only as long as its row is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

import xxhash

from gateway import metrics
from gateway.errors import StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
LONGEST = 4 << 20
"""Bytes of the longest file that is journaled: writing a longer one twice takes longer than the syncs it saves."""

_PAGE = 4096
_BLOCK = 1 << 20
_MAGIC = b"LEADGWJ1"
_RUN = Struct("<8s16s16s")
_RECORD = Struct("<8s16sQQQHH")
_DIGEST = Struct("<Q")
_TRIES = 1000


class JournalFull(Exception):
    """Both runs are taken: the disk does not keep up."""


class Entry(NamedTuple):
    """One record as it is found again.

    Attributes:
        row: number of the instance's row in the index; records are in the order of these.
        path: the run's file; the instance's is at ``offset`` there.
    """

    row: int
    sop_instance_uid: str
    file_id: str
    path: Path
    offset: int
    size: int
    digest: int

    def read(self) -> bytes:
        """The instance's file."""
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), self.size, self.offset)

    def is_whole(self, path: Path) -> bool:
        """Whether a file has these bytes."""
        try:
            with path.open("rb") as file:
                return (
                    os.fstat(file.fileno()).st_size == self.size
                    and xxhash.xxh3_64_intdigest(file.read()) == self.digest
                )
        except FileNotFoundError:
            return False


class Body(NamedTuple):
    """A file's bytes, read before the index is locked."""

    data: bytes
    digest: int


class Written(NamedTuple):
    """Where a record was written, to be made void if its row is not committed after all."""

    run: Run
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
        self._at = _PAGE

    def append(self, row: int, uid: str, file_id: str, body: Body) -> Written | None:
        """Write a record and sync it; None where it does not fit."""
        head = self._head(row, uid, file_id, body)
        if self._at + len(head) + _in_pages(len(body.data)) > self._size:
            return None
        if os.pwritev(self._fd, [head, body.data], self._at) != len(head) + len(body.data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._fd)
        written = Written(self, self._at, body)
        self._at += len(head) + _in_pages(len(body.data))
        return written

    def _head(self, row: int, uid: str, file_id: str, body: Body) -> bytes:
        names = uid.encode(), file_id.encode()
        head = _RECORD.pack(_MAGIC, self._id, row, len(body.data), body.digest, *map(len, names)) + b"".join(names)
        return _padded(head + _DIGEST.pack(xxhash.xxh3_64_intdigest(head)))

    def void(self, written: Written) -> None:
        """Make a record mean nothing."""
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


class Journal:
    """This process's part of the journal; safe to share between threads.

    Nothing is opened before the first instance, and so never before a fork.

    Args:
        base: the files are named after it.
        size: bytes of both runs together; 0 for no journal.
        spare: bytes that stay free on its disk.
        identity: of the index the records belong to.
        bring_out: makes durable what was written so far, files, folders and the index's log.
        write_anew: writes the files of records once more, after the disk has failed to bring them out.
    """

    def __init__(
        self,
        base: Path,
        size: int,
        spare: int,
        identity: Callable[[], bytes],
        bring_out: Callable[[], None],
        write_anew: Callable[[Iterable[Entry]], None],
    ) -> None:
        self._base = base
        self._size = size // 2 // _PAGE * _PAGE
        self._spare = spare
        self._identity = identity
        self._bring_out = bring_out
        self._write_anew = write_anew
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._free: list[Run] = []
        self._full: list[Run] = []
        self._closed = False

    def body(self, fd: int, size: int) -> Body | None:
        """A file's bytes for :meth:`append`; None when it has to be synced by itself."""
        if not self._size:
            return None
        if self._run is None or size > min(LONGEST, self._size - 2 * _PAGE):
            self._work()
            metrics.JOURNALED.labels("synced").inc()
            return None
        data = os.pread(fd, size, 0)
        return Body(data, xxhash.xxh3_64_intdigest(data)) if len(data) == size else None

    def append(self, row: int, uid: str, file_id: str, body: Body) -> Written:
        """Make one instance durable; called inside the transaction that commits its row.

        Raises:
            JournalFull: it has to be synced by itself.
            StorageError: the disk refuses.
        """
        try:
            with self._lock:
                written = self._run.append(row, uid, file_id, body) if self._run else None
                if written is None and self._run and self._free:
                    self._full.append(self._run)
                    self._run = self._free.pop()
                    self._begin_work()
                    written = self._run.append(row, uid, file_id, body)
        except OSError as error:
            raise StorageError(f"the journal cannot be written: {error.strerror}") from error
        metrics.JOURNALED.labels("journaled" if written else "synced").inc()
        if written is None:
            self._work()
            raise JournalFull
        return written

    def void(self, written: Written) -> None:
        """Take back a record whose row was not committed."""
        with self._lock, suppress(OSError):
            written.run.void(written)

    def _work(self) -> None:
        with self._lock:
            self._begin_work()

    def _begin_work(self) -> None:
        if not self._closed and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._make_room, name="journal", daemon=True)
            self._thread.start()

    def _make_room(self) -> None:
        """Free what is full, and open what is missing; on a failure the next instance tries again."""
        try:
            while self._full:
                self._empty(self._full[-1])
                with self._lock:
                    self._free.append(self._full.pop())
            while not self._closed and len(self._free) + (self._run is not None) < 2:
                run = Run.claim(self._base, self._size, self._spare)
                run.begin(self._identity())
                with self._lock:
                    self._free.append(run)
                    if self._run is None:
                        self._run = self._free.pop()
        except OSError as error:
            _log.warning("instances are synced one by one", errno=error.errno)
        except StorageError as error:
            _log.warning("instances are synced one by one", reason=error.message)

    def _empty(self, run: Run) -> None:
        """Bring out what a full run holds, and begin it anew."""
        try:
            self._bring_out()
        except OSError as error:
            # A kernel tells of a failed write once, and takes the pages for written from then on.
            _log.error("files could not be brought out and are written anew", errno=error.errno)
            self._write_anew(run.entries())
            self._bring_out()
        run.begin(self._identity())

    def close(self) -> None:
        """Bring out what is in the journal, and leave it empty.

        Raises:
            StorageError: the disk refuses; the next start puts back what was lost, if anything was.
        """
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join()
        runs = [*self._full, *self._free, *([self._run] if self._run else [])]
        self._run, self._full, self._free = None, [], []
        try:
            if runs:
                self._bring_out()
            while runs:
                runs.pop().end()
        except OSError as error:
            raise StorageError(f"the journal cannot be brought out: {error.strerror}") from error
        finally:
            for run in runs:
                run.drop()


def entries(path: Path, fd: int, identity: bytes) -> Iterator[Entry]:
    """The records of a run whose bytes are all there, in the order they were written."""
    head = os.pread(fd, _PAGE, 0)
    if len(head) < _PAGE:
        return
    magic, run, mine = _RUN.unpack_from(head)
    if magic != _MAGIC or mine != identity:
        return
    at = _PAGE
    while (entry := _entry(path, fd, at, run)) is not None:
        yield entry
        at = entry.offset + _in_pages(entry.size)


def _entry(path: Path, fd: int, at: int, run: bytes) -> Entry | None:
    head = os.pread(fd, _PAGE, at)
    try:
        magic, of, row, size, digest, *lengths = _RECORD.unpack_from(head)
        end = _RECORD.size + sum(lengths)
        (check,) = _DIGEST.unpack_from(head, end)
    except StructError:
        return None
    if magic != _MAGIC or of != run or check != xxhash.xxh3_64_intdigest(head[:end]):
        return None
    names = head[_RECORD.size : end]
    uid, file_id = names[: lengths[0]].decode(), names[lengths[0] :].decode()
    body = os.pread(fd, size, at + _PAGE)
    if len(body) != size or xxhash.xxh3_64_intdigest(body) != digest:
        return None  # its sync never ended: nobody was told
    return Entry(row, uid, file_id, path, at + _PAGE, size, digest)


def clear(fd: int) -> None:
    """Say of a run that all of it is elsewhere.

    Raises:
        OSError: the disk refuses.
    """
    if _begun(fd):
        os.pwrite(fd, bytes(_PAGE), 0)
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
    return -(-size // _PAGE) * _PAGE


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _PAGE)

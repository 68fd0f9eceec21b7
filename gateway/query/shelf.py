"""What one process has learnt of a leading archive, for the other processes of the gateway.

Each process keeps its answers in memory; behind that stands this shelf, which all of them share: an SQLite file in the
gateway's own temporary folder. It is looked at only when memory has nothing, so a question costs one upstream query
and not one a process. A lock by key lets one process ask while the others wait for what it puts here; a failure is put
here as well, so that they do not run into the same time-out one after another.

Nothing here has to survive: writes are not synced, and a flush of anything empties all of an archive's. Times are
seconds of the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from struct import Struct
from time import monotonic
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.errors import Cancelled, UpstreamError, UpstreamKind

Answers = tuple[Attributes, ...]
Life = Callable[[Answers], float | None]
"""How long answers are fresh, in seconds; None is for ever."""

_LENGTH = Struct("<L")
_WAIT = 0.005
_TRIM_EVERY = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, archive TEXT, stored REAL, until REAL, body BLOB, failure TEXT)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answer_stored ON answer (stored);
CREATE TABLE IF NOT EXISTS flush (archive TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Shelved:
    """An answer another process has put here.

    Attributes:
        stored_at: when it came from the archive.
    """

    answers: Answers
    stored_at: float


class Shelf(Protocol):
    """Where the caches of one archive look when they have nothing themselves."""

    def get(self, keys: Sequence[bytes], *, after: float = -1.0) -> dict[bytes, Shelved]:
        """What is here and fresh, and was stored after a moment.

        Raises:
            UpstreamError: another process has just failed to get one of them.
        """

    def put(self, answers: Mapping[bytes, Answers], life: Life, begun: int) -> None:
        """Put answers here, unless the archive's were flushed since ``begun``."""

    def fail(self, key: bytes, error: UpstreamError, life: float) -> None:
        """Tell the others that asking has failed."""

    def begin(self) -> int:
        """How often the archive's answers have been flushed so far; for :meth:`put`."""

    def flush(self) -> None:
        """Forget everything of the archive."""

    def close(self) -> None:
        """Close it in this process."""

    def asking(self, key: bytes, cancelled: Callable[[], bool]) -> AbstractContextManager[None]:
        """Be the only process that asks this question; wait while another one does.

        Raises:
            Cancelled: nobody wants the answer any more.
        """


class NoShelf:
    """The shelf of a gateway that is one process."""

    def get(self, keys: Sequence[bytes], *, after: float = -1.0) -> dict[bytes, Shelved]:  # noqa: ARG002
        """Nothing is here."""
        return {}

    def put(self, answers: Mapping[bytes, Answers], life: Life, begun: int) -> None:
        """Nobody else wants it."""

    def fail(self, key: bytes, error: UpstreamError, life: float) -> None:
        """Nobody else wants to know."""

    def begin(self) -> int:
        """Nothing was ever flushed."""
        return 0

    def flush(self) -> None:
        """Nothing is here."""

    def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def asking(self, key: bytes, cancelled: Callable[[], bool]) -> Iterator[None]:  # noqa: ARG002
        """Nobody else asks."""
        yield


class SharedShelf:
    """One archive's part of the shelf.

    Args:
        folder: of the gateway that is running; it and what is in it are gone afterwards.
        max_bytes: of all answers; the oldest go first.
    """

    def __init__(self, folder: Path, archive: str, max_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._folder = folder
        self._archive = archive
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._puts = 0
        self._db = sqlite3.connect(folder / "shelf.sqlite", timeout=5, isolation_level=None, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
        self._locks = os.open(folder / "shelf.locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Close it in this process."""
        with self._lock:
            self._db.close()
            os.close(self._locks)

    def get(self, keys: Sequence[bytes], *, after: float = -1.0) -> dict[bytes, Shelved]:
        """See :class:`Shelf`."""
        found: dict[bytes, Shelved] = {}
        named = {self._named(key): key for key in keys}
        for row in self._rows(list(named), after):
            if row[3]:
                kind, _, message = row[3].partition(" ")
                raise UpstreamError(message, UpstreamKind(kind))
            found[named[row[0]]] = Shelved(_read(row[2]), row[1])
        return found

    def _rows(self, names: list[bytes], after: float) -> list[tuple[bytes, float, bytes, str]]:
        marks = ", ".join("?" * len(names))
        query = f"SELECT key, stored, body, failure FROM answer WHERE key IN ({marks}) AND until > ? AND stored > ?"  # noqa: S608
        with self._lock:
            return self._db.execute(query, (*names, self._clock(), after)).fetchall()

    def put(self, answers: Mapping[bytes, Answers], life: Life, begun: int) -> None:
        """See :class:`Shelf`."""
        now = self._clock()
        rows = [
            (self._named(key), self._archive, now, now + _seconds(life(one)), _written(one), "")
            for key, one in answers.items()
        ]
        rows = [row for row in rows if len(row[4]) * 4 <= self._max_bytes]
        self._write(rows, begun)

    def fail(self, key: bytes, error: UpstreamError, life: float) -> None:
        """See :class:`Shelf`."""
        now = self._clock()
        text = f"{error.kind.value} {error.message}"
        self._write([(self._named(key), self._archive, now, now + life, b"", text)], self.begin())

    def _write(self, rows: list[tuple[bytes, str, float, float, bytes, str]], begun: int) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            if begun == self._flushes():
                self._db.executemany("REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._puts += len(rows)
            if self._puts >= _TRIM_EVERY:
                self._puts = 0
                self._trim()
            self._db.execute("COMMIT")

    def _trim(self) -> None:
        self._db.execute("DELETE FROM answer WHERE until <= ?", (self._clock(),))
        (total,) = self._db.execute("SELECT coalesce(sum(length(body)), 0) FROM answer").fetchone()
        for key, size in self._db.execute("SELECT key, length(body) FROM answer ORDER BY stored").fetchall():
            if total <= self._max_bytes:
                break
            self._db.execute("DELETE FROM answer WHERE key = ?", (key,))
            total -= size

    def begin(self) -> int:
        """See :class:`Shelf`."""
        with self._lock:
            return self._flushes()

    def _flushes(self) -> int:
        row = self._db.execute("SELECT number FROM flush WHERE archive = ?", (self._archive,)).fetchone()
        return int(row[0]) if row else 0

    def flush(self) -> None:
        """See :class:`Shelf`."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM answer WHERE archive = ?", (self._archive,))
            self._db.execute(
                "INSERT INTO flush VALUES (?, 1) ON CONFLICT (archive) DO UPDATE SET number = number + 1",
                (self._archive,),
            )
            self._db.execute("COMMIT")

    @contextmanager
    def asking(self, key: bytes, cancelled: Callable[[], bool]) -> Iterator[None]:
        """See :class:`Shelf`. The lock is a byte of a file, so it ends with the process that holds it."""
        place = int.from_bytes(self._named(key)[:7], "big")
        pause = threading.Event()
        while not self._take(place):
            if cancelled():
                raise Cancelled("cancelled by the caller")
            pause.wait(_WAIT)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, place)

    def _take(self, place: int) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            return False
        return True

    def _named(self, key: bytes) -> bytes:
        return hashlib.blake2b(self._archive.encode() + b"\0" + key, digest_size=20).digest()


def _written(answers: Answers) -> bytes:
    encoded = [answer.encode(implicit=False) for answer in answers]
    return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)


def _read(body: bytes) -> Answers:
    answers: list[Attributes] = []
    view, pos = memoryview(body), 0
    while pos < len(view):
        (length,) = _LENGTH.unpack_from(view, pos)
        answers.append(Attributes.decode(view[pos + 4 : pos + 4 + length], implicit=False))
        pos += 4 + length
    return tuple(answers)


def _seconds(life: float | None) -> float:
    return inf if life is None else life

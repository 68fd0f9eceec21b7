"""The index: one SQLite database in WAL mode that all workers and command line verbs share.

Readers never wait. Writers take turns, so SQLite's polling for its own lock is never needed; each transaction that
changes what a query may answer raises ``generation``. Connections are pooled by process: a forked worker opens its own.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from gateway.archive import meta, schema
from gateway.archive.durability import Durability
from gateway.archive.turns import Turn
from gateway.errors import StorageError

_POOLED = 8
_PAGE = 2048
"""Bytes of a page. A store changes some eight, all over the tables, and each goes into the log whole."""
_CHECKPOINT_PAGES = (1 << 27) // _PAGE
"""Pages in the log at which a commit brings them into the database by itself, for as long as that takes; before that
:meth:`Index.checkpoint` does, beside the commits."""
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
_SYNCHRONOUS = {Durability.FULL: "FULL", Durability.DATA: "NORMAL", Durability.NONE: "OFF"}
_LATER = {**_SYNCHRONOUS, Durability.FULL: "NORMAL"}


class Index:
    """The database under a path; nothing is opened before it is used.

    Raises:
        StorageError: from any method, when the disk refuses or the database is of another version.
    """

    def __init__(self, path: Path, durability: Durability = Durability.FULL) -> None:
        self.path = path
        self.durability = durability
        self._pools: dict[bool, list[sqlite3.Connection]] = {True: [], False: []}
        self._inherited: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self.turn = Turn(path.with_name(path.name + ".lock"))
        self._guard = threading.Lock()

    def create(self) -> None:
        """Make the tables when there are none.

        Raises:
            StorageError: the database was written by a newer version.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.turn:
            self._create()

    def _create(self) -> None:
        with Reading(self, synced=True) as db:  # the journal's records mean this very index
            found: int = db.execute("PRAGMA user_version").fetchone()[0]
            if found > schema.VERSION:
                raise StorageError(
                    f"the index has schema version {found}, this program knows {schema.VERSION}",
                    hint="use the newer program, or remove the index: it is rebuilt from the DICOMDIR",
                )
            if found < schema.VERSION:
                db.executescript(f"BEGIN;{schema.TABLES}{schema.INDEXES}PRAGMA user_version={schema.VERSION};COMMIT")
            db.executescript(schema.LATE_INDEXES)  # a first import may have been killed before it made them
            db.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (secrets.token_hex(16),))

    def read(self) -> Reading:
        """A connection for reading, as a context manager; one that stores write with, whose pages are the newest."""
        return Reading(self)

    def write(self, *, visible: bool = True, synced: bool = True) -> Writing:
        """A transaction, committed (and synced, by the durability) when the block ends normally, else rolled back.

        Args:
            visible: the change may alter an answer, so ``generation`` is raised; a new instance's row does that by
                itself.
            synced: what is committed has to last by itself; a later synced commit brings out earlier ones, too.
        """
        return Writing(self, visible=visible, synced=synced)

    def sync_log(self) -> None:
        """Make durable what was committed so far, unsynced commits included, where the durability asks for it.

        Raises:
            OSError: the disk refuses.
        """
        if self.durability is not Durability.FULL:
            return
        with suppress(FileNotFoundError):  # the last connection is closed, and the log checkpointed
            fd = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def checkpoint(self) -> None:
        """Bring the log's pages into the database, as far as no reader needs them there.

        Writers go on meanwhile. Only for what they have written since do they wait, so that the log can begin anew
        and does not grow for as long as they go on.
        """
        with self.read() as db:
            (is_busy, _, _) = db.execute(_CHECKPOINT).fetchone()
            if is_busy:
                return  # another process is at it, and nobody is to wait for all of it
            with self.turn:
                db.execute(_CHECKPOINT).fetchone()

    @property
    def identity(self) -> bytes:
        """16 bytes that tell this index from any other, such as the one before it was lost."""
        with self.read() as db:
            return bytes.fromhex(str(meta.get_meta(db, "identity", "")))

    @property
    def generation(self) -> int:
        """A number that is another one after every visible change."""
        with self.read() as db:
            return meta.generation(db)

    def close(self) -> None:
        """Close what this process has open."""
        with self._guard:
            if self._pid == os.getpid():
                for pool in self._pools.values():
                    for db in pool:
                        db.close()
                    pool.clear()
                self.turn.close()

    def take(self, *, synced: bool) -> sqlite3.Connection:
        """A connection of this process, to be given back."""
        with self._guard:
            self._own()
            if self._pools[synced]:
                return self._pools[synced].pop()
        return self._connect(synced=synced)

    def _own(self) -> None:
        """Begin anew in a forked child."""
        if self._pid == os.getpid():
            return
        for pool in self._pools.values():
            # The parent's connections must not be used in a child, nor closed, as forgetting them would.
            self._inherited.extend(pool)
            pool.clear()
        self._pid = os.getpid()

    def give(self, db: sqlite3.Connection, *, synced: bool) -> None:
        """Give a connection back."""
        with self._guard:
            if len(self._pools[synced]) < _POOLED:
                self._pools[synced].append(db)
                return
        db.close()

    def _connect(self, *, synced: bool) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            db.execute(f"PRAGMA page_size={_PAGE}")  # of a new database; any other keeps its own
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={(_SYNCHRONOUS if synced else _LATER)[self.durability]}")
            db.execute("PRAGMA cache_size=-16384")
            db.execute("PRAGMA temp_store=MEMORY")
            db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        except sqlite3.Error as error:
            raise StorageError(f"the index cannot be opened: {error}") from error
        return db


class Reading:
    """A connection for the length of a block; a generator would cost a store as much as a statement."""

    __slots__ = ("_db", "_index", "_synced")

    def __init__(self, index: Index, *, synced: bool = False) -> None:
        self._index = index
        self._synced = synced

    def __enter__(self) -> sqlite3.Connection:
        self._db = self._index.take(synced=self._synced)
        return self._db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._index.give(self._db, synced=self._synced)
        else:
            self._db.close()  # a statement left in the middle would keep the next transaction from beginning
        if isinstance(error, sqlite3.Error):
            raise StorageError(f"the index cannot be read: {error}") from error


class Writing:
    """A transaction for the length of a block."""

    __slots__ = ("_db", "_index", "_synced", "_visible")

    def __init__(self, index: Index, *, visible: bool, synced: bool) -> None:
        self._index = index
        self._visible = visible
        self._synced = synced

    def __enter__(self) -> sqlite3.Connection:
        self._index.turn.take()
        try:
            self._db = self._index.take(synced=self._synced)
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._index.give(self._db, synced=self._synced)
                raise StorageError(f"the index cannot be written: {error}") from error
        except BaseException:
            self._index.turn.give()
            raise
        return self._db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._commit()
        except sqlite3.Error as failed:
            error = failed
        finally:
            self._end()
        if isinstance(error, sqlite3.Error):
            raise StorageError(f"the index cannot be written: {error}") from error

    def _commit(self) -> None:
        if self._visible:
            meta.raise_generation(self._db)
        self._db.execute("COMMIT")

    def _end(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        finally:
            self._index.give(self._db, synced=self._synced)
            self._index.turn.give()

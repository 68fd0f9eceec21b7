"""The ledger's SQLite file: one connection a process, every write synced before it counts.

The ledger has a file of its own beside the archive's index: the index can be rebuilt from the object files, a promise
cannot. The connection is opened on first use and again after a fork, since SQLite's must not cross one; it is
shared by the threads behind a lock, for a write is a fraction of a millisecond.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from gateway.errors import StorageError

VERSION = 1
"""Of the tables."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commitment (
  role TEXT NOT NULL, transaction_uid TEXT NOT NULL,
  peer TEXT NOT NULL, aet TEXT NOT NULL, address TEXT NOT NULL, called TEXT NOT NULL,
  state TEXT NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL,
  created REAL NOT NULL, updated REAL NOT NULL,
  answer INTEGER, note TEXT NOT NULL, owner TEXT NOT NULL, leased REAL NOT NULL,
  PRIMARY KEY (role, transaction_uid)
) STRICT;
CREATE INDEX IF NOT EXISTS commitment_state ON commitment (role, state, due);
CREATE TABLE IF NOT EXISTS instance (
  role TEXT NOT NULL, transaction_uid TEXT NOT NULL, position INTEGER NOT NULL,
  sop_class_uid TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, reason INTEGER,
  PRIMARY KEY (role, transaction_uid, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence (
  sop_instance_uid TEXT NOT NULL, aet TEXT NOT NULL, committed REAL NOT NULL,
  PRIMARY KEY (sop_instance_uid, aet)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digest (
  sop_instance_uid TEXT PRIMARY KEY, file TEXT NOT NULL, sha256 TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejected (
  sop_instance_uid TEXT PRIMARY KEY, title TEXT NOT NULL, since REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""


class Database:
    """The ledger's file.

    Args:
        path: created with its tables when it is missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def reading(self) -> Reading:
        """A connection for statements that change nothing, as a context manager.

        Raises:
            StorageError: the file cannot be read.
        """
        return Reading(self)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is synced to disk when the block ends, or undone when it raises.

        Raises:
            StorageError: the disk refused; nothing was written.
        """
        with self._lock, _translated():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close this process's connection; the next use opens another one."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def lock(self) -> sqlite3.Connection:
        """The connection, for this thread alone until it is given back."""
        self._lock.acquire()
        try:
            return self._open()
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise _translation(error) from error
            raise

    def unlock(self) -> None:
        """Give the connection back."""
        self._lock.release()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection = _connect(self.path)
            self._pid = os.getpid()
        return self._connection


class Reading:
    """The connection for the length of a block; once for each C-STORE, where a generator costs as much again."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        return self._database.lock()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._database.unlock()
        if isinstance(error, sqlite3.Error):
            raise _translation(error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        connection.close()
        raise StorageError(
            f"the commitment ledger has schema version {found}, this program knows {VERSION}",
            hint="use the newer program",
        )
    if found < VERSION:
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT")
    return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise _translation(error) from error


def _translation(error: sqlite3.Error) -> StorageError:
    return StorageError(f"the commitment ledger cannot be used: {error}")

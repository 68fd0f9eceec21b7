"""Locks on files: turns that threads and processes take, released by the kernel when a process dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import StorageError


class Turn:
    """One turn at a time among threads and processes; nothing is opened before it is used.

    Args:
        path: the lock file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._pid = os.getpid()
        self._threads = threading.Lock()

    def take(self) -> None:
        """Wait for the turn.

        Raises:
            StorageError: the lock file cannot be opened.
        """
        self._threads.acquire()
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def _opened(self) -> int:
        if self._pid != os.getpid():
            self.close()  # a lock through it would be the parent's, too
            self._pid = os.getpid()
        if self._fd < 0:
            self._fd = _open_lock(self._path)
        return self._fd

    def give(self) -> None:
        """End the turn."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give()

    def close(self) -> None:
        """Close what this process has open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StorageError(f"the lock file cannot be opened: {error.strerror}") from error


@contextmanager
def file_lock(path: Path, *, blocking: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file, made when missing; yields whether it was got."""
    with held(_open_lock(path), blocking=blocking) as mine:
        yield mine


@contextmanager
def held(fd: int, *, blocking: bool) -> Iterator[bool]:
    """Hold an exclusive lock on an open file, and close it behind the block; yields whether the lock was got."""
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)

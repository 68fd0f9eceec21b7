"""Temporary files for what is arriving: made ahead of need, and their names removed behind it.

Making a file and removing a name can take a file system longer than the rest of a store: a round trip on a network,
milliseconds on ext4 where many files have just been deleted. So a thread keeps some files ready, and removes the names
of those that are done with.

A temporary file is locked (``flock``) by the process that has it, so that another one, starting up, removes only what
nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_READY = 3
_DONE = 64
"""Names left to be removed at most; beyond that whoever is done removes its own."""


class Incoming:
    """The temporary files of one process in one folder; safe to share between threads.

    Nothing is opened before the first file is asked for, and so never before a fork.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changed = threading.Condition()
        self._ready: deque[tuple[Path, int]] = deque()
        self._done: deque[tuple[Path, int]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self) -> tuple[Path, int]:
        """A new file, open and held.

        Raises:
            OSError: the disk refuses.
        """
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="incoming", daemon=True)
                self._thread.start()
            found = self._ready.popleft() if self._ready else None
            self._changed.notify()
        return found or _made(self.folder)

    def give_up(self, path: Path, fd: int) -> None:
        """Remove the temporary name before long, and close the file."""
        with self._changed:
            later = self._thread is not None and not self._closed and len(self._done) < _DONE
            if later:
                self._done.append((path, fd))
                self._changed.notify()
        if not later:
            _removed(path, fd)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._done or len(self._ready) < _READY)
                if self._closed:
                    return
                done = self._done.popleft() if self._done else None
            if done is not None:
                _removed(*done)
            elif not self._make_one():
                return

    def _make_one(self) -> bool:
        """Make a file ready; false when the disk refuses, which the next one to ask is told by itself."""
        try:
            one = _made(self.folder)
        except OSError:
            with self._changed:
                self._thread = None
            return False
        with self._changed:
            self._ready.append(one)
        return True

    def close(self) -> None:
        """Remove all of this process's temporary names, but for those still being written."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()
        for left in (self._ready, self._done):
            while left:
                _removed(*left.popleft())

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that no living process holds."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            with suppress(FileNotFoundError), unheld(path) as free:
                if free and path.name != "DICOMDIR":
                    yield path


def _made(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / secrets.token_hex(8)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # somebody clearing up was faster than our lock


def _removed(path: Path, fd: int) -> None:
    with suppress(OSError):  # the next start tries again
        path.unlink(missing_ok=True)
    os.close(fd)


@contextmanager
def unheld(path: Path) -> Iterator[bool]:
    """Whether nobody writes a temporary file; nobody can begin to while the block runs.

    Raises:
        FileNotFoundError: it is gone.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)

"""Temporary files for what is arriving: made ahead of need, and their names removed behind it.

Making a file and removing a name are no part of a store that its sender has to wait for. A sender has work of its own
between a response and its next request, and the thread that serves it has none: it does this then, in
:meth:`Incoming.rest`. Where a file system takes long over it (a round trip on a network; milliseconds on ext4 without a
journal where many files have just been deleted) a thread does it beside the stores. Elsewhere that thread would cost
them more, by taking the interpreter from them at each of its system calls, than it saves.

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
from itertools import count
from pathlib import Path
from time import perf_counter

from gateway.archive.turns import held

_READY = 3
_DONE = 64
"""Names left to be removed at most; beyond that whoever is done removes its own."""
SLOW = 0.0005
"""Seconds; a file that takes longer to make is one for the thread."""


class Incoming:
    """The temporary files of one process in one folder; safe to share between threads.

    Nothing is opened before the first file is asked for, and so never before a fork.

    Args:
        slow: seconds from which on files are made by a thread.
    """

    def __init__(self, folder: Path, *, slow: float = SLOW) -> None:
        self.folder = folder
        self._slow_from = slow
        self._is_slow = False
        self._taken = False
        self._changed = threading.Condition()
        self._ready: deque[tuple[str, int]] = deque()
        self._done: deque[tuple[str, int]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._begins = f"{folder}/{secrets.token_hex(8)}"  # a forked worker's begin like this, too
        self._numbers = count()

    def take(self) -> tuple[str, int]:
        """A new file, open and held.

        Raises:
            OSError: the disk refuses.
        """
        self._taken = True
        try:
            return self._ready.popleft()
        except IndexError:
            return self._make()

    def give_up(self, path: str, fd: int) -> None:
        """Remove the temporary name before long, and close the file."""
        if self._closed or len(self._done) >= _DONE:
            _removed(path, fd)
        else:
            self._done.append((path, fd))

    @staticmethod
    def drop(path: str, fd: int) -> None:
        """Remove a file that is not needed after all, at once: it may be a large one."""
        _removed(path, fd)

    def clear(self) -> None:
        """Remove the names that are given up now, however long that takes."""
        self._clear(self._done)

    def rest(self) -> None:
        """What can be done while nobody waits: remove what is given up, and make a file for one that was taken."""
        if self._is_slow and not self._closed:
            self._leave_to_thread()
            return
        self.clear()
        if self._taken and len(self._ready) < _READY and not self._closed:
            self._taken = False
            with suppress(OSError):  # the next one to ask is told by itself
                self._ready.append(self._make())

    def _make(self) -> tuple[str, int]:
        began = perf_counter()
        made = _made(f"{self._begins}-{os.getpid()}-{next(self._numbers)}")
        self._is_slow = perf_counter() - began > self._slow_from
        return made

    @staticmethod
    def _clear(files: deque[tuple[str, int]]) -> None:
        while files:
            try:
                one = files.popleft()
            except IndexError:
                return  # another thread is clearing, too
            _removed(*one)

    def _leave_to_thread(self) -> None:
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="incoming", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._is_slow and self._has_work))
                if self._closed:
                    return
            self.clear()
            try:
                while self._is_slow and len(self._ready) < _READY:
                    self._ready.append(self._make())
            except OSError:  # the next one to ask is told by itself
                with self._changed:
                    self._thread = None
                return

    @property
    def _has_work(self) -> bool:
        return bool(self._done) or len(self._ready) < _READY

    def close(self) -> None:
        """Remove all of this process's temporary names, but for those still being written."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()
        for left in (self._ready, self._done):
            self._clear(left)

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that no living process holds."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            with suppress(FileNotFoundError), unheld(path) as free:
                if free and path.name != "DICOMDIR":
                    yield path


def _made(path: str) -> tuple[str, int]:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # somebody clearing up was faster than our lock


def _removed(path: str, fd: int) -> None:
    with suppress(OSError):  # the next start tries again
        os.unlink(path)  # noqa: PTH108 - once for each store, where a Path costs as much as the call
    os.close(fd)


@contextmanager
def unheld(path: Path) -> Iterator[bool]:
    """Whether nobody writes a temporary file; nobody can begin to while the block runs.

    Raises:
        FileNotFoundError: it is gone.
    """
    with held(os.open(path, os.O_RDONLY | os.O_CLOEXEC), blocking=False) as free:
        yield free

"""Files and folders made durable, and how the file-set's own temporary files are told from a dead process's.

A temporary file is locked (``flock``) by the process that writes it, so that another one, starting up, removes only
what nobody holds any more. It becomes an object by a hard link: linking fails when the name is taken, so two writers
never overwrite each other, and as long as the temporary name exists too, a crash can be told from a finished store.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.archive.fileid import BadFileID, resolve
from gateway.archive.index import Durability
from gateway.errors import StorageError

INCOMING = ".incoming"
_TRIES = 100


class Disk:
    """The folders under a root, synced as the durability asks."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self.root = root
        self.incoming = root / INCOMING
        self._full = durability is Durability.FULL
        self._data = durability is not Durability.NONE
        self._durable: dict[str, int] = {}

    def sync(self, fd: int) -> None:
        """Make a file's bytes durable."""
        if self._data:
            os.fsync(fd)

    def sync_folder(self, path: Path) -> None:
        """Make a folder's entries durable."""
        if not self._full:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_folder(self, path: Path) -> None:
        """Make a folder under the root whose name, and the names above it, last.

        A folder that is there already may be another writer's, not yet synced, so the first use of each syncs.
        """
        path.mkdir(parents=True, exist_ok=True)
        inode = path.stat().st_ino
        if self._durable.get(str(path)) == inode:
            return
        above = [path, *(one for one in path.parents if self.root in one.parents)]
        for one in reversed(above):
            self.sync_folder(one.parent)
        if len(self._durable) > 10_000:
            self._durable.clear()
        self._durable[str(path)] = inode

    def free(self) -> int:
        """Bytes free on the disk for a process without privileges.

        Raises:
            StorageError: the disk cannot be asked.
        """
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            raise StorageError(f"the disk cannot be asked for free space: {error.strerror}") from error
        return found.f_bavail * found.f_frsize

    def temporary(self) -> tuple[Path, int]:
        """A new temporary file, open and held.

        Raises:
            OSError: the disk refuses.
        """
        while True:
            path = self.incoming / secrets.token_hex(8)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return path, fd
            os.close(fd)  # somebody clearing up was faster than our lock

    def place(self, temporary: Path, wanted: Iterable[str], fd: int | None = None) -> str:
        """Give a finished temporary file its place, the first one of ``wanted`` that is free; its folder is synced.

        Args:
            fd: the file, when its bytes are still to be made durable. They are after the link: a journal then takes
                both with one commit, and the folder's sync finds little left to do.
        """
        for file_id in wanted:
            with suppress(FileExistsError):
                self._link(temporary, self.root / file_id, fd)
                return file_id
        raise StorageError("no free File ID for the instance")

    def _link(self, temporary: Path, target: Path, fd: int | None) -> None:
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):  # a deletion has just removed the folder because it was empty
                self.make_folder(target.parent)
                os.link(temporary, target)
                self._settle(target, fd)
                return
        raise StorageError("the instance's folder vanishes as often as it is made")

    def _settle(self, target: Path, fd: int | None) -> None:
        """Make a new link durable, and the bytes behind it; a disk that fails to leaves no link."""
        try:
            if fd is not None:
                self.sync(fd)
            self.sync_folder(target.parent)
        except OSError:
            target.unlink(missing_ok=True)
            raise

    def remove(self, file_ids: Iterable[str]) -> None:
        """Unlink objects and the folders that become empty; what is gone already is no error."""
        folders = set()
        for file_id in file_ids:
            with suppress(FileNotFoundError, BadFileID):  # what a link leads out of the root to is not ours
                path = resolve(self.root, file_id)
                path.unlink()
                folders.add(path.parent)
        for folder in folders:
            self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root and self.root in folder.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                self.sync_folder(folder)
                return
            folder = folder.parent
        self.sync_folder(folder)

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that no living process holds."""
        for path in sorted(self.incoming.iterdir()) if self.incoming.is_dir() else ():
            with suppress(FileNotFoundError), unheld(path) as free:
                if free and path.name != "DICOMDIR":
                    yield path


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

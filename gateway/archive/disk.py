"""Files and folders under a root: given their places, made durable, removed.

A temporary file becomes an object by a hard link: linking fails when the name is taken, so two writers never overwrite
each other, and as long as the temporary name exists too, a crash can be told from a finished store.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from gateway.archive.durability import Durability
from gateway.archive.fileid import BadFileID, resolve
from gateway.errors import StorageError

INCOMING = ".incoming"
_TRIES = 100
_ORDERED = frozenset({"ext4", "xfs"})
"""File systems with one journal, in which a link stands behind all that was done to names before; syncing the linked
file writes it up to there. POSIX promises less, so elsewhere folders are synced by themselves."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE (sync_file_range(2)): begin to write, and do not wait."""


class Disk:
    """The folders under a root, synced as the durability asks."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self.root = root
        self.incoming = root / INCOMING
        self._full = durability is Durability.FULL
        self._data = durability is not Durability.NONE
        self._durable: dict[str, int] = {}
        self._root_fd = -1

    @cached_property
    def _names_follow(self) -> bool:
        """Whether a file's sync brings out its names, and the folders they are in, with it."""
        return _file_system(self.root) in _ORDERED

    def sync(self, fd: int) -> None:
        """Make a file's bytes durable."""
        if self._data:
            os.fsync(fd)

    def begin_sync(self, fd: int) -> None:
        """Have a file's bytes on their way to the disk before :meth:`sync` waits for them; promises nothing."""
        if self._data:
            _libc.sync_file_range(fd, 0, 0, _WRITE)

    def sync_folder(self, path: Path) -> None:
        """Make a folder's entries durable."""
        if not self._full:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self) -> None:
        """Make durable whatever was written to the root's file system, in one go: bytes, names and folders.

        Raises:
            OSError: the disk refuses, or has refused something since this was called last.
        """
        if not self._full:
            return
        if self._root_fd < 0:
            self._root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if _libc.syncfs(self._root_fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of the root."""
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

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

    def place(self, temporary: str | Path, wanted: Iterable[str]) -> str:
        """Give a finished file a second name, the first one of ``wanted`` that is free; nothing of it is synced yet."""
        for file_id in wanted:
            with suppress(FileExistsError):
                self._link(temporary, f"{self.root}/{file_id}")
                return file_id
        raise StorageError("no free File ID for the instance")

    def _link(self, temporary: str | Path, target: str) -> None:
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                os.link(temporary, target)
                return
            # The folder is new, or a deletion has just removed it because it was empty.
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        raise StorageError("the instance's folder vanishes as often as it is made")

    def settle(self, file_id: str, fd: int | None = None) -> None:
        """Make a name durable, with its folders, and the bytes behind it; a disk that fails to keeps no name.

        Args:
            fd: the file, when its bytes are still to be made durable.
        """
        target = self.root / file_id
        try:
            if fd is not None:
                self.sync(fd)
            if fd is None or not self._names_follow:
                self.make_folder(target.parent)
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


def _file_system(path: Path) -> str:
    """The type of the file system a folder is on, as Linux calls it in mountinfo (proc(5)); empty where it does not."""
    device = path.stat().st_dev
    wanted, found = f"{os.major(device)}:{os.minor(device)}", ""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] == wanted:
                found = rest.split()[0]
    return found

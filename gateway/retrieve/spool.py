"""Where instances pulled from the leading archive pass through, shared by all threads and worker processes.

One folder for each study being pulled. In it:

- ``users``: whoever wants something of the study holds a shared lock on it; the last one out removes the folder;
- ``lead``: one of them holds an exclusive lock on it while it asks the leading archive, so that two viewers cause one
  upstream retrieve; when its process dies, the lock falls to another;
- ``wanted``: the instances that were asked for, for a process that receives them on behalf of another;
- ``log``: a line for each file that has arrived, and one for the end. It only grows, so everybody follows it at their
  own pace. A line that does not end yet is not read yet.

Locks are flock(2): they belong to an open file, end with the process, and work alike between threads and processes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.dicom.instance import StoredInstance
from gateway.errors import StorageError


def hashed(uid: str) -> str:
    """A file name for a UID that a peer made up."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Ended:
    """The last line of a pull.

    Attributes:
        asked: the instances it was to bring; those that have not arrived by now will not.
        problem: why it ended early, empty when the leading archive said that it was done.
        abandoned: whether it ended because nobody wanted it any more.
    """

    asked: tuple[str, ...]
    problem: str = ""
    abandoned: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a pull asked for.

    Attributes:
        series_of: the series of each instance, by SOP Instance UID.
    """

    patient_id: str
    study_instance_uid: str
    series_of: dict[str, str]


@dataclass(frozen=True)
class Arrived:
    """A line of the log: an instance whose file can be sent on."""

    instance: StoredInstance


class Log:
    """What has happened in a folder, read at one's own pace; not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._read = 0
        self._joined = os.fstat(self._fd).st_size

    def news(self) -> Iterator[Arrived | Ended]:
        """What was not read yet; ends of pulls before this reader came are left out."""
        data = os.pread(self._fd, os.fstat(self._fd).st_size - self._read, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        position, self._read = self._read, self._read + len(whole)
        for line in whole.splitlines(keepends=True):
            value = _value(line)
            if "instance" in value:
                yield Arrived(StoredInstance(**value["instance"]))
            elif "asked" in value and position >= self._joined:
                yield Ended(tuple(value["asked"]), value["problem"], value["abandoned"])
            position += len(line)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


class Entry:
    """One user's hold on the folder of a study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._users = _hold(folder)
        try:
            self._log = Log(folder)
        except OSError:
            os.close(self._users)
            raise
        self.news = self._log.news

    def lead(self) -> Lead | None:
        """Become the one that asks the leading archive, if nobody does."""
        fd = os.open(self.folder / "lead", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return Lead(self.folder, fd)

    def close(self) -> None:
        """Leave; the last one removes the folder."""
        self._log.close()
        os.close(self._users)
        sweep(self.folder)


class Lead:
    """The right to fill the folder of a study."""

    def __init__(self, folder: Path, fd: int) -> None:
        self._folder = folder
        self._fd = fd

    def want(self, wanted: Wanted) -> None:
        """Say which instances are asked for, so that :meth:`Spool.expecting` finds this folder."""
        temporary = self._folder / "wanted.new"
        with _storage():
            temporary.write_text(json.dumps(asdict(wanted)), encoding="ascii")
            temporary.rename(self._folder / "wanted")

    def is_unwanted(self) -> bool:
        """Whether every user has left."""
        fd = os.open(self._folder / "users", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    def end(self, ended: Ended | None = None) -> None:
        """Say how it ended, if it was begun, and give the right back, which is done whatever fails.

        Raises:
            StorageError: nobody could be told.
        """
        try:
            (self._folder / "wanted").unlink(missing_ok=True)
            if ended:
                _append(self._folder, asdict(ended))
        finally:
            os.close(self._fd)
            sweep(self._folder)


class Spool:
    """The folder of folders.

    Args:
        root: outside the file-set, on a local disk (flock).
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._wanted: dict[Path, tuple[int, Wanted]] = {}

    def enter(self, study_instance_uid: str) -> Entry:
        """Hold the folder of a study, made if it is not there.

        Raises:
            StorageError: it cannot be made.
        """
        with _storage():
            return Entry(self._root / hashed(study_instance_uid))

    def expecting(self, sop_instance_uid: str) -> tuple[Path, Wanted] | None:
        """The folder of the pull that asked for this instance, whichever process runs it."""
        try:
            folders = list(self._root.iterdir())
        except FileNotFoundError:
            return None
        for folder in folders:
            wanted = self._wanted_in(folder)
            if wanted and sop_instance_uid in wanted.series_of:
                return folder, wanted
        return None

    def _wanted_in(self, folder: Path) -> Wanted | None:
        try:
            changed = (folder / "wanted").stat().st_mtime_ns
            known = self._wanted.get(folder)
            if known is None or known[0] != changed:
                known = changed, Wanted(**json.loads((folder / "wanted").read_bytes()))
                self._wanted[folder] = known
        except (FileNotFoundError, NotADirectoryError):
            self._wanted.pop(folder, None)
            return None
        return known[1]

    def sweep(self) -> None:
        """Remove what killed processes left; folders in use stay."""
        if self._root.is_dir():
            for folder in self._root.iterdir():
                sweep(folder)


def record(folder: Path, instance: StoredInstance) -> None:
    """Say that an instance has arrived; from any thread or process.

    Raises:
        StorageError: it cannot be written down, so nobody will send it on.
    """
    _append(folder, {"instance": asdict(instance)})


def sweep(folder: Path) -> None:
    """Remove a folder that nobody uses and nobody fills."""
    held: list[int] = []
    try:
        for name in ("users", "lead"):
            held.append(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".{folder.name}-{os.getpid()}-{threading.get_ident()}")
        folder.rename(gone)  # at once, so that whoever comes now makes a new one
        shutil.rmtree(gone, ignore_errors=True)
    except (FileNotFoundError, NotADirectoryError, BlockingIOError):
        return  # in use, or somebody else removed it
    finally:
        for fd in held:
            os.close(fd)


def _hold(folder: Path) -> int:
    """A shared lock on the folder's users; taken again when the folder was removed meanwhile."""
    path = folder / "users"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_SH)
        try:
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)


def _value(line: bytes) -> dict[str, Any]:
    """What a line says; a line that a full disk cut short says nothing."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _append(folder: Path, value: dict[str, object]) -> None:
    with _storage():
        fd = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the spool cannot be used: {error.strerror}") from error

"""What a crash or a power cut left, brought to an end when an archive is opened.

First the journals of dead processes: what was acknowledged and lost is put back (see :mod:`gateway.archive.journal`).
Then temporary files: one with a second name was on its way into the index; if no row names that place, the instance was
not acknowledged, and both names go.

Several processes may open an archive at once, and others may be at work on it: journals and temporary files that a
living process holds are its own affair.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gateway.archive import fileid, runs
from gateway.archive.disk import Disk
from gateway.archive.entering import add_instance, stored_at
from gateway.archive.heads import read_head
from gateway.archive.incoming import Incoming
from gateway.archive.index import Index
from gateway.archive.runs import Entry
from gateway.archive.turns import file_lock
from gateway.errors import BadInstance, StorageError
from gateway.logs import get_logger

_log = get_logger("archive")


def put_back(index: Index, disk: Disk, journals: Path, now: float) -> tuple[int, int]:
    """Put back what the journals of dead processes say was acknowledged; how many rows and how many files.

    All journals are read together, in the order of their rows, before anything else is written: only then does the last
    row's number tell what the index has lost.

    Args:
        journals: what the names of journals begin with.
        now: seconds since the epoch, for the time of reception.

    Raises:
        StorageError: disk or index refuse; the journals stay as they are.
    """
    lock = index.path.with_name(index.path.name + ".recover")
    try:
        with file_lock(lock), _held(journals) as held:
            found = sorted(entry for path, fd in held for entry in runs.entries(path, fd, index.identity))
            done = _put_back(index, disk, found, now) if found else (0, 0)
            for _, fd in held:
                runs.clear(fd)
    except OSError as error:
        raise StorageError(f"the journal cannot be put back: {error.strerror}") from error
    return done


@contextmanager
def _held(journals: Path) -> Iterator[list[tuple[Path, int]]]:
    """The journals that no living process has, locked."""
    with ExitStack() as stack:
        held = []
        for path in sorted(journals.parent.glob(f"{journals.name}-*")):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append((path, fd))
        yield held


def _put_back(index: Index, disk: Disk, found: list[Entry], now: float) -> tuple[int, int]:
    rows, files = 0, 0
    with index.write() as db:
        reached = int((db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'instance'").fetchone() or (0,))[0])
        for entry in found:
            if entry.row <= reached and not _has(db, entry):
                continue  # deleted or replaced since, or void
            if not entry.is_whole(disk.root / entry.file_id):
                if not entry.kept:
                    _log.error("a synced file is not what it was", file=entry.file_id)
                    continue
                write_anew(disk, [entry])
                files += 1
            if entry.row > reached:
                add_instance(db, read_head(disk.root / entry.file_id), entry.file_id, now, row=entry.row)
                rows += 1
        disk.sync_all()
    return rows, files


def _has(db: sqlite3.Connection, entry: Entry) -> bool:
    """Whether the row that a record was written for is there."""
    row = entry.row, entry.sop_instance_uid, entry.file_id
    return db.execute("SELECT 1 FROM instance WHERE id = ? AND uid = ? AND file_id = ?", row).fetchone() is not None


def write_anew(disk: Disk, found: Iterable[Entry]) -> None:
    """Write files once more from the journal, each synced, in place of what has their names.

    Raises:
        OSError: the disk refuses.
    """
    for entry in found:
        if not entry.kept:
            continue  # it was synced at its place
        target = disk.root / entry.file_id
        new = disk.incoming / f"{target.name}.anew"
        disk.make_folder(target.parent)
        with new.open("wb") as file:
            file.write(entry.read())
            file.flush()
            disk.sync(file.fileno())
        new.replace(target)
        disk.sync_folder(target.parent)


def remove_leftovers(index: Index, disk: Disk, incoming: Incoming) -> int:
    """Remove what dead processes left of unfinished stores; how many there were."""
    found = 0
    for path in incoming.leftovers():
        found += 1
        forget_unacknowledged(index, disk, path)
        path.unlink(missing_ok=True)
    return found


def forget_unacknowledged(index: Index, disk: Disk, path: Path) -> None:
    """Remove the second name of a temporary file, if it has one, unless the index has it.

    Raises:
        FileNotFoundError: the temporary file is gone.
    """
    status = path.stat()
    if status.st_nlink < 2:
        return
    inode = status.st_ino
    try:
        _, uid, study, series = read_head(path).uids
    except BadInstance:  # a power cut before its bytes were synced: what they said of its place is lost
        _forget_lost(index, disk, inode)
        return
    with index.read() as db:
        acknowledged = stored_at(db, uid)
    folder = next(fileid.candidates(study, series, uid)).rpartition("/")[0]
    disk.remove(one for one in _names_of(disk, folder, inode) if one != acknowledged)


def _forget_lost(index: Index, disk: Disk, inode: int) -> None:
    """Remove the second name of a file that does not tell where it is; every folder of ours is looked through."""
    for folder, _, _ in os.walk(disk.root / fileid.FOLDER):
        for file_id in _names_of(disk, Path(folder).relative_to(disk.root).as_posix(), inode):
            with index.read() as db:
                kept = db.execute("SELECT 1 FROM instance WHERE file_id = ?", (file_id,)).fetchone()
            if kept is None:
                disk.remove([file_id])


def _names_of(disk: Disk, folder: str, inode: int) -> list[str]:
    """The File IDs in a folder that are names of one file."""
    with suppress(FileNotFoundError), os.scandir(disk.root / folder) as entries:
        return [f"{folder}/{entry.name}" for entry in entries if entry.inode() == inode]
    return []

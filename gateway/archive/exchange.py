"""Changed files in the place of a study's, all of them at once.

The way: changed files written and synced in a folder of their own under the root, linked to places of their own, one
transaction of the index, staged names removed. Until the transaction every answer and every file is the old one, after
it every one is the new one, and at no moment is an instance not found. A crash before it leaves links that no row
names, and :func:`recover` removes them; a crash after it leaves staged names only. The old files are tombstones by the
same transaction and go with the next publication, as those of a deletion do.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.archive import fileid, renew
from gateway.archive.disk import Disk
from gateway.archive.heads import read_head
from gateway.archive.incoming import unheld
from gateway.archive.index import Index
from gateway.archive.publish import Publisher
from gateway.archive.recovery import forget_unacknowledged
from gateway.archive.renew import Renewed
from gateway.coercion.rewrite import write_file
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.errors import BadInstance, StorageError

STAGING = ".exchange"
"""Folder of files on their way, under the root, where a link to any place of the file-set can be made."""

Change = Callable[[StoredInstance], Outgoing]
"""The instance as it is to be; one without a head stays as it is."""

_INSTANCES = """SELECT i.uid, i.id, i.file_id FROM instance i JOIN series s ON s.id = i.series
JOIN study t ON t.id = s.study WHERE t.uid = ? ORDER BY i.id"""


def rows_of(db: sqlite3.Connection, study_uid: str) -> dict[str, tuple[int, str]]:
    """Row and File ID of each instance of a study; one that is stored anew has another row."""
    return {uid: (row, file_id) for uid, row, file_id in db.execute(_INSTANCES, (study_uid,))}


class Exchange:
    """One study, from its old files to its new ones.

    Args:
        publisher: must not note rows while they are made anew.
        rows: those of the study's instances, read before the instances that :meth:`run` gets.
        now: seconds since the epoch, for what is new to the index.
    """

    def __init__(
        self,
        index: Index,
        disk: Disk,
        publisher: Publisher,
        study_uid: str,
        rows: Mapping[str, tuple[int, str]],
        now: float,
    ) -> None:
        self._index = index
        self._disk = disk
        self._publisher = publisher
        self._study = study_uid
        self._rows = rows
        self._now = now
        self._placed: list[str] = []

    def run(self, stored: Sequence[StoredInstance], change: Change) -> int:
        """Carry it out; how many instances have another file.

        Raises:
            BadInstance: an instance cannot be read, or is not what the index says; the study is as it was.
            StorageError: the disk or the index refuses, or the study changed meanwhile; the study is as it was.
        """
        try:
            with staging(self._disk.root) as folder:
                staged = {one.sop_instance_uid: self._stage(folder, one, change) for one in stored}
                self._exchange(stored, staged)
        except OSError as error:
            raise StorageError(f"the changed files cannot be written: {error.strerror}") from error
        return len(self._placed)

    def _stage(self, folder: Path, instance: StoredInstance, change: Change) -> Path | None:
        """Write the changed file, synced; None for an instance that stays as it is."""
        outgoing = change(instance)
        if not outgoing.head:
            return None
        path = folder / secrets.token_hex(8)
        with path.open("xb") as file:
            write_file(outgoing, file.fileno())
            self._disk.sync(file.fileno())
        return path

    def _exchange(self, stored: Sequence[StoredInstance], staged: Mapping[str, Path | None]) -> None:
        changed = StorageError("the study changed meanwhile; it is as it was", hint="run it again")
        if staged.keys() != self._rows.keys():
            raise changed
        try:
            made = [self._renewed(one, staged[one.sop_instance_uid]) for one in stored]
            if len(self._placed) < len(made):
                self._disk.sync_all()  # the journal knows files that stay by the rows they had until now
            with self._publisher.paused(), self._index.write() as db:
                if rows_of(db, self._study) != self._rows:
                    raise changed
                if made:
                    renew.study(db, self._study, made, self._now)
        except BaseException:
            self._disk.remove(self._placed)
            raise

    def _renewed(self, instance: StoredInstance, staged: Path | None) -> Renewed:
        """The instance as its row will say, with its new file linked to its place."""
        try:
            head = read_head(staged or Path(instance.path))
        except FileNotFoundError as error:
            raise BadInstance("the instance's file is missing") from error
        _, uid, study, series = head.uids
        if (uid, study) != (instance.sop_instance_uid, self._study):
            raise BadInstance("the file is another instance than the index says, or of another study")
        row, file_id = self._rows[uid]
        if staged is None:
            return Renewed(head, file_id, row)
        place = self._disk.place(staged, self._free(fileid.candidates(study, series, uid)))
        self._placed.append(place)
        self._disk.settle(place)
        return Renewed(head, place, row, replaced=True)

    def _free(self, wanted: Iterator[str]) -> Iterator[str]:
        """Places that no deletion is still going to unlink."""
        with self._index.read() as db:
            dying = {file_id for (file_id,) in db.execute("SELECT file_id FROM tombstone")}
        return (one for one in wanted if one not in dying)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A folder for changed files on the file-set's own disk, held while the block runs, and gone after it.

    Raises:
        OSError: the disk refuses.
    """
    path, fd = _held_folder(root / STAGING)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _held_folder(above: Path) -> tuple[Path, int]:
    while True:
        path = above / secrets.token_hex(8)
        path.mkdir(parents=True)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # somebody clearing up was faster than our lock
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if path.exists():
            return path, fd
        os.close(fd)


def recover(index: Index, disk: Disk) -> int:
    """Remove what dead processes left of exchanges; how many there were.

    Raises:
        StorageError: the disk or the index refuses.
    """
    found = 0
    try:
        for folder in _folders(disk.root / STAGING):
            with suppress(FileNotFoundError), unheld(folder) as free:
                if free:
                    found += 1
                    for path in sorted(folder.iterdir()):
                        forget_unacknowledged(index, disk, path)
                    shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"what a crash left cannot be removed: {error.strerror}") from error
    return found


def _folders(above: Path) -> list[Path]:
    try:
        return sorted(above.iterdir())
    except FileNotFoundError:
        return []

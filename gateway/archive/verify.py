"""Comparing index, DICOMDIR and disk, and mending what can be mended without loss.

A running gateway goes on storing and deleting meanwhile, so each finding is looked at a second time before it counts.
Nothing is ever removed from the disk here; an entry whose file is missing is only dropped when that is asked for, since
a disk that is not mounted looks just the same.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from gateway import IMPLEMENTATION_CLASS_UID
from gateway.archive import delete, fileid, heads
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.directorybytes import NotADicomdir
from gateway.archive.disk import INCOMING, Disk
from gateway.archive.entering import add_instance, stored_at
from gateway.archive.exchange import STAGING
from gateway.archive.index import Index
from gateway.dicom import tags
from gateway.dicom.models import Level
from gateway.errors import BadInstance


class Kind(Enum):
    """What can be wrong."""

    MISSING = "file missing"
    SIZE = "file has another size"
    UID = "file is another instance"
    UNREADABLE = "file cannot be read"
    UNREFERENCED = "file not in the index"
    NOT_PUBLISHED = "instance not in the DICOMDIR"
    NOT_INDEXED = "record not in the index"
    QUARANTINED = "record in quarantine"
    EMPTY = "patient, study or series without instances"


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        place: a File ID, or where in the DICOMDIR.
        uid: the SOP Instance UID concerned, where one is known.
    """

    kind: Kind
    place: str
    uid: str = ""
    detail: str = ""
    mended: bool = False


@dataclass(frozen=True)
class Row:
    """An instance as the index has it."""

    uid: str
    size: int
    published: int


class Verifier:
    """One comparison.

    Args:
        quick: do not open the files; only their presence and size are compared.
    """

    def __init__(self, index: Index, disk: Disk, dicomdir: Path, *, quick: bool = False) -> None:
        self._index = index
        self._disk = disk
        self._dicomdir = dicomdir
        self._quick = quick

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong.

        Raises:
            StorageError: index or disk cannot be read.
        """
        with self._index.read() as db:
            known = {
                file_id: Row(uid, size, published)
                for file_id, uid, size, published in db.execute("SELECT file_id, uid, size, published FROM instance")
            }
            noted = db.execute("SELECT place, reason FROM quarantine ORDER BY id").fetchall()
            empty = db.execute(_EMPTY).fetchone()[0]
        seen: set[str] = set()
        for file_id, entry in _files(self._disk.root, self._dicomdir):
            row = known.get(file_id)
            if row is None:
                yield from self._unreferenced(file_id, entry)
            else:
                seen.add(file_id)
                yield from self._present(file_id, row, entry)
        for file_id in known.keys() - seen:
            yield from self._absent(file_id, known[file_id])
        yield from self._published(known)
        for place, reason in noted:
            if place.startswith("record"):
                yield Problem(Kind.QUARANTINED, place, detail=reason)
        if empty:
            yield Problem(Kind.EMPTY, self._dicomdir.name, detail=f"{empty}; archive purge takes them out")

    def _present(self, file_id: str, row: Row, entry: os.DirEntry[str]) -> Iterator[Problem]:
        size = entry.stat().st_size
        if row.size and size != row.size:
            yield Problem(Kind.SIZE, file_id, row.uid, f"{size} bytes, {row.size} expected")
        elif not self._quick:
            yield from self._head(file_id, row)

    def _head(self, file_id: str, row: Row) -> Iterator[Problem]:
        try:
            head = heads.read_head(self._disk.root / file_id)
        except BadInstance as error:
            yield Problem(Kind.UNREADABLE, file_id, row.uid, error.message)
        except FileNotFoundError:
            yield from self._absent(file_id, row)
        else:
            found = head.attributes.text(tags.SOPInstanceUID)
            if found != row.uid:
                yield Problem(Kind.UID, file_id, row.uid, f"it is {found or 'none'}")

    def _absent(self, file_id: str, row: Row) -> Iterator[Problem]:
        with self._index.read() as db:
            if stored_at(db, row.uid) != file_id:
                return  # deleted or replaced meanwhile
        try:
            fileid.resolve(self._disk.root, file_id)
        except (FileNotFoundError, fileid.BadFileID):
            yield Problem(Kind.MISSING, file_id, row.uid)

    def _unreferenced(self, file_id: str, entry: os.DirEntry[str]) -> Iterator[Problem]:
        try:
            if entry.stat().st_nlink > 1:
                return  # being stored just now
            head = heads.read_head(self._disk.root / file_id)
        except FileNotFoundError:
            return
        except BadInstance:
            return  # not ours: a README, a viewer
        uid = head.attributes.text(tags.SOPInstanceUID)
        with self._index.read() as db:
            here = stored_at(db, uid)
            dying = db.execute("SELECT 1 FROM tombstone WHERE file_id = ?", (file_id,)).fetchone()
        if dying is None and (here is None or here.casefold() != file_id.casefold()):
            yield Problem(Kind.UNREFERENCED, file_id, uid, f"the index has it as {here}" if here else "")

    def _published(self, known: dict[str, Row]) -> Iterator[Problem]:
        listed: dict[str, str] = {}
        try:
            with Dicomdir(self._dicomdir) as source:
                for _, record in source.records():
                    if record.file_id and record.sop_instance_uid:
                        listed[record.file_id.replace("\\", "/")] = record.sop_instance_uid
        except (NotADicomdir, FileNotFoundError) as error:
            yield Problem(Kind.QUARANTINED, self._dicomdir.name, detail=str(error))
            return
        with self._index.read() as db:
            for file_id in known.keys() - listed.keys():
                row = known[file_id]
                if row.published and stored_at(db, row.uid) == file_id:
                    yield Problem(Kind.NOT_PUBLISHED, file_id, row.uid)
            for file_id in listed.keys() - known.keys():
                if stored_at(db, listed[file_id]) is None and not _dying(db, file_id):
                    yield Problem(Kind.NOT_INDEXED, file_id, listed[file_id])

    def take_back(self, now: float) -> int:
        """Take in what this gateway stored and an index that was lost knew; how many instances.

        Files of others are left alone: somebody may have taken them out of the DICOMDIR and kept the file.
        """
        with self._index.read() as db:
            known = {file_id for (file_id,) in db.execute("SELECT file_id FROM instance")}
        taken = 0
        for file_id, _ in _files(self._disk.root, self._dicomdir, fileid.FOLDER):
            if file_id not in known and _is_ours(self._disk.root / file_id):
                taken += self._adopt(file_id, now)
        return taken

    # -- mending ---------------------------------------------------------------------------------------------------

    def mend(self, problem: Problem, now: float, *, forget_missing: bool = False) -> Problem:
        """Mend a problem if that can be done without loss; the caller publishes afterwards.

        Args:
            forget_missing: drop the entry of a file that is missing.
        """
        mended = False
        match problem.kind:
            case Kind.UNREFERENCED:
                mended = self._follow(problem) if problem.detail else self._adopt(problem.place, now)
            case Kind.MISSING:
                mended = self._followed(problem) or (forget_missing and self._forget(problem.uid))
            case Kind.UID:
                mended = self._forget(problem.uid) and self._adopt(problem.place, now)
            case Kind.NOT_PUBLISHED:
                mended = self._write("UPDATE instance SET published = 0 WHERE uid = ?", problem.uid)
            case Kind.EMPTY:
                with self._index.write(visible=False) as db:
                    mended = delete.purge(db) > 0
        return replace(problem, mended=mended)

    def _adopt(self, file_id: str, now: float) -> bool:
        """Take a file into the index under its own name, or under one of ours where that is no File ID."""
        try:
            head = heads.read_head(self._disk.root / file_id)
            _, uid, study, series = head.uids
        except (BadInstance, FileNotFoundError):
            return False
        place = file_id
        self._disk.sync_all()  # nobody knows who wrote it, and when
        if not fileid.is_file_id(file_id):
            place = self._disk.place(self._disk.root / file_id, fileid.candidates(study, series, uid))
            self._disk.settle(place)
        with self._index.write() as db:
            if stored_at(db, uid) is not None:
                return False
            add_instance(db, head, place, now)
        if place != file_id:
            self._disk.remove([file_id])
        return True

    def _followed(self, problem: Problem) -> bool:
        """Whether another file has turned out to be the one that was missing."""
        with self._index.read() as db:
            return stored_at(db, problem.uid) != problem.place

    def _follow(self, problem: Problem) -> bool:
        """Let the index follow an instance whose own file is missing to this one."""
        with self._index.read() as db:
            here = stored_at(db, problem.uid)
        if here is None or (self._disk.root / here).exists() or not fileid.is_file_id(problem.place):
            return False
        with self._index.write() as db:
            head = heads.read_head(self._disk.root / problem.place)
            db.execute(
                "UPDATE instance SET file_id = ?, size = ?, dataset_offset = ?, published = 0 WHERE uid = ?",
                (problem.place, head.size, head.dataset_offset, problem.uid),
            )
        return True

    def _forget(self, uid: str) -> bool:
        with self._index.write() as db:
            return delete.delete(db, Level.IMAGE, uid, unlink=False).instances > 0

    def _write(self, statement: str, uid: str) -> bool:
        with self._index.write(visible=False) as db:
            return db.execute(statement, (uid,)).rowcount > 0


_EMPTY = """SELECT (SELECT count(*) FROM series WHERE instances = 0) + (SELECT count(*) FROM study WHERE instances = 0)
 + (SELECT count(*) FROM patient WHERE studies = 0)"""


def counts(problems: list[Problem]) -> dict[str, int]:
    """How many of each kind are left unmended; parents without instances are in order until somebody purges them."""
    return dict(Counter(one.kind.value for one in problems if not one.mended and one.kind is not Kind.EMPTY))


def _dying(db: sqlite3.Connection, file_id: str) -> bool:
    return db.execute("SELECT 1 FROM tombstone WHERE file_id = ?", (file_id,)).fetchone() is not None


def _is_ours(path: Path) -> bool:
    """Whether we wrote a file, by its Implementation Class UID (0002,0012)."""
    with path.open("rb") as file:
        return IMPLEMENTATION_CLASS_UID.encode() in file.read(1024)


def _files(root: Path, dicomdir: Path, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every regular file under the root by its path with slashes, but for the DICOMDIR and temporary files."""
    stack = [below] if (root / below).is_dir() else []
    while stack:
        folder = stack.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if path not in {INCOMING, STAGING}:
                        stack.append(path)
                elif entry.is_file() and path != dicomdir.name:
                    yield path, entry

"""Taking instances in: what is acknowledged is on the disk and in the index.

The way of an instance: temporary file, head checked, duplicate looked for, hard link at its place; then a row, whose
transaction makes the instance durable through the journal before it is committed; Success; temporary name removed.
What the journal does not take is synced by itself before the transaction. :mod:`gateway.archive.recovery` ends what a
crash left between two of these steps.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, metrics
from gateway.archive import fileid, rows
from gateway.archive.disk import Disk
from gateway.archive.heads import Head, head_of, read_head
from gateway.archive.incoming import Incoming
from gateway.archive.index import Index
from gateway.archive.journal import Journal, JournalFull
from gateway.archive.runs import Body
from gateway.dicom import encoding
from gateway.dicom.attributes import Element, pad
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.dimse.ports import StoreRequest
from gateway.errors import BadInstance, Refused, StorageError
from gateway.logs import get_logger

_log = get_logger("archive")
_BLOCK = 1 << 20


class OnConflict(Enum):
    """Another content under a SOP Instance UID that is here already; ``archive.on_conflict``."""

    KEEP = "keep"
    """The stored one stays, and the sender is told by a warning (B000H)."""
    REPLACE = "replace"
    """The new one takes its place."""


class Store:
    """The Receiver of C-STORE requests.

    Args:
        clock: seconds since the epoch, for the time of reception.
    """

    def __init__(
        self,
        index: Index,
        disk: Disk,
        incoming: Incoming,
        journal: Journal,
        on_conflict: OnConflict,
        *,
        clock: Callable[[], float] = time.time,
        min_free: int = 0,
    ) -> None:
        self._index = index
        self._disk = disk
        self._incoming = incoming
        self._journal = journal
        self._on_conflict = on_conflict
        self._clock = clock
        self._min_free = min_free

    def begin(self, request: StoreRequest) -> IncomingFile:
        """Open a temporary file with File Meta Information written.

        Raises:
            StorageError: the disk is full or failing.
        """
        meta = file_meta(request)
        if self._min_free and self._disk.free() < self._min_free:
            raise StorageError("less disk space is free than archive.min_free asks for")
        try:
            path, fd = self._incoming.take()
        except OSError as error:
            raise StorageError(f"no temporary file: {error.strerror}") from error
        incoming = IncomingFile(self, self._incoming, request, path, fd)
        try:
            _write_all(fd, meta)
        except OSError as error:
            incoming.abort()
            raise StorageError(f"the temporary file cannot be written: {error.strerror}") from error
        return incoming

    def keep(self, request: StoreRequest, path: Path, fd: int) -> int:
        """Make a received file an instance of the archive; the status to answer with.

        Raises:
            BadInstance, Refused, StorageError: it is not kept.
        """
        head = head_of(fd)
        uids = head.uids
        if uids[:2] != (request.sop_class_uid, request.sop_instance_uid):
            raise Refused("data set and command name different instances", Status.DATASET_DOES_NOT_MATCH_SOP_CLASS)
        candidates = fileid.candidates(*uids[2:], uids[1])
        first = next(candidates)
        before, is_free = self._look_up(uids[1], first)
        there = _compared(self._disk.root / before, head, fd) if before is not None else None
        if there is _There.SAME:
            metrics.STORED.labels("identical").inc()
            return Status.SUCCESS
        if there is _There.OTHER and self._on_conflict is OnConflict.KEEP:
            return self._conflict(uids[1], "kept")
        others = self._free(candidates)
        file_id = self._disk.place(path, chain((first,), others) if is_free else others)
        return self._commit(Placed(head, uids[1], file_id, fd), lost=before if there is _There.LOST else None)

    def _look_up(self, uid: str, file_id: str) -> tuple[str | None, bool]:
        """The File ID of an instance that is here already, and whether no deletion is going to unlink another."""
        with self._index.read() as db:
            here, dying = db.execute(_LOOK_UP, (uid, file_id)).fetchone()
        return here, not dying

    def _free(self, wanted: Iterable[str]) -> Iterator[str]:
        """Places that no deletion is still going to unlink."""
        return (file_id for file_id in wanted if self._look_up("", file_id)[1])

    def _commit(self, placed: Placed, *, lost: str | None) -> int:
        """The row, and with it the acknowledgement; another writer may have been faster with the same UID.

        Args:
            lost: the File ID of the stored file, if it is missing or no instance any more; this one takes its place.
        """
        try:
            before = self._enter_journaled(placed, lost)
        except BaseException:
            self._disk.remove([placed.file_id])
            raise
        if before is None:
            metrics.STORED.labels("new").inc()
        elif before == lost:
            metrics.STORED.labels("restored").inc()
            _log.warning("an instance whose file was lost came again", sop_instance_uid=placed.sop_instance_uid)
        elif self._on_conflict is OnConflict.KEEP:
            return self._outrun(before, placed)
        else:
            self._conflict(placed.sop_instance_uid, "replaced")
        return Status.SUCCESS

    def _enter_journaled(self, placed: Placed, lost: str | None) -> str | None:
        """Enter an instance, made durable by the journal or by syncs of its own; what was there before."""
        body = self._journal.body(placed.fd, placed.head.size)
        if body is None or not body.data:
            self._disk.settle(placed.file_id, placed.fd)
        if body is not None:
            with suppress(JournalFull):
                return self._enter(placed, lost, body)
            if body.data:
                self._disk.settle(placed.file_id, placed.fd)
        return self._enter(placed, lost, None)

    def _enter(self, placed: Placed, lost: str | None, body: Body | None) -> str | None:
        written = None
        try:
            with self._index.write(synced=body is None) as db:
                before = stored_at(db, placed.sop_instance_uid)
                if before in {None, lost} or self._on_conflict is OnConflict.REPLACE:
                    row = add_instance(db, placed.head, placed.file_id, self._clock(), is_new=before is None)
                    if body is not None:
                        written = self._journal.append(row, placed.sop_instance_uid, placed.file_id, body)
        except StorageError:
            if written is not None:
                self._journal.void(written)
            raise
        return before

    def _outrun(self, before: str, placed: Placed) -> int:
        """Another writer stored the same UID meanwhile: what was placed goes.

        Raises:
            StorageError: the other's was deleted since; nothing is here, and the sender is to send again.
        """
        there = _compared(self._disk.root / before, placed.head, placed.fd)
        self._disk.remove([placed.file_id])
        if there is _There.LOST:
            raise StorageError("the instance was deleted while it was stored", hint="send it again")
        return Status.SUCCESS if there is _There.SAME else self._conflict(placed.sop_instance_uid, "kept")

    def _conflict(self, uid: str, outcome: str) -> int:
        metrics.STORED.labels(outcome).inc()
        _log.warning("other content under a stored SOP Instance UID", sop_instance_uid=uid, outcome=outcome)
        return Status.SUCCESS if outcome == "replaced" else _COERCED


class Placed(NamedTuple):
    """A received file under its final name, not durable yet."""

    head: Head
    sop_instance_uid: str
    file_id: str
    fd: int


_LOOK_UP = """SELECT (SELECT file_id FROM instance WHERE uid = ?),
 EXISTS (SELECT 1 FROM tombstone WHERE file_id = ?)"""

_COERCED = 0xB000
"""Coercion of data elements (PS3.4 B.2.3): what is stored under this UID is not, to the last byte, what was sent."""


class IncomingFile:
    """One instance on its way in."""

    def __init__(self, store: Store, incoming: Incoming, request: StoreRequest, path: Path, fd: int) -> None:
        self._store = store
        self._incoming = incoming
        self._request = request
        self._path = path
        self.fd = fd

    def commit(self) -> int:
        """Make the instance durable and return the status to answer with.

        Raises:
            GatewayError: it was not kept; nothing of it is left.
        """
        try:
            return self._store.keep(self._request, self._path, self.fd)
        except OSError as error:
            raise StorageError(f"the instance cannot be stored: {error.strerror}") from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Give the temporary name up; harmless after a commit."""
        if self.fd >= 0:
            self._incoming.give_up(self._path, self.fd)
            self.fd = -1


def file_meta(request: StoreRequest) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1)."""
    instance = pad("UI", request.sop_instance_uid.encode("ascii", "replace"))
    before, after = _around(request.sop_class_uid, request.transfer_syntax_uid, request.caller.aet)
    body = before + encoding.write([(0x00020003, Element("UI", instance))], implicit=False) + after
    length = Element("UL", len(body).to_bytes(4, "little"))
    return _PREAMBLE + encoding.write([(0x00020000, length)], implicit=False) + body


_PREAMBLE = bytes(128) + b"DICM"


@lru_cache(maxsize=256)
def _around(sop_class_uid: str, transfer_syntax_uid: str, aet: str) -> tuple[bytes, bytes]:
    """What stands before and behind the SOP Instance UID; the same for most instances of a sender."""
    uids = {0x00020002: sop_class_uid, 0x00020010: transfer_syntax_uid, 0x00020012: IMPLEMENTATION_CLASS_UID}
    elements = {tag: Element("UI", pad("UI", uid.encode("ascii", "replace"))) for tag, uid in uids.items()}
    elements[0x00020001] = Element("OB", b"\0\1")
    elements[0x00020013] = Element("SH", pad("SH", IMPLEMENTATION_VERSION_NAME.encode()))
    elements[0x00020016] = Element("AE", pad("AE", aet.encode("ascii", "replace")))
    before = [(tag, one) for tag, one in sorted(elements.items()) if tag < 0x00020003]
    after = [(tag, one) for tag, one in sorted(elements.items()) if tag > 0x00020003]
    return encoding.write(before, implicit=False), encoding.write(after, implicit=False)


def stored_at(db: sqlite3.Connection, sop_instance_uid: str) -> str | None:
    """The File ID of an instance; None when it is not here."""
    row = db.execute("SELECT file_id FROM instance WHERE uid = ?", (sop_instance_uid,)).fetchone()
    return None if row is None else str(row[0])


def add_instance(
    db: sqlite3.Connection, head: Head, file_id: str, now: float, *, row: int | None = None, is_new: bool = False
) -> int:
    """Put an instance into the index, in place of what had its UID before; the number of its row.

    Args:
        row: the number it had before it was lost.
        is_new: nothing has its UID, as the caller has seen in this transaction.
    """
    sop_class, uid, study_uid, series_uid = head.uids
    if not is_new:
        _bury(db, uid)
    series = rows.known_series(db, series_uid, study_uid) or _add_series(db, head, now)
    ((made,),) = db.execute(
        "INSERT INTO instance (id, series, uid, sop_class, transfer_syntax, file_id, size, dataset_offset, enriched,"
        " attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?) RETURNING id",
        (row, series, uid, sop_class, head.transfer_syntax_uid, file_id, head.size, head.dataset_offset,
         head.of(Level.IMAGE).encode(implicit=False)),
    ).fetchall()  # fmt: skip
    rows.count_one(db, series, now)
    return int(made)


def _add_series(db: sqlite3.Connection, head: Head, now: float) -> int:
    """The row of an instance's series, made with its parents as far as they are new."""
    study_uid, series_uid = head.uids[2:]
    above = head.of(Level.PATIENT)
    patient = rows.add_patient(db, rows.patient_key(above, study_uid), above)
    study = rows.add_study(db, patient, study_uid, head.of(Level.STUDY), now)
    return rows.add_series(db, study, series_uid, head.of(Level.SERIES))


def _bury(db: sqlite3.Connection, uid: str) -> None:
    """Make what a new instance replaces a tombstone."""
    row = db.execute("SELECT id, series, file_id, published FROM instance WHERE uid = ?", (uid,)).fetchone()
    if row is None:
        return
    db.execute(
        "INSERT INTO tombstone (series, uid, file_id, published) VALUES (?, ?, ?, ?)", (row[1], uid, row[2], row[3] > 0)
    )
    db.execute("DELETE FROM instance WHERE id = ?", (row[0],))
    rows.recount(db, {row[1]})


class _There(Enum):
    """What is stored under the UID of an instance that came."""

    SAME = "same"
    OTHER = "other"
    LOST = "lost"


def _compared(stored: Path, head: Head, fd: int) -> _There:
    """Whether a stored file has the same data set, byte for byte, in the same transfer syntax."""
    try:
        other = read_head(stored)
        file = os.open(stored, os.O_RDONLY)
    except (BadInstance, FileNotFoundError):
        return _There.LOST
    if other.transfer_syntax_uid != head.transfer_syntax_uid or _length(other) != _length(head):
        os.close(file)
        return _There.OTHER
    try:
        shift = other.dataset_offset - head.dataset_offset
        blocks = range(head.dataset_offset, head.size, _BLOCK)
        same = all(os.pread(fd, _BLOCK, at) == os.pread(file, _BLOCK, at + shift) for at in blocks)
    finally:
        os.close(file)
    return _There.SAME if same else _There.OTHER


def _length(head: Head) -> int:
    return head.size - head.dataset_offset


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

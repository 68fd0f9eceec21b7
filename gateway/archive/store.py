"""Taking instances in: what is acknowledged is on the disk and in the index.

The way of an instance: temporary file, head checked, duplicate looked for, hard link at its place; then a row, whose
transaction makes the instance durable through the journal before it is committed; Success; temporary name removed.
What the journal does not take is synced by itself before the transaction. :mod:`gateway.archive.recovery` ends what a
crash left between two of these steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from functools import cache
from itertools import chain
from typing import NamedTuple

from prometheus_client import Counter

from gateway import metrics
from gateway.archive import fileid
from gateway.archive.comparing import There, compared
from gateway.archive.disk import Disk
from gateway.archive.entering import add_instance, add_new, stored_at
from gateway.archive.heads import Head, Meta, head_of
from gateway.archive.incoming import Incoming
from gateway.archive.index import Index
from gateway.archive.journal import LONGEST, Journal, JournalFull
from gateway.archive.runs import Body
from gateway.dicom.part10 import file_head
from gateway.dicom.status import Status
from gateway.dimse.ports import StoreRequest
from gateway.errors import Refused, StorageError
from gateway.logs import get_logger

_log = get_logger("archive")


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
        written = file_head(
            request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid, request.caller.aet
        )
        if self._min_free and self._disk.free() < self._min_free:
            raise StorageError("less disk space is free than archive.min_free asks for")
        try:
            path, fd = self._incoming.take()
        except OSError as error:
            raise StorageError(f"no temporary file: {error.strerror}") from error
        meta = Meta(request.transfer_syntax_uid, len(written))
        incoming = IncomingFile(self, self._incoming, request, meta, path, fd)
        try:
            _write_all(fd, written)
        except OSError as error:
            incoming.abort()
            raise StorageError(f"the temporary file cannot be written: {error.strerror}") from error
        return incoming

    def keep(self, request: StoreRequest, meta: Meta, path: str, fd: int) -> int:
        """Make a received file an instance of the archive; the status to answer with.

        Raises:
            BadInstance, Refused, StorageError: it is not kept.
        """
        if os.fstat(fd).st_size > LONGEST:
            self._disk.begin_sync(fd)  # the disk has time for it until the file has its place
        head = head_of(fd, meta)
        uids = head.uids
        if uids[:2] != (request.sop_class_uid, request.sop_instance_uid):
            raise Refused("data set and command name different instances", Status.DATASET_DOES_NOT_MATCH_SOP_CLASS)
        candidates = fileid.candidates(*uids[2:], uids[1])
        first = next(candidates)
        before, is_free = self._look_up(uids[1], first)
        there = compared(self._disk.root / before, head, fd) if before is not None else None
        if there is There.SAME:
            _counted("identical").inc()
            return Status.SUCCESS
        if there is There.OTHER and self._on_conflict is OnConflict.KEEP:
            return self._conflict(uids[1], "kept")
        others = self._free(candidates)
        file_id = self._disk.place(path, chain((first,), others) if is_free else others)
        return self._commit(Placed(head, uids[1], file_id, fd), lost=before if there is There.LOST else None)

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
            _counted("new").inc()
        elif before == lost:
            _counted("restored").inc()
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
            with self._index.write(visible=False, synced=body is None) as db:
                row = add_new(db, placed.head, placed.file_id, self._clock())
                before = stored_at(db, placed.sop_instance_uid) if row is None else None
                if row is None and (before in {None, lost} or self._on_conflict is OnConflict.REPLACE):
                    row = add_instance(db, placed.head, placed.file_id, self._clock())
                if row is not None and body is not None:
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
        there = compared(self._disk.root / before, placed.head, placed.fd)
        self._disk.remove([placed.file_id])
        if there is There.LOST:
            raise StorageError("the instance was deleted while it was stored", hint="send it again")
        return Status.SUCCESS if there is There.SAME else self._conflict(placed.sop_instance_uid, "kept")

    def _conflict(self, uid: str, outcome: str) -> int:
        _counted(outcome).inc()
        _log.warning("other content under a stored SOP Instance UID", sop_instance_uid=uid, outcome=outcome)
        return Status.SUCCESS if outcome == "replaced" else _COERCED


@cache
def _counted(outcome: str) -> Counter:
    return metrics.STORED.labels(outcome)


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

    def __init__(self, store: Store, incoming: Incoming, request: StoreRequest, meta: Meta, path: str, fd: int) -> None:
        self._store = store
        self._incoming = incoming
        self._request = request
        self._meta = meta
        self._path = path
        self.fd = fd

    def commit(self) -> int:
        """Make the instance durable and return the status to answer with.

        Raises:
            GatewayError: it was not kept; nothing of it is left.
        """
        path, fd, self.fd = self._path, self.fd, -1
        try:
            return self._store.keep(self._request, self._meta, path, fd)
        except OSError as error:
            raise StorageError(f"the instance cannot be stored: {error.strerror}") from error
        finally:
            self._incoming.give_up(path, fd)

    def abort(self) -> None:
        """Forget what was received; harmless after a commit."""
        if self.fd >= 0:
            self._incoming.drop(self._path, self.fd)
            self.fd = -1


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

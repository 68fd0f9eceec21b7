"""Rejection notes on their way in: a Receiver in front of the archive's.

Key Object Selections are received into a temporary file and looked at before anything else happens; all else passes,
but for instances that were rejected before. A note is acted upon after it is stored and before its C-STORE is answered,
so a sender that got no answer sends it again and nothing is done twice.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gateway import metrics
from gateway.commitment.database import Database
from gateway.commitment.decision import Holdings
from gateway.commitment.rejection import KEY_OBJECT_SELECTION, Action, Note, OnResend, Rules, read_note
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse.ports import Incoming, Receiver, StoreRequest
from gateway.errors import BadInstance, Refused, StorageError
from gateway.logs import get_logger

_IMPLICIT = "1.2.840.10008.1.2"
_LONGEST = 1 << 26
"""Bytes of a Key Object Selection that are looked at; a longer one names millions of instances and is refused."""

_log = get_logger("commitment")


class Delete(Protocol):
    """The archive's deletion of one instance."""

    def __call__(self, sop_instance_uid: str, *, unlink: bool) -> object:
        """Take it out of every answer, and its file away where ``unlink`` is true."""


class RejectionLedger:
    """Which instances are rejected, on disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, note: Note, now: float) -> None:
        """Write down what a note rejects."""
        rows = [(one.sop_instance_uid, note.title.value, now) for one in note.references]
        with self._database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO rejected VALUES (?, ?, ?)", rows)

    def has(self, sop_instance_uid: str) -> bool:
        """Whether an instance is rejected."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM rejected WHERE sop_instance_uid = ?", (sop_instance_uid,)
            ).fetchone()
        return row is not None

    def among(self, sop_instance_uids: Sequence[str]) -> frozenset[str]:
        """Which of these instances are rejected."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT sop_instance_uid FROM rejected WHERE sop_instance_uid IN (SELECT value FROM json_each(?))",
                (json.dumps(sop_instance_uids),),
            )
            return frozenset(str(row[0]) for row in rows)

    def forget(self, sop_instance_uids: Iterable[str]) -> None:
        """Reject instances no longer."""
        with self._database.writing() as connection:
            connection.executemany("DELETE FROM rejected WHERE sop_instance_uid = ?", [(u,) for u in sop_instance_uids])


class RejectionReceiver:
    """Acts on rejection notes, and hands everything else on.

    Args:
        inner: the archive's receiver.
        permitted: whether a caller may reject.
    """

    def __init__(
        self,
        inner: Receiver,
        ledger: RejectionLedger,
        holdings: Holdings,
        delete: Delete,
        permitted: Callable[[Caller], bool],
        rules: Rules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._ledger = ledger
        self._holdings = holdings
        self._delete = delete
        self._permitted = permitted
        self._rules = rules
        self._clock = clock

    def begin(self, request: StoreRequest) -> Incoming:
        """Open a place for an instance, as :class:`~gateway.dimse.ports.Receiver` says.

        Raises:
            Refused: 0124H, it was rejected before, where such are refused.
        """
        if self._ledger.has(request.sop_instance_uid):
            return self._resent(request)
        if request.sop_class_uid == KEY_OBJECT_SELECTION:
            return _Spooled(lambda data: self._take(request, data))
        return self._inner.begin(request)

    def _resent(self, request: StoreRequest) -> Incoming:
        uid, then = request.sop_instance_uid, self._rules.on_resend
        if request.originator is not None and request.originator.aet == request.caller.called:
            then = OnResend.IGNORE  # we had its series moved to us, which is no wish to have it back
        _log.info("a rejected instance is stored again", sop_instance_uid=uid, then=then.value)
        match then:
            case OnResend.RESTORE:
                return _Restoring(self._inner.begin(request), lambda: self._ledger.forget([uid]))
            case OnResend.IGNORE:
                return _Spooled(lambda data: Status.SUCCESS)  # noqa: ARG005
            case OnResend.REFUSE:
                raise Refused("the instance was rejected", Status.NOT_AUTHORISED)

    def _take(self, request: StoreRequest, data: bytes) -> int:
        """Store a Key Object Selection, and act on it where it is a rejection note."""
        try:
            document = Attributes.decode(data, implicit=request.transfer_syntax_uid == _IMPLICIT)
            note = read_note(document)
        except MalformedDataset as error:
            raise BadInstance(f"the document cannot be read: {error.reason}") from error
        action = self._rules.actions.get(note.title, Action.IGNORE) if note else Action.IGNORE
        if note is None or action is Action.IGNORE:
            return self._store(request, data)
        self._check(note, request)
        status = self._store(request, data) if self._rules.keep_notes else Status.SUCCESS
        self._reject(note, action, request)
        return status

    def _store(self, request: StoreRequest, data: bytes) -> int:
        incoming = self._inner.begin(request)
        try:
            _write(incoming.fd, data)
        except OSError as error:
            incoming.abort()
            raise StorageError(f"the document cannot be written: {error.strerror}") from error
        return incoming.commit()

    def _check(self, note: Note, request: StoreRequest) -> None:
        if not self._permitted(request.caller):
            _log.warning("a rejection note from a peer that may not reject", title=note.title.name)
            raise Refused("this peer may not reject instances", Status.NOT_AUTHORISED)
        uids = [one.sop_instance_uid for one in note.references]
        classes = {one.sop_instance_uid: one.sop_class_uid for one in self._holdings(sop_uids=uids)}
        if any(classes.get(one.sop_instance_uid, one.sop_class_uid) != one.sop_class_uid for one in note.references):
            raise Refused("a rejected instance is of another SOP class", Status.DATASET_DOES_NOT_MATCH_SOP_CLASS)

    def _reject(self, note: Note, action: Action, request: StoreRequest) -> None:
        uids = [one.sop_instance_uid for one in note.references]
        self._ledger.add(note, self._clock())
        for uid in uids:
            self._delete(uid, unlink=action is Action.DELETE)
        metrics.REJECTED.labels(note.title.name.lower(), action.value).inc(len(uids))
        _log.warning("instances rejected", title=note.title.name, action=action.value, instances=len(uids),
                     note=request.sop_instance_uid)  # fmt: skip


class _Spooled:
    """An instance that is looked at before anything is done with it."""

    def __init__(self, take: Callable[[bytes], int]) -> None:
        self._take = take
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by commit() or abort()
        except OSError as error:
            raise StorageError(f"no temporary file: {error.strerror}") from error

    @property
    def fd(self) -> int:
        """Where the data set is written."""
        return self._file.fileno()

    def commit(self) -> int:
        """Take what has arrived."""
        with self._file as file:
            if file.seek(0, os.SEEK_END) > _LONGEST:
                raise BadInstance("the document is too long")
            file.seek(0)
            return self._take(file.read())

    def abort(self) -> None:
        """Forget it."""
        self._file.close()


class _Restoring:
    """A rejected instance that is stored again."""

    def __init__(self, inner: Incoming, restored: Callable[[], None]) -> None:
        self._inner = inner
        self._restored = restored

    @property
    def fd(self) -> int:
        """Where the data set is written."""
        return self._inner.fd

    def commit(self) -> int:
        """Store it, and reject it no longer."""
        status = self._inner.commit()
        self._restored()
        return status

    def abort(self) -> None:
        """Forget what has arrived."""
        self._inner.abort()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def permitted_peers(names: Sequence[str]) -> Callable[[Caller], bool]:
    """Permits callers that were recognised as one of these peers."""
    known = frozenset(names)
    return lambda caller: caller.peer in known

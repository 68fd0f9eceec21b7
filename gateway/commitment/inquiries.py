"""The ledger of what we asked of peers, and the evidence that others hold an instance.

An inquiry is bounded in number and age like a job. What peers committed is kept apart from it, one small row for each
instance and peer, until the instance is deleted: retention may look at it years after the inquiry was forgotten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.commitment import records
from gateway.commitment.database import Database
from gateway.commitment.inquiry import ENDED, WAITING, Event, State, step
from gateway.commitment.messages import CommitmentRequest, CommitmentResult, Reason
from gateway.commitment.records import Bounds, Decided
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.errors import Refused


@dataclass(frozen=True)
class Inquiry:
    """A transaction we asked of a peer.

    Attributes:
        peer: the peer's configured name, or empty.
        aet: its AE title.
        created: seconds since the epoch, as all times here.
        due: when it expires.
        note: why it was refused, for people.
        instances: how many it names.
    """

    transaction_uid: str
    peer: str
    aet: str
    state: State
    created: float
    updated: float
    due: float
    note: str
    instances: int


class InquiryLedger:
    """Inquiries and evidence on disk."""

    def __init__(self, database: Database, bounds: Bounds) -> None:
        self._database = database
        self._bounds = bounds

    def begin(self, request: CommitmentRequest, peer: Caller, now: float, timeout: float) -> None:
        """Write an inquiry down, before its N-ACTION is sent.

        Args:
            peer: who is asked: configured name and AE title.
            timeout: seconds until it expires without a report.

        Raises:
            Refused: 0131H, the Transaction UID is in use; 0213H, too many instances or unfinished inquiries.
            StorageError: the disk refused.
        """
        if len(request.references) > self._bounds.instances:
            raise Refused(f"more than {self._bounds.instances} instances", Status.RESOURCE_LIMITATION)
        with self._database.writing() as connection:
            records.make_room(connection, "scu", ENDED, self._bounds, now)
            records.insert(connection, "scu", request, peer, state=State.REQUESTING.value, now=now)
            connection.execute(
                "UPDATE commitment SET due = ? WHERE role = 'scu' AND transaction_uid = ?",
                (now + timeout, request.transaction_uid),
            )

    def apply(self, uid: str, event: Event, now: float, note: str = "") -> Inquiry:
        """Let something other than a report happen to an inquiry.

        Raises:
            UnknownTransaction: no such inquiry.
            NotPossible: not in its state.
        """
        with self._database.writing() as connection:
            return _step(connection, uid, event, now, note)[0]

    def report(self, result: CommitmentResult, now: float) -> tuple[Inquiry, bool]:
        """Take a peer's report.

        An instance we asked for that the report does not speak of counts as failed (0110H); one we did not ask for is
        ignored.

        Returns:
            The inquiry after it, and whether the report said anything new.

        Raises:
            UnknownTransaction: no such inquiry.
            StorageError: the disk refused; the peer has to report again.
        """
        uid = result.transaction_uid
        with self._database.writing() as connection:
            asked = [one.reference for one in records.instances(connection, "scu", uid)]
            reasons = {**dict.fromkeys(result.committed, 0), **result.failed}
            decided = [reasons.get(one, Reason.PROCESSING_FAILURE) for one in asked]
            inquiry, news = _step(connection, uid, Event.SOME_FAILED if any(decided) else Event.ALL_COMMITTED, now, "")
            if news:
                records.decide(connection, "scu", uid, decided)
                _keep_evidence(connection, inquiry, now)
            return inquiry, news

    def expire(self, now: float) -> list[Inquiry]:
        """End the inquiries whose time is over; returns them."""
        with self._database.reading() as connection:
            if not _overdue(connection, now):
                return []
        with self._database.writing() as connection:
            return [_step(connection, uid, Event.TIMEOUT, now, "no report in time")[0]
                    for uid in _overdue(connection, now)]  # fmt: skip

    def inquiry(self, uid: str) -> Inquiry:
        """One inquiry.

        Raises:
            UnknownTransaction: no such inquiry.
        """
        with self._database.reading() as connection:
            return _fetch(connection, uid)

    def inquiries(self, *, states: Iterable[State] = State, limit: int = 1000) -> list[Inquiry]:
        """Inquiries in some states, the newest first."""
        with self._database.reading() as connection:
            return [_inquiry(row) for row in records.newest(connection, "scu", states, limit)]

    def counts(self) -> dict[State, int]:
        """How many inquiries there are in each state."""
        with self._database.reading() as connection:
            found = records.counts(connection, "scu")
        return {state: found.get(state.value, 0) for state in State}

    def instances(self, uid: str) -> Sequence[Decided]:
        """The instances of an inquiry in the order of the request; empty for an unknown one."""
        with self._database.reading() as connection:
            return records.instances(connection, "scu", uid)

    def committed_elsewhere(self, sop_instance_uids: Iterable[str]) -> bool:
        """Whether each of these instances is committed by at least one peer; false for none at all."""
        wanted = set(sop_instance_uids)
        with self._database.reading() as connection:
            return bool(wanted) and all(
                connection.execute("SELECT 1 FROM evidence WHERE sop_instance_uid = ?", (uid,)).fetchone()
                for uid in wanted
            )


def _step(connection: sqlite3.Connection, uid: str, event: Event, now: float, note: str) -> tuple[Inquiry, bool]:
    after = step(_fetch(connection, uid).state, event)
    connection.execute(
        "UPDATE commitment SET state = ?, updated = ?, note = ? WHERE role = 'scu' AND transaction_uid = ?",
        (after.state.value, now, note, uid),
    )
    return _fetch(connection, uid), after.news


def _overdue(connection: sqlite3.Connection, now: float) -> list[str]:
    rows = connection.execute(
        "SELECT transaction_uid FROM commitment WHERE role = 'scu' AND due <= ?"
        " AND state IN (SELECT value FROM json_each(?))",
        (now, records.values(WAITING)),
    )
    return [row[0] for row in rows]


def _keep_evidence(connection: sqlite3.Connection, inquiry: Inquiry, now: float) -> None:
    """Evidence follows the last word: what a second, worse report takes back is no longer committed."""
    rows = records.instances(connection, "scu", inquiry.transaction_uid)
    connection.executemany(
        "DELETE FROM evidence WHERE sop_instance_uid = ? AND aet = ?",
        [(one.reference.sop_instance_uid, inquiry.aet) for one in rows if one.reason != 0],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?)",
        [(one.reference.sop_instance_uid, inquiry.aet, now) for one in rows if one.reason == 0],
    )


def _fetch(connection: sqlite3.Connection, uid: str) -> Inquiry:
    return _inquiry(records.fetch(connection, "scu", uid))


def _inquiry(row: sqlite3.Row) -> Inquiry:
    return Inquiry(
        row["transaction_uid"],
        row["peer"],
        row["aet"],
        State(row["state"]),
        row["created"],
        row["updated"],
        row["due"],
        row["note"],
        row["instances"],
    )

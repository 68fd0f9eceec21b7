"""The ledger of what peers asked of us: jobs, their instances, and who is working on them.

Every change of a job is one SQLite transaction around the table in :mod:`~gateway.commitment.job`, so that a pause from
the command line and a delivery in a worker cannot overwrite one another. A worker holds a job by a lease it renews; one
that died loses its jobs when their leases run out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.commitment import records
from gateway.commitment.database import Database
from gateway.commitment.job import ENDED, OPEN, Event, Progress, Retry, State, step
from gateway.commitment.messages import CommitmentRequest, CommitmentResult
from gateway.commitment.records import Bounds, Decided
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.errors import Refused

LEASE = 60.0
"""Seconds after which a job of a worker that no longer renews its lease is free."""

_WORK_ENDED = frozenset({Event.DELIVERED, Event.REJECTED, Event.FAILED})


@dataclass(frozen=True)
class Job:
    """A transaction a peer asked of us.

    Attributes:
        requester: who asked, and by which AE title it called us.
        created: seconds since the epoch, as all times here.
        answer: the status the requestor answered the report with, if it did.
        note: why the last attempt failed, for people.
        instances: how many it names.
    """

    transaction_uid: str
    requester: Caller
    progress: Progress
    created: float
    updated: float
    answer: int | None
    note: str
    instances: int

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.progress.state


class JobLedger:
    """Jobs on disk.

    Args:
        retry: how long a report is repeated.
    """

    def __init__(self, database: Database, bounds: Bounds, retry: Retry) -> None:
        self._database = database
        self._bounds = bounds
        self._retry = retry

    def accept(self, request: CommitmentRequest, requester: Caller, now: float, owner: str = "") -> None:
        """Write a request down; when this returns it survives a power cut.

        Args:
            owner: who holds the job from the beginning; nobody unless given.

        Raises:
            Refused: 0131H, the Transaction UID is in use; 0213H, too many instances or unfinished transactions.
            StorageError: the disk refused.
        """
        if len(request.references) > self._bounds.instances:
            raise Refused(f"more than {self._bounds.instances} instances", Status.RESOURCE_LIMITATION)
        with self._database.writing() as connection:
            records.make_room(connection, "scp", ENDED, self._bounds, now)
            records.insert(connection, "scp", request, requester, state=State.ACCEPTED.value, now=now)
            if owner:
                _hold(connection, request.transaction_uid, owner, now)

    def claim(self, owner: str, now: float) -> Job | None:
        """Take the job that is due longest; nobody else gets it until it is released or the lease runs out.

        A due time further ahead than the longest pause is a clock that was set back, and counts as due.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT transaction_uid FROM commitment WHERE role = 'scp'"
                " AND state IN (SELECT value FROM json_each(?)) AND (due <= ? OR due > ?)"
                " AND (owner = '' OR abs(leased - ?) > ?) ORDER BY due LIMIT 1",
                (records.values(OPEN), now, now + self._retry.longest, now, LEASE),
            ).fetchone()
            if row is None:
                return None
            _hold(connection, row[0], owner, now)
            return _fetch(connection, row[0])

    def renew(self, owner: str, uids: Sequence[str], now: float) -> None:
        """Renew the leases of the jobs a worker is working on."""
        with self._database.writing() as connection:
            connection.executemany(
                "UPDATE commitment SET leased = ? WHERE role = 'scp' AND transaction_uid = ? AND owner = ?",
                [(now, uid, owner) for uid in uids],
            )

    def release(self, uid: str, owner: str) -> None:
        """Give up the hold on a job without anything having happened to it."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE commitment SET owner = '' WHERE role = 'scp' AND transaction_uid = ? AND owner = ?",
                (uid, owner),
            )

    def recover(self) -> int:
        """Free what workers of an earlier run held, before any worker runs; returns how many jobs are open."""
        with self._database.writing() as connection:
            connection.execute("UPDATE commitment SET owner = '' WHERE role = 'scp' AND owner != ''")
        return sum(number for state, number in self.counts().items() if state in OPEN)

    def decide(self, uid: str, reasons: Iterable[int], now: float) -> Job:
        """Write down what became of each instance, in the order of the request.

        Raises:
            UnknownTransaction: no such job.
            NotPossible: not in its state.
        """
        with self._database.writing() as connection:
            records.decide(connection, "scp", uid, reasons)
            return self._step(connection, uid, Event.DECIDED, now, None, "")

    def apply(self, uid: str, event: Event, now: float, *, answer: int | None = None, note: str = "") -> Job:
        """Let something happen to a job.

        Raises:
            UnknownTransaction: no such job.
            NotPossible: not in its state.
        """
        with self._database.writing() as connection:
            return self._step(connection, uid, event, now, answer, note)

    def _step(
        self, connection: sqlite3.Connection, uid: str, event: Event, now: float, answer: int | None, note: str
    ) -> Job:
        after = step(_fetch(connection, uid).progress, event, now, self._retry)
        connection.execute(
            "UPDATE commitment SET state = ?, attempts = ?, due = ?, updated = ?, answer = coalesce(?, answer),"
            " note = ?, owner = iif(?, '', owner) WHERE role = 'scp' AND transaction_uid = ?",
            (after.state.value, after.attempts, after.due, now, answer, note, event in _WORK_ENDED, uid),
        )
        return _fetch(connection, uid)

    def job(self, uid: str) -> Job:
        """One job.

        Raises:
            UnknownTransaction: no such job.
        """
        with self._database.reading() as connection:
            return _fetch(connection, uid)

    def jobs(self, *, states: Iterable[State] = State, limit: int = 1000) -> list[Job]:
        """Jobs in some states, the newest first."""
        with self._database.reading() as connection:
            return [_job(row) for row in records.newest(connection, "scp", states, limit)]

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        with self._database.reading() as connection:
            found = records.counts(connection, "scp")
        return {state: found.get(state.value, 0) for state in State}

    def instances(self, uid: str) -> Sequence[Decided]:
        """The instances of a job in the order of the request; empty for an unknown one."""
        with self._database.reading() as connection:
            return records.instances(connection, "scp", uid)

    def result(self, uid: str) -> CommitmentResult:
        """What is to be reported of a decided job."""
        decided = self.instances(uid)
        return CommitmentResult(
            uid,
            tuple(one.reference for one in decided if one.reason == 0),
            {one.reference: one.reason for one in decided if one.reason},
        )


def _hold(connection: sqlite3.Connection, uid: str, owner: str, now: float) -> None:
    connection.execute(
        "UPDATE commitment SET owner = ?, leased = ? WHERE role = 'scp' AND transaction_uid = ?", (owner, now, uid)
    )


def _fetch(connection: sqlite3.Connection, uid: str) -> Job:
    return _job(records.fetch(connection, "scp", uid))


def _job(row: sqlite3.Row) -> Job:
    return Job(
        row["transaction_uid"],
        Caller(row["aet"], row["address"], row["peer"], row["called"]),
        Progress(State(row["state"]), row["attempts"], row["due"]),
        row["created"],
        row["updated"],
        row["answer"],
        row["note"],
        row["instances"],
    )

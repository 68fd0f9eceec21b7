"""What jobs and inquiries have in common on disk: a header, its instances, and bounds in number and age."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from gateway.commitment.messages import CommitmentRequest, Reference
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.errors import Refused

Role = Literal["scp", "scu"]
"""Ours in a transaction: ``scp`` for what a peer asked of us, ``scu`` for what we asked of a peer."""


@dataclass(frozen=True)
class Bounds:
    """How much the ledger keeps, of each role.

    Attributes:
        transactions: the oldest ended ones are forgotten first.
        age: in seconds since the last change, after which an ended transaction is forgotten.
        instances: of one transaction.
    """

    transactions: int = 10_000
    age: float = 30 * 86400.0
    instances: int = 100_000


@dataclass(frozen=True)
class Decided:
    """An instance of a transaction and what became of it.

    Attributes:
        reason: None while open, 0 when committed, else the Failure Reason.
    """

    reference: Reference
    reason: int | None


class UnknownTransaction(LookupError):
    """The ledger has no such transaction."""


def insert(
    connection: sqlite3.Connection, role: Role, request: CommitmentRequest, peer: Caller, *, state: str, now: float
) -> None:
    """Write down a new transaction, due now.

    Raises:
        Refused: 0131H, the Transaction UID is in use.
    """
    uid = request.transaction_uid
    if connection.execute("SELECT 1 FROM commitment WHERE role = ? AND transaction_uid = ?", (role, uid)).fetchone():
        raise Refused("the Transaction UID is in use", Status.DUPLICATE_TRANSACTION_UID)
    connection.execute(
        "INSERT INTO commitment VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, NULL, '', '', 0)",
        (role, uid, peer.peer, peer.aet, peer.address, peer.called, state, now, now, now),
    )
    connection.executemany(
        "INSERT INTO instance VALUES (?, ?, ?, ?, ?, NULL)",
        [(role, uid, i, one.sop_class_uid, one.sop_instance_uid) for i, one in enumerate(request.references)],
    )


def fetch(connection: sqlite3.Connection, role: Role, uid: str) -> sqlite3.Row:
    """The header of one transaction, with ``instances``, their number.

    Raises:
        UnknownTransaction: no such transaction.
    """
    row: sqlite3.Row | None = connection.execute(
        "SELECT c.*, (SELECT COUNT(*) FROM instance AS i WHERE i.role = c.role AND i.transaction_uid ="
        " c.transaction_uid) AS instances FROM commitment AS c WHERE role = ? AND transaction_uid = ?",
        (role, uid),
    ).fetchone()
    if row is None:
        raise UnknownTransaction(uid)
    return row


def newest(connection: sqlite3.Connection, role: Role, states: Iterable[Enum], limit: int) -> list[sqlite3.Row]:
    """The headers of the newest transactions in some states, as of :func:`fetch`."""
    return connection.execute(
        "SELECT c.*, (SELECT COUNT(*) FROM instance AS i WHERE i.role = c.role AND i.transaction_uid ="
        " c.transaction_uid) AS instances FROM commitment AS c WHERE role = ?"
        " AND state IN (SELECT value FROM json_each(?)) ORDER BY created DESC LIMIT ?",
        (role, values(states), limit),
    ).fetchall()


def counts(connection: sqlite3.Connection, role: Role) -> dict[str, int]:
    """How many transactions there are, by state; states without any are left out."""
    rows = connection.execute("SELECT state, COUNT(*) FROM commitment WHERE role = ? GROUP BY state", (role,))
    return {row[0]: row[1] for row in rows}


def instances(connection: sqlite3.Connection, role: Role, uid: str) -> list[Decided]:
    """The instances of a transaction in the order of its request."""
    rows = connection.execute(
        "SELECT sop_class_uid, sop_instance_uid, reason FROM instance WHERE role = ? AND transaction_uid = ?"
        " ORDER BY position",
        (role, uid),
    )
    return [Decided(Reference(row[0], row[1]), row[2]) for row in rows]


def decide(connection: sqlite3.Connection, role: Role, uid: str, reasons: Iterable[int]) -> None:
    """Write down what became of each instance, in the order of the request."""
    connection.executemany(
        "UPDATE instance SET reason = ? WHERE role = ? AND transaction_uid = ? AND position = ?",
        [(reason, role, uid, position) for position, reason in enumerate(reasons)],
    )


def make_room(connection: sqlite3.Connection, role: Role, ended: Iterable[Enum], bounds: Bounds, now: float) -> None:
    """Forget what is too old or too much, so that one more transaction fits.

    Raises:
        Refused: 0213H, the ledger is full of unfinished ones.
    """
    states = values(ended)
    old = connection.execute(
        "SELECT transaction_uid FROM commitment WHERE role = ? AND updated < ?"
        " AND state IN (SELECT value FROM json_each(?))",
        (role, now - bounds.age, states),
    ).fetchall()
    _forget(connection, role, old)
    held = connection.execute("SELECT COUNT(*) FROM commitment WHERE role = ?", (role,)).fetchone()[0]
    over = connection.execute(
        "SELECT transaction_uid FROM commitment WHERE role = ? AND state IN (SELECT value FROM json_each(?))"
        " ORDER BY updated LIMIT ?",
        (role, states, max(0, held - bounds.transactions + 1)),
    ).fetchall()
    _forget(connection, role, over)
    if held - len(over) >= bounds.transactions:
        raise Refused("too many unfinished transactions", Status.RESOURCE_LIMITATION)


def _forget(connection: sqlite3.Connection, role: Role, found: list[sqlite3.Row]) -> None:
    chosen = [(role, row[0]) for row in found]
    connection.executemany("DELETE FROM instance WHERE role = ? AND transaction_uid = ?", chosen)
    connection.executemany("DELETE FROM commitment WHERE role = ? AND transaction_uid = ?", chosen)


def values(states: Iterable[Enum]) -> str:
    """States as the JSON array that ``json_each`` takes."""
    return json.dumps([state.value for state in states])

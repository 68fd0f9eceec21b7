"""Retention: which studies a policy lets go, and why.

A policy is a list of rules; a study goes when all conditions of one rule hold. Nothing is chosen twice, nothing beyond
the bound of a run, and the oldest go first. Choosing is separate from deleting, so a dry run shows exactly what a run
does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Committed = Callable[[Sequence[str]], bool]
"""Whether each of these SOP Instance UIDs is committed by at least one other archive."""


@dataclass(frozen=True)
class Rule:
    """Conditions that must all hold; None is no condition.

    Attributes:
        received_before: age since the last instance was received.
        studied_before: age by Study Date; a study without one is never old enough.
        unused_for: age since the study was last retrieved, or received.
        free_below: bytes; the rule works only while less is free, and only until so much is free.
        only_committed: only when other archives have committed all instances.
    """

    received_before: timedelta | None = None
    studied_before: timedelta | None = None
    unused_for: timedelta | None = None
    free_below: int | None = None
    only_committed: bool = False


@dataclass(frozen=True)
class Policy:
    """Rules and how they are run.

    Attributes:
        every: between two runs by the service; None for runs by command only.
        most: studies deleted in one run at most.
    """

    rules: tuple[Rule, ...] = ()
    every: timedelta | None = None
    most: int = 1000


@dataclass(frozen=True)
class Doomed:
    """A study that is to go.

    Attributes:
        reason: the conditions that hold, with their values.
    """

    study_instance_uid: str
    instances: int
    size: int
    reason: str


_STUDIES = """SELECT t.uid, t.date, t.received, t.used, t.instances,
 (SELECT coalesce(sum(i.size), 0) FROM series s JOIN instance i ON i.series = s.id WHERE s.study = t.id)
FROM study t WHERE t.instances > 0 AND t.received < ? AND t.used < ? AND (? = '' OR (t.date <> '' AND t.date < ?))
ORDER BY max(t.received, t.used), t.id"""
_INSTANCES = (
    "SELECT i.uid FROM study t JOIN series s ON s.study = t.id JOIN instance i ON i.series = s.id WHERE t.uid = ?"
)
_EVER = 1e18


def choose(db: sqlite3.Connection, policy: Policy, now: float, free: int, committed: Committed) -> list[Doomed]:
    """What a run at ``now`` (seconds since the epoch) deletes, with ``free`` bytes free on the disk."""
    chosen: dict[str, Doomed] = {}
    for rule in policy.rules:
        for doomed in _by_rule(db, rule, now, free + sum(one.size for one in chosen.values()), committed):
            if len(chosen) >= policy.most:
                return list(chosen.values())
            if doomed.study_instance_uid not in chosen:
                chosen[doomed.study_instance_uid] = doomed
    return list(chosen.values())


def _by_rule(db: sqlite3.Connection, rule: Rule, now: float, free: int, committed: Committed) -> Iterator[Doomed]:
    received = now - rule.received_before.total_seconds() if rule.received_before else _EVER
    used = now - rule.unused_for.total_seconds() if rule.unused_for else _EVER
    date = ""
    if rule.studied_before:
        date = f"{datetime.fromtimestamp(now, UTC) - rule.studied_before:%Y%m%d}"
    for uid, studied, got, last_used, instances, size in db.execute(_STUDIES, (received, used, date, date)):
        if rule.free_below is not None and free >= rule.free_below:
            return
        if rule.only_committed and not committed([row[0] for row in db.execute(_INSTANCES, (uid,))]):
            continue
        free += size
        yield Doomed(uid, instances, size, _reason(rule, studied, got, last_used))


def _reason(rule: Rule, studied: str, received: float, used: float) -> str:
    said = []
    if rule.received_before:
        said.append(f"received {_day(received)}")
    if rule.studied_before:
        said.append(f"study date {studied[:4]}-{studied[4:6]}-{studied[6:8]}")
    if rule.unused_for:
        said.append(f"last used {_day(used)}")
    if rule.free_below is not None:
        said.append("disk space is short")
    if rule.only_committed:
        said.append("committed elsewhere")
    return ", ".join(said)


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def nowhere(sop_instance_uids: Sequence[str]) -> bool:  # noqa: ARG001
    """The answer where no commitment is known: nothing is committed elsewhere."""
    return False

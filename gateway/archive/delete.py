"""Deleting: hidden at once by one transaction, out of the DICOMDIR with the next publication, then off the disk.

Deleted instances become tombstones, and the entity that was named, with all below it, is marked to be made inactive.
Its parents stay until :func:`purge`, as with dcm4che's ``dcmdir``: deleting (``-d``), purging (``-p``) and
compacting (``-z``) are three steps.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gateway.archive import rows
from gateway.dicom.models import Level

_REMEMBERED = 100_000
_SERIES_OF = {
    Level.PATIENT: "SELECT s.id FROM series s JOIN study t ON t.id = s.study JOIN patient p ON p.id = t.patient"
    " WHERE p.patient_id = ?",
    Level.STUDY: "SELECT s.id FROM series s JOIN study t ON t.id = s.study WHERE t.uid = ?",
    Level.SERIES: "SELECT id FROM series WHERE uid = ?",
}
_GONE = {
    Level.PATIENT: (
        "UPDATE patient SET gone = 1 WHERE patient_id = ?",
        "UPDATE study SET gone = 1 WHERE patient IN (SELECT id FROM patient WHERE patient_id = ?)",
    ),
    Level.STUDY: ("UPDATE study SET gone = 1 WHERE uid = ?",),
    Level.SERIES: (),
}
_BURY = """INSERT INTO tombstone (series, uid, file_id, published, unlink)
SELECT series, uid, file_id, published > 0, ?1 FROM instance WHERE {which}
ON CONFLICT (file_id) DO NOTHING"""


@dataclass(frozen=True)
class Deleted:
    """What one deletion took away; all zero when there was nothing (any more).

    Attributes:
        studies: their Study Instance UIDs, for caches to forget.
        size: bytes of the files, as far as the index knows them.
    """

    instances: int = 0
    size: int = 0
    studies: tuple[str, ...] = ()


def delete(db: sqlite3.Connection, level: Level, uid: str, *, unlink: bool = True) -> Deleted:
    """Take an entity and all below it out of every answer, in the running transaction.

    Args:
        uid: of the entity; a Patient ID at PATIENT level.
        unlink: whether the files are to be removed, too.
    """
    if level is Level.IMAGE:
        series = {row[0] for row in db.execute("SELECT series FROM instance WHERE uid = ?", (uid,))}
        deleted = _bury(db, series, "uid = ?2", uid, unlink=unlink)
    else:
        series = {row[0] for row in db.execute(_SERIES_OF[level], (uid,))}
        deleted = _bury(db, series, f"series IN ({_SERIES_OF[level].replace('?', '?2')})", uid, unlink=unlink)
        for statement in _GONE[level]:
            db.execute(statement, (uid,))
        db.executemany("UPDATE series SET gone = 1 WHERE id = ?", [(one,) for one in series])
    rows.recount(db, series)
    db.executemany("INSERT INTO deleted (study) VALUES (?)", [(one,) for one in deleted.studies])
    db.execute("DELETE FROM deleted WHERE id <= (SELECT max(id) FROM deleted) - ?", (_REMEMBERED,))
    return deleted


def deleted_since(db: sqlite3.Connection, last: int) -> tuple[int, list[str]]:
    """The studies that deletions touched after entry ``last`` of their log, and the number of the newest entry."""
    found = db.execute("SELECT id, study FROM deleted WHERE id > ? ORDER BY id", (last,)).fetchall()
    return (found[-1][0] if found else last), [study for _, study in found]


def _bury(db: sqlite3.Connection, series: set[int], which: str, uid: str, *, unlink: bool) -> Deleted:
    count, size = db.execute(
        f"SELECT count(*), coalesce(sum(size), 0) FROM instance WHERE {which.replace('?2', '?')}", (uid,)
    ).fetchone()
    if not count:
        return Deleted()
    found = {
        row[0]
        for one in series
        for row in db.execute("SELECT t.uid FROM study t JOIN series s ON s.study = t.id WHERE s.id = ?", (one,))
    }
    db.execute(_BURY.format(which=which), (unlink, uid))
    db.execute(f"DELETE FROM instance WHERE {which.replace('?2', '?')}", (uid,))
    return Deleted(int(count), int(size), tuple(sorted(found)))


def purge(db: sqlite3.Connection) -> int:
    """Mark every parent without instances to be made inactive; how many there are."""
    marked = 0
    for table, count in (("series", "instances"), ("study", "instances"), ("patient", "studies")):
        marked += db.execute(f"UPDATE {table} SET gone = 1 WHERE gone = 0 AND {count} = 0").rowcount
    return marked

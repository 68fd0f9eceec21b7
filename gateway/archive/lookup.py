"""Studies and instances by their UIDs, for retrieves, commitment and whoever looks at one study."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.archive import fileid, find, heads
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import StoredInstance
from gateway.errors import BadInstance

_CHUNK = 10_000
_INSTANCES = (
    "SELECT p.patient_id, t.uid, s.uid, i.uid, i.sop_class, i.transfer_syntax, i.file_id, i.size, i.dataset_offset"
    " FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study"
    " JOIN patient p ON p.id = t.patient"
)
_POSITION = {"t.uid": 1, "s.uid": 2}


def studies(db: sqlite3.Connection, uids: Sequence[str]) -> dict[str, Attributes]:
    """The patient and study attributes of the studies that are here."""
    found: dict[str, Attributes] = {}
    for part in _parts(uids):
        rows = db.execute(
            "SELECT t.uid, p.attributes, t.attributes FROM study t JOIN patient p ON p.id = t.patient"
            f" WHERE t.instances > 0 AND t.uid IN ({_marks(part)})",
            part,
        )
        found.update({row[0]: find.patient_and_study(row[1:]) for row in rows})
    return found


def instances(
    db: sqlite3.Connection,
    root: Path,
    study_uids: Sequence[str],
    series_uids: Sequence[str],
    sop_uids: Sequence[str],
) -> list[StoredInstance]:
    """The stored instances that have one of the UIDs at each level that is named; none when none is named.

    An instance whose file is missing is among them with size 0.
    """
    named = [("i.uid", sop_uids), ("s.uid", series_uids), ("t.uid", study_uids)]
    wanted = [(column, uids) for column, uids in named if uids]
    if not wanted:
        return []
    column, uids = wanted[0]
    others = [(_POSITION[name], frozenset(values)) for name, values in wanted[1:]]
    found: list[StoredInstance] = []
    for part in _parts(uids):
        rows = db.execute(f"{_INSTANCES} WHERE {column} IN ({_marks(part)}) ORDER BY i.id", part)
        found.extend(_instance(root, row) for row in rows if all(row[at] in uids for at, uids in others))
    return found


def _instance(root: Path, row: tuple[str, str, str, str, str, str, str, int, int]) -> StoredInstance:
    patient, study, series, uid, sop_class, syntax, file_id, size, offset = row
    path = root / file_id
    if not offset:
        path, size, offset, syntax = _measured(root, file_id, syntax)
    return StoredInstance(patient, study, series, uid, sop_class, syntax, str(path), size, offset)


def _measured(root: Path, file_id: str, syntax: str) -> tuple[Path, int, int, str]:
    """Path, size, offset and syntax of an imported instance that nobody has looked at yet."""
    try:
        path = fileid.resolve(root, file_id)
        head = heads.read_head(path)
    except (fileid.BadFileID, FileNotFoundError, BadInstance):
        return root / "missing", 0, 0, syntax
    return path, head.size, head.dataset_offset, head.transfer_syntax_uid


def _parts(uids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(uids), _CHUNK):
        yield tuple(uids[start : start + _CHUNK])


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))

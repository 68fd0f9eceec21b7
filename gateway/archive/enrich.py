"""Filling in what a DICOMDIR does not say, from the heads of the object files, in small parts in the background.

Directory records carry a handful of keys. The files have the rest: the Patient, Study and Series modules, the image's
own attributes, size and place of the data set. What the records said stays; only what they lack, or have empty, is
added.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.archive import fileid, heads, rows
from gateway.archive.heads import Head
from gateway.archive.index import Index
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.models import Level
from gateway.errors import BadInstance

BARE, DONE, FAILED = 0, 1, 2
_NEXT = "SELECT id, series, uid, file_id, attributes FROM instance WHERE enriched = 0 ORDER BY id LIMIT ?"
_ABOVE = """SELECT s.attributes, t.id, t.attributes, p.id, p.attributes FROM series s JOIN study t ON t.id = s.study
JOIN patient p ON p.id = t.patient WHERE s.id = ?"""

Found = tuple[int, int, bytes, Head]


def enrich(index: Index, root: Path, most: int) -> int:
    """Look at up to ``most`` files that nobody has looked at; how many there were.

    Raises:
        StorageError: the index or the disk refuses.
    """
    with index.read() as db:
        bare = db.execute(_NEXT, (most,)).fetchall()
    if not bare:
        return 0
    found: list[Found] = []
    failed: list[tuple[int, str, str]] = []
    for instance, series, uid, file_id, blob in bare:
        try:
            head = heads.read_head(fileid.resolve(root, file_id))
        except FileNotFoundError:
            failed.append((instance, file_id, "the file is missing"))
            continue
        except (fileid.BadFileID, BadInstance) as error:
            failed.append((instance, file_id, str(error)))
            continue
        if head.attributes.text(tags.SOPInstanceUID) != uid:
            failed.append((instance, file_id, "the file is another instance"))
        else:
            found.append((instance, series, blob, head))
    with index.write() as db:
        _keep(db, found)
        db.executemany("UPDATE instance SET enriched = ? WHERE id = ?", [(FAILED, one) for one, _, _ in failed])
        db.executemany(
            "INSERT OR REPLACE INTO quarantine (place, reason) VALUES (?, ?)",
            [(f"file {file_id}", reason) for _, file_id, reason in failed],
        )
    return len(bare)


def _keep(db: sqlite3.Connection, found: list[Found]) -> None:
    seen: set[int] = set()
    for instance, series, blob, head in found:
        mine = _filled(blob, head.of(Level.IMAGE))
        db.execute(
            "UPDATE instance SET enriched = ?, size = ?, dataset_offset = ?, transfer_syntax = ?,"
            " sop_class = iif(sop_class = '', ?, sop_class), attributes = ? WHERE id = ?",
            (DONE, head.size, head.dataset_offset, head.transfer_syntax_uid, head.attributes.text(tags.SOPClassUID),
             mine, instance),
        )  # fmt: skip
        if series not in seen:
            seen.add(series)
            _keep_above(db, series, head)


def _keep_above(db: sqlite3.Connection, series: int, head: Head) -> None:
    """The first file of a series speaks for the series, its study and its patient."""
    row = db.execute(_ABOVE, (series,)).fetchone()
    if row is None:
        return
    series_blob, study, study_blob, patient, patient_blob = row
    filled = _filled(series_blob, head.of(Level.SERIES))
    if filled != series_blob:
        db.execute("UPDATE series SET attributes = ? WHERE id = ?", (filled, series))
    filled = _filled(study_blob, head.of(Level.STUDY))
    if filled != study_blob:
        columns = rows.study_columns(Attributes.decode(filled, implicit=False))
        db.execute(
            "UPDATE study SET date = ?, time = ?, accession = ?, study_id = ?, attributes = ? WHERE id = ?",
            (*columns, filled, study),
        )
    filled = _filled(patient_blob, head.of(Level.PATIENT).without([tags.PatientID]))
    if filled != patient_blob:
        db.execute("UPDATE patient SET attributes = ? WHERE id = ?", (filled, patient))
        rows.name_patient(db, patient, Attributes.decode(filled, implicit=False))


def _filled(blob: bytes, more: Attributes) -> bytes:
    """Known attributes with what they lack, or have empty, taken from ``more``."""
    try:
        known = Attributes.decode(blob, implicit=False)
    except MalformedDataset:
        return more.encode(implicit=False)
    empty = [tag for tag in known if not known[tag].value and tag in more]
    missing = [tag for tag in more if tag not in known]
    if not empty and not missing:
        return blob
    return more.overlay(known.without(empty)).encode(implicit=False)

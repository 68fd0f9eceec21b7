"""Writing a DICOMDIR anew: the records in use of any other, in our layout, one for each entity."""

from __future__ import annotations

from pathlib import Path

from gateway.archive import canvas
from gateway.archive.canvas import Canvas
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.layout import Record
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, MalformedDataset

_KEYS = {"PATIENT": tags.PatientID, "STUDY": tags.StudyInstanceUID, "SERIES": tags.SeriesInstanceUID}


def rewritten(source: Path, target: Path) -> dict[int, int]:
    """Write what is in use in ``source`` to ``target``; where each PATIENT, STUDY and SERIES went.

    Other programs write a second record for a patient they do not find, or the same instance twice. The first one is
    kept, as the index does, and takes what hangs on the others.

    Raises:
        StorageError: the result would pass 2 GiB.
        OSError: the disk refuses.
    """
    with Dicomdir(source) as old:
        target.write_bytes(canvas.blank(old.file_set_id))
        drawing = Canvas(target)
        try:
            moved = _copy(old, drawing)
        except BaseException:
            drawing.abandon()
            raise
        drawing.finish()
    return moved


def _copy(old: Dicomdir, drawing: Canvas) -> dict[int, int]:
    moved: dict[int, int] = {}
    entities: dict[tuple[str, str], int] = {}
    instances: set[str] = set()
    above: list[int] = []
    for depth, record in old.records():
        del above[depth:]
        key = _key(record)
        at = entities.get(key) if key else None
        if at is None:
            if record.sop_instance_uid and record.sop_instance_uid in instances:
                above.append(0)
                continue
            at = drawing.append(above[-1] if above else 0, record.body)
        above.append(at)
        if record.file_id:
            instances.add(record.sop_instance_uid)
        else:
            moved[record.offset] = at
            if key:
                entities[key] = at
    return moved


def _key(record: Record) -> tuple[str, str] | None:
    """What makes a record the same entity's as another; None for those that are only themselves."""
    tag = _KEYS.get(record.type)
    if tag is None:
        return None
    try:
        value = Attributes.decode(record.attributes, implicit=False).text(tag)
    except MalformedDataset:
        return None
    return (record.type, value) if value else None

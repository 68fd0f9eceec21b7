"""What other tools read in the DICOMDIR after each kind of change, and how their changes come in."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pydicom
import pytest

from gateway.archive import canvas, publish
from gateway.archive.canvas import Canvas
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.local import LocalArchive
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.models import Level, Model
from gateway.query.ports import Request
from tests.support.waiting import wait_until

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


def published(archive: LocalArchive) -> list[str]:
    """SOP Instance UIDs in use, as our own reader sees them."""
    with Dicomdir(archive.dicomdir) as source:
        found = [record.sop_instance_uid for _, record in source.records() if record.file_id]
        assert source.quarantined == []
        assert source.appendable
    return sorted(found)


def by_pydicom(dicomdir: Path) -> list[str]:
    """The same by pydicom's reader, following the offsets."""
    read = pydicom.dcmread(dicomdir)
    records = {record.seq_item_tell: record for record in read.DirectoryRecordSequence}
    found: list[str] = []
    stack = [read.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity]
    while stack:
        record = records.get(stack.pop())
        if record is None:
            continue
        stack.append(record.OffsetOfTheNextDirectoryRecord)
        if record.RecordInUseFlag:
            stack.append(record.OffsetOfReferencedLowerLevelDirectoryEntity)
            if "ReferencedSOPInstanceUIDInFile" in record:
                found.append(record.ReferencedSOPInstanceUIDInFile)
    return sorted(found)


def by_dcmdump(dicomdir: Path) -> list[str]:
    """All instance records, inactive ones included, by DCMTK, which complains of what it does not like."""
    run = subprocess.run(["dcmdump", "+P", "0004,1511", dicomdir], capture_output=True, text=True, check=True)
    assert "E:" not in run.stderr
    assert "W:" not in run.stderr
    return sorted(line.split("[")[1].split("]")[0] for line in run.stdout.splitlines())


def in_index(archive: LocalArchive) -> list[str]:
    query = Query(Model.PATIENT_ROOT, Level.IMAGE, Attributes.of({"SOPInstanceUID": ""}), Negotiated(relational=True))
    return sorted(one.text(tags.SOPInstanceUID) for one in archive.find(Request(query, Caller("ASKER"))))


def on_disk(archive: LocalArchive) -> int:
    return len([one for one in (archive.root / "DICOM").rglob("*") if one.is_file()])


@pytest.fixture
def filled(archive: LocalArchive, make: Make, store: Send) -> LocalArchive:
    """2 patients, 2 studies each, 2 series each, 2 instances each: 16, published."""
    for patient in (1, 2):
        for study in (1, 2):
            for series in (1, 2):
                for number in (1, 2):
                    store(archive, make(patient, study, series, number))
    archive.sync()
    return archive


def needs(tool: str) -> None:
    if shutil.which(tool) is None and os.environ.get("GATEWAY_PEERS") != "required":
        pytest.skip(f"{tool} is not installed")


def test_a_new_archive_publishes_an_empty_dicomdir(archive: LocalArchive) -> None:
    assert published(archive) == []
    assert len(pydicom.dcmread(archive.dicomdir).DirectoryRecordSequence) == 0


def test_stored_instances_are_published_for_every_reader(filled: LocalArchive) -> None:
    expected = in_index(filled)
    assert len(expected) == 16
    assert published(filled) == expected
    assert by_pydicom(filled.dicomdir) == expected


@pytest.mark.peers
def test_dcmtk_reads_what_was_published_and_extends_it(filled: LocalArchive, make: Make, store: Send) -> None:
    needs("dcmmkdir")
    assert by_dcmdump(filled.dicomdir) == in_index(filled)
    store(filled, make(3))
    filled.sync()
    assert by_dcmdump(filled.dicomdir) == in_index(filled)


def test_batches_extend_the_same_patients_studies_and_series(filled: LocalArchive, make: Make, store: Send) -> None:
    store(filled, make(1, 1, 1, 3))
    store(filled, make(1, 3))
    filled.sync()
    store(filled, make(1, 1, 1, 4))
    filled.sync()
    assert published(filled) == in_index(filled)
    read = pydicom.dcmread(filled.dicomdir)
    assert [one.DirectoryRecordType for one in read.DirectoryRecordSequence].count("PATIENT") == 2


def test_an_open_reader_keeps_the_old_file(filled: LocalArchive, make: Make, store: Send) -> None:
    with Dicomdir(filled.dicomdir) as source:
        store(filled, make(3))
        filled.sync()
        assert len([1 for _, record in source.records() if record.file_id]) == 16


def test_nothing_is_published_when_nothing_changed(filled: LocalArchive) -> None:
    before = filled.dicomdir.stat()
    filled.sync()
    assert filled.dicomdir.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("level", "uid", "left"),
    [
        (Level.PATIENT, "P1", 8),
        (Level.STUDY, "1.2.3.1.1", 12),
        (Level.SERIES, "1.2.3.1.1.1", 14),
        (Level.IMAGE, "1.2.3.1.1.1.1", 15),
    ],
)
def test_a_deleted_entity_is_gone_everywhere(filled: LocalArchive, level: Level, uid: str, left: int) -> None:
    deleted = filled.delete(level, uid)
    assert deleted.instances == 16 - left
    assert len(in_index(filled)) == left
    filled.sync()
    assert published(filled) == by_pydicom(filled.dicomdir) == in_index(filled)
    assert on_disk(filled) == left
    assert filled.delete(level, uid).instances == 0


@pytest.fixture
def patient_compaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inactive records stay as long as in a DICOMDIR of a million instances."""
    monkeypatch.setattr(publish, "SMALL", 0)


def test_a_small_dicomdir_has_no_inactive_records_for_long(filled: LocalArchive) -> None:
    filled.delete(Level.STUDY, "1.2.3.1.1")
    filled.sync()
    assert [one.RecordInUseFlag for one in pydicom.dcmread(filled.dicomdir).DirectoryRecordSequence] == [0xFFFF] * 23


def test_purge_takes_out_what_has_no_instances(filled: LocalArchive) -> None:
    for number in (1, 2):
        filled.delete(Level.IMAGE, f"1.2.3.1.1.1.{number}")
    filled.sync()
    with Dicomdir(filled.dicomdir) as source:
        assert [record.type for _, record in source.records()].count("SERIES") == 8
    assert filled.purge() == 1
    with Dicomdir(filled.dicomdir) as source:
        assert [record.type for _, record in source.records()].count("SERIES") == 7
    assert published(filled) == in_index(filled)


@pytest.mark.usefixtures("patient_compaction")
def test_compact_leaves_no_inactive_record(filled: LocalArchive) -> None:
    filled.delete(Level.SERIES, "1.2.3.1.1.1")
    filled.sync()
    assert len(pydicom.dcmread(filled.dicomdir).DirectoryRecordSequence) == 2 * (1 + 2 + 4 + 8)
    size = filled.dicomdir.stat().st_size
    filled.compact()
    read = pydicom.dcmread(filled.dicomdir)
    assert len(read.DirectoryRecordSequence) == 2 * (1 + 2 + 4 + 8) - 3
    assert filled.dicomdir.stat().st_size < size
    assert published(filled) == in_index(filled)


def test_a_deleted_study_can_be_stored_again(filled: LocalArchive, make: Make, store: Send) -> None:
    filled.delete(Level.STUDY, "1.2.3.1.1")
    store(filled, make(1, 1, 1, 1))
    filled.sync()
    assert published(filled) == in_index(filled)
    assert "1.2.3.1.1.1.1" in published(filled)
    store(filled, make(1, 1, 1, 2))
    filled.sync()
    filled.compact()
    assert published(filled) == in_index(filled)
    assert on_disk(filled) == len(in_index(filled))


def test_many_inactive_records_go_by_themselves(filled: LocalArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "SMALL", 0)
    filled.delete(Level.PATIENT, "P1")
    filled.sync()
    assert len(pydicom.dcmread(filled.dicomdir).DirectoryRecordSequence) == 1 + 2 + 4 + 8


def test_compacting_keeps_the_places_of_records(filled: LocalArchive, make: Make, store: Send) -> None:
    filled.delete(Level.STUDY, "1.2.3.1.1")
    filled.compact()
    store(filled, make(1, 2, 1, 3))
    filled.sync()
    assert published(filled) == in_index(filled)
    assert [r.DirectoryRecordType for r in pydicom.dcmread(filled.dicomdir).DirectoryRecordSequence].count("STUDY") == 3


def change(dicomdir: Path, work: Callable[[Canvas], None]) -> None:
    """Change a DICOMDIR as another program does: beside us, and by a new file in its place."""
    copy = dicomdir.with_name("OTHER")
    shutil.copyfile(dicomdir, copy)
    drawing = Canvas(copy)
    work(drawing)
    drawing.finish()
    copy.rename(dicomdir)


def test_an_instance_that_another_program_made_inactive_is_no_answer(filled: LocalArchive) -> None:
    def hide(drawing: Canvas) -> None:
        patient = drawing.children(0)[0]
        study = drawing.children(patient)[0]
        series = drawing.children(study)[0]
        drawing.deactivate(drawing.children(series)[0])

    change(filled.dicomdir, hide)
    filled.sync()
    assert len(in_index(filled)) == 15
    assert published(filled) == in_index(filled)
    assert on_disk(filled) == 16


def test_a_foreign_change_is_merged_with_what_was_not_published_yet(
    filled: LocalArchive, make: Make, store: Send
) -> None:
    store(filled, make(3))
    filled.delete(Level.STUDY, "1.2.3.2.2")
    change(filled.dicomdir, lambda drawing: drawing.deactivate(drawing.children(0)[0]))
    filled.sync()
    assert in_index(filled) == published(filled)
    assert len(in_index(filled)) == 16 - 8 - 4 + 1


def test_a_lost_dicomdir_is_written_anew_from_the_index(filled: LocalArchive) -> None:
    filled.dicomdir.unlink()
    filled.sync()
    assert len(published(filled)) == 16


def test_a_dicomdir_cut_short_takes_nothing_out_of_the_index(filled: LocalArchive) -> None:
    whole = filled.dicomdir.read_bytes()
    filled.dicomdir.write_bytes(whole[: len(whole) // 2])
    filled.sync()
    assert len(in_index(filled)) == 16


@pytest.mark.peers
def test_dcmmkdir_adds_an_instance_while_the_gateway_runs(filled: LocalArchive, make: Make, store: Send) -> None:
    needs("dcmmkdir")
    other = LocalArchive(filled.root.parent / "other" / "DICOMDIR")
    other.prepare()
    store(other, make(3, StudyID="1"))
    (stored,) = other.instances(sop_uids=["1.2.3.3.1.1.1"])
    (filled.root / "NEW").mkdir()
    shutil.copyfile(stored.path, filled.root / "NEW" / "IM1")
    subprocess.run(["dcmmkdir", "+A", "+I", "-W", "-Nxc", "NEW/IM1"], cwd=filled.root, check=True, capture_output=True)
    filled.sync()
    assert len(in_index(filled)) == 17
    store(filled, make(3, number=2))
    filled.sync()
    assert published(filled) == by_dcmdump(filled.dicomdir) == in_index(filled)
    assert len(in_index(filled)) == 18


def test_the_background_publishes_and_tells_of_deletions(tmp_path: Path, make: Make, store: Send) -> None:
    told: list[str] = []
    heard = Event()

    def hear(studies: Sequence[str]) -> None:
        told.extend(studies)
        heard.set()

    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", publish_delay=0.02)
    archive.prepare()
    archive.on_deleted(hear)
    archive.start()
    store(archive, make())
    second = LocalArchive(tmp_path / "files" / "DICOMDIR")
    second.delete(Level.STUDY, "1.2.3.1.1")
    assert heard.wait(10)
    assert told == ["1.2.3.1.1"]
    store(archive, make(2))
    archive.close()
    assert published(archive) == ["1.2.3.2.1.1.1"]
    second.close()


def test_a_process_that_stores_all_the_time_publishes_if_nobody_else_does(
    tmp_path: Path, make: Make, store: Send
) -> None:
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", publish_delay=0.05)
    archive.prepare()
    archive.start()
    numbers = itertools.count(1)

    def publishes() -> bool:
        for _ in range(5):
            store(archive, make(number=next(numbers)))
        return len(published(archive)) > 10

    wait_until(publishes, "what came while more was coming is published", seconds=30)
    archive.close()


def test_a_blank_dicomdir_has_its_own_identity() -> None:
    assert canvas.blank() != canvas.blank()

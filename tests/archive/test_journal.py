"""The journal: what it makes durable comes back after the disk has lost everything else that was not synced.

``lose`` stands for the power cut: the index goes back to what it was, files vanish, shrink or are rubbish, and only the
journal is as it was synced. ``test_power_cut`` has real ones.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from gateway.archive import runs
from gateway.archive.journal import Journal, JournalFull
from gateway.archive.local import LocalArchive
from gateway.archive.runs import Body, Run
from gateway.archive.store import OnConflict
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.errors import StorageError
from gateway.metrics import REGISTRY
from tests.support.waiting import wait_until

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]
SIZE = 2 << 20
IDENTITY = b"i" * 16


def journaled() -> float:
    return REGISTRY.get_sample_value("dicom_gateway_archive_journaled_total", {"outcome": "journaled"}) or 0


def opened(folder: Path, size: int = SIZE, **options: Any) -> LocalArchive:
    archive = LocalArchive(folder / "files" / "DICOMDIR", journal_bytes=size, **options)
    archive.prepare()
    return archive


def warmed(folder: Path, make: Make, store: Send, **options: Any) -> LocalArchive:
    """An archive whose journal takes the next instance."""
    archive = opened(folder, **options)
    store(archive, make(9, number=1))
    numbers = iter(range(2, 1000))

    def taken() -> bool:
        before = journaled()
        store(archive, make(9, number=next(numbers)))
        return journaled() > before

    wait_until(taken, "the journal takes an instance")
    return archive


def lose(folder: Path, index: bytes, after: Path) -> Path:
    """What is left after a power cut that took back all but the journal: a copy whose index is of before."""
    shutil.copytree(folder / "files", after / "files", ignore=shutil.ignore_patterns(".incoming"))
    (after / "files.index").mkdir()
    (after / "files.index" / "index.sqlite").write_bytes(index)
    for path in (folder / "files.index").glob("index.sqlite.journal-*"):
        shutil.copy(path, after / "files.index")
    return after


def snapshot(folder: Path) -> bytes:
    """The index as a checkpoint would leave it."""
    with sqlite3.connect(folder / "files.index" / "index.sqlite") as db, sqlite3.connect(":memory:") as copy:
        db.backup(copy)
        return bytes(copy.serialize())


def content(archive: LocalArchive, uid: str) -> bytes:
    (one,) = archive.instances(sop_uids=[uid])
    return Path(one.path).read_bytes()[one.dataset_offset :]


def test_what_was_acknowledged_comes_back(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    index = snapshot(folder)
    made = [make(1, study, number=number) for study in (1, 2) for number in range(1, 9)]
    assert {store(archive, one) for one in made} == {Status.SUCCESS}
    after = lose(folder, index, tmp_path / "after")
    files = [Path(one.path) for one in archive.instances(study_uids=["1.2.3.1.1", "1.2.3.1.2"])]
    for at, path in enumerate(after / one.relative_to(folder) for one in files):
        match at % 4:
            case 0:
                path.unlink()
            case 1:
                os.truncate(path, 0)
            case 2:
                path.write_bytes(bytes(path.stat().st_size))
    shutil.rmtree(after / files[-1].parents[1].relative_to(folder))
    archive.close()
    again = opened(after)
    for request, data in made:
        assert content(again, request.sop_instance_uid) == data
    assert again.verify() == []
    (study,) = [one for one in again.listing() if one.study_instance_uid == "1.2.3.1.2"]
    assert study.instances == 8
    again.close()
    assert not any(runs._begun(os.open(one, os.O_RDONLY)) for one in (after / "files.index").glob("*.journal-*"))


def test_what_was_deleted_stays_deleted(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    for number in range(1, 7):
        store(archive, make(number=number))
    archive.delete(Level.IMAGE, "1.2.3.1.1.1.2")
    archive.delete(Level.IMAGE, "1.2.3.1.1.1.3")
    archive.sync()
    assert store(archive, make(number=3, PatientComments="anew")) == Status.SUCCESS
    archive.delete(Level.STUDY, "1.2.3.9.1")
    after = lose(folder, snapshot(folder), tmp_path / "after")
    archive.close()
    again = opened(after)
    assert again.instances(sop_uids=["1.2.3.1.1.1.2"]) == []
    assert again.instances(study_uids=["1.2.3.9.1"]) == []
    assert content(again, "1.2.3.1.1.1.3") == make(number=3, PatientComments="anew")[1]
    assert len(again.instances(study_uids=["1.2.3.1.1"])) == 5
    again.purge()
    assert again.verify() == []
    again.close()


def test_the_last_of_several_contents_comes_back(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store, on_conflict=OnConflict.REPLACE)
    index = snapshot(folder)
    for text in ("first", "second", "third"):
        assert store(archive, make(PatientComments=text)) == Status.SUCCESS
    after = lose(folder, index, tmp_path / "after")
    archive.close()
    again = opened(after, on_conflict=OnConflict.REPLACE)
    assert content(again, "1.2.3.1.1.1.1") == make(PatientComments="third")[1]
    again.sync()
    assert again.verify() == []
    again.close()


def test_putting_back_twice_is_putting_back_once(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    index = snapshot(folder)
    store(archive, make())
    after = lose(folder, index, tmp_path / "after")
    kept = {one: one.read_bytes() for one in (after / "files.index").glob("*.journal-*")}
    archive.close()
    opened(after).close()
    for path, data in kept.items():  # as if killed before the journals were cleared
        path.write_bytes(data)
    again = opened(after)
    assert content(again, "1.2.3.1.1.1.1") == make()[1]
    assert len(again.instances(study_uids=["1.2.3.1.1"])) == 1
    assert again.verify() == []
    again.close()


def test_a_journal_of_another_index_is_left_alone(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    store(archive, make())
    after = lose(folder, b"", tmp_path / "after")
    (after / "files.index" / "index.sqlite").unlink()
    shutil.rmtree(after / "files")
    archive.close()
    again = opened(after)
    assert again.listing() == []
    again.close()


def test_more_than_both_runs_hold_is_durable_as_well(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    before = journaled()
    made = [make(number=number, PatientComments="x" * 9000) for number in range(1, 300)]
    assert {store(archive, one) for one in made} == {Status.SUCCESS}
    assert journaled() > before
    after = lose(folder, snapshot(folder), tmp_path / "after")
    archive.close()
    again = opened(after)
    assert len(again.instances(study_uids=["1.2.3.1.1"])) == 299
    assert again.verify() == []
    again.close()


def test_a_large_instance_stays_in_its_place_and_its_row_comes_back(tmp_path: Path, make: Make, store: Send) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    index, before = snapshot(folder), journaled()
    made = [make(number=1), make(number=2)]
    made = [(request, data + b"\xfc\xff\xfc\xffOB\0\0\0\0\1\0" + bytes(1 << 16)) for request, data in made]
    made[1] = (made[1][0], made[1][1] + b"\xfc\xff\xfc\xffOB\0\0\0\0\4\0" + bytes(1 << 18))
    for one in made:
        assert store(archive, one) == Status.SUCCESS
    assert journaled() == before + 2
    after = lose(folder, index, tmp_path / "after")
    archive.close()
    again = opened(after)
    for request, data in made:
        assert content(again, request.sop_instance_uid) == data
    assert again.verify() == []
    again.close()


def test_a_large_file_that_the_disk_has_lost_is_told(
    tmp_path: Path, make: Make, store: Send, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "before"
    archive = warmed(folder, make, store)
    index = snapshot(folder)
    request, data = make()
    assert store(archive, (request, data + b"\xfc\xff\xfc\xffOB\0\0\0\0\4\0" + bytes(1 << 18))) == Status.SUCCESS
    (lost,) = archive.instances(sop_uids=[request.sop_instance_uid])
    after = lose(folder, index, tmp_path / "after")
    os.truncate(after / Path(lost.path).relative_to(folder), 5000)
    archive.close()
    again = opened(after)
    assert "a synced file is not what it was" in caplog.text
    assert again.instances(sop_uids=[request.sop_instance_uid]) == []
    again.close()


# -- runs by themselves ------------------------------------------------------------------------------------------------


def body(text: bytes) -> Body:
    return Body(len(text), text, xxh3_64_intdigest(text))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    one = Run.claim(tmp_path / "j", 1 << 16)
    one.begin(IDENTITY)
    return one


def test_a_run_tells_what_was_appended(run: Run) -> None:
    for number in range(1, 4):
        assert run.append(number, f"1.{number}", f"A/{number}", body(b"x" * 5000 * number))
    found = list(run.entries())
    assert [(one.row, one.sop_instance_uid, one.file_id, one.read()) for one in found] == [
        (number, f"1.{number}", f"A/{number}", b"x" * 5000 * number) for number in range(1, 4)
    ]
    assert run.append(4, "1.4", "A/4", body(bytes(20_000))) is None


def test_a_record_made_void_means_nothing_and_hides_none(run: Run) -> None:
    run.append(1, "1.1", "A/1", body(b"one"))
    second = run.append(2, "1.2", "A/2", body(b"two"))
    run.append(3, "1.3", "A/3", body(b"three"))
    assert second
    run.void(second)
    assert [one.row for one in run.entries()] == [1, 0, 3]


@pytest.mark.parametrize("at", [0, 4096, 4096 + 60, 8192, 8193])
def test_a_torn_record_ends_a_run(run: Run, at: int) -> None:
    run.append(1, "1.1", "A/1", body(b"some bytes"))
    data = bytearray(run.path.read_bytes())
    data[at] ^= 1
    run.path.write_bytes(data)
    assert list(run.entries()) == []


def test_what_a_run_held_before_is_forgotten(run: Run) -> None:
    for number in (1, 2):
        run.append(number, "1.1", "A/1", body(b"some bytes"))
    run.begin(IDENTITY)
    run.append(3, "1.3", "A/3", body(b"new"))
    assert [one.row for one in run.entries()] == [3]


def test_two_processes_never_share_a_run(tmp_path: Path) -> None:
    first, second = Run.claim(tmp_path / "j", 8192), Run.claim(tmp_path / "j", 8192)
    assert first.path != second.path
    first.end()
    assert Run.claim(tmp_path / "j", 8192).path == first.path


def test_a_disk_that_failed_gets_the_files_once_more(tmp_path: Path) -> None:
    failures = [True]
    anew: list[list[int]] = []

    def bring_out() -> None:
        if failures:
            failures.pop()
            raise OSError(5, "Input/output error")

    one = Journal(
        tmp_path / "j", 1 << 16, 0, lambda: IDENTITY, bring_out, lambda found: anew.append([e.row for e in found])
    )
    source = tmp_path / "file"
    source.write_bytes(bytes(4096))
    fd = os.open(source, os.O_RDONLY)
    wait_until(lambda: one.body(fd, 4096) is not None, "the journal is open")
    found = one.body(fd, 4096)
    assert found
    row = 0
    while not anew:
        row += 1
        try:
            one.append(row, "1.1", "A/1", found)
        except JournalFull:
            row -= 1
    assert anew == [[1, 2, 3]]
    os.close(fd)
    one.close()


def test_a_journal_that_cannot_be_brought_out_stays(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(5, "Input/output error")

    one = Journal(tmp_path / "j", 1 << 16, 0, lambda: IDENTITY, refuse, lambda _: None)
    source = tmp_path / "file"
    source.write_bytes(bytes(4096))
    fd = os.open(source, os.O_RDONLY)
    wait_until(lambda: one.body(fd, 4096) is not None, "the journal is open")
    found = one.body(fd, 4096)
    assert found
    written = one.append(1, "1.1", "A/1", found)
    with pytest.raises(StorageError):
        one.close()
    path = written.run.path
    assert [e.row for e in runs.entries(path, os.open(path, os.O_RDONLY), IDENTITY)] == [1]


def test_a_disk_without_room_is_not_filled(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match="No space"):
        Run.claim(tmp_path / "j", 1 << 16, free)
    assert list(tmp_path.iterdir()) == []

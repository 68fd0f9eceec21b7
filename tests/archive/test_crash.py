"""Kill -9, a full disk, and two writers at once."""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.verify import Kind
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.errors import StorageError

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]
ROOT = Path(__file__).parents[2]


def test_dozens_of_kills_lose_nothing_and_bring_nothing_back(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.archive.crash", str(tmp_path / "files"), "40"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "40 kills" in run.stdout
    assert "nothing lost" in run.stdout


def test_a_file_linked_before_its_bytes_were_synced_goes_after_a_power_cut(
    tmp_path: Path, make: Make, store: Send
) -> None:
    """What a journal may leave of an unfinished store: both names of a file without bytes."""
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR")
    archive.prepare()
    store(archive, make())
    (kept,) = archive.instances(sop_uids=["1.2.3.1.1.1.1"])
    archive.close()
    lost = tmp_path / "files" / ".incoming" / "0123456789abcdef"
    lost.touch()
    place = Path(kept.path).with_name("00000000")
    place.hardlink_to(lost)
    again = LocalArchive(tmp_path / "files" / "DICOMDIR")
    again.prepare()
    assert not place.exists()
    assert not lost.exists()
    assert Path(kept.path).exists()
    assert again.verify() == []
    again.close()


def in_a_child(work: Callable[[], None]) -> int:
    """Run something in a forked process, whose limits may be lowered; its exit status."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def test_a_file_that_does_not_fit_answers_a700_and_leaves_nothing(tmp_path: Path, make: Make, store: Send) -> None:
    """RLIMIT_FSIZE stands for the full disk: the write fails in the middle of the instance."""
    dicomdir = tmp_path / "files" / "DICOMDIR"
    archive = LocalArchive(dicomdir)
    archive.prepare()
    store(archive, make())
    archive.sync()
    archive.close()

    def limited() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        inside = LocalArchive(dicomdir)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))
        with pytest.raises(StorageError) as refused:
            store(inside, make(2))
        assert refused.value.status == Status.OUT_OF_RESOURCES
        inside.close()

    assert in_a_child(limited) == 0
    assert list((tmp_path / "files" / ".incoming").iterdir()) == []
    assert len(archive.instances(study_uids=["1.2.3.1.1", "1.2.3.2.1"])) == 1
    assert store(archive, make(2)) == Status.SUCCESS
    archive.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 8 MB, where this may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("tmpfs may not be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_harms_nothing_and_recovers_by_itself(small_disk: Path, make: Make, store: Send) -> None:
    archive = LocalArchive(small_disk / "files" / "DICOMDIR")
    archive.prepare()
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    kept: list[str] = []

    def fill() -> None:
        for number in range(1, 5000):
            made = make(number=number, PatientComments="x" * 10_000)
            store(archive, made)
            kept.append(made[0].sop_instance_uid)

    with pytest.raises(StorageError):
        fill()
    assert len(kept) > 20
    assert len(archive.instances(sop_uids=kept)) == len(kept)
    with pytest.raises(StorageError):
        archive.sync()
    (small_disk / "ballast").unlink()
    for uid in [kept.pop() for _ in range(10)]:
        archive.delete(Level.IMAGE, uid)
    archive.sync()
    assert store(archive, make(2)) == Status.SUCCESS
    archive.sync()
    assert archive.verify() == []
    archive.close()


def test_several_processes_store_one_patient_at_once(tmp_path: Path, make: Make, store: Send) -> None:
    dicomdir = tmp_path / "files" / "DICOMDIR"
    archive = LocalArchive(dicomdir, durability=Durability.NONE)
    archive.prepare()
    archive.close()

    def storing(worker: int) -> None:
        mine = LocalArchive(dicomdir, durability=Durability.NONE, publish_delay=0.01)
        mine.start()
        for study in range(1, 6):
            for number in range(1, 6):
                assert store(mine, make(study=study, series=worker, number=number)) == Status.SUCCESS
        mine.close()

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=storing, args=(worker,)) for worker in (1, 2, 3)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
        assert one.exitcode == 0
    assert {one.patient_id for one in archive.listing()} == {"P1"}
    assert sum(one.instances for one in archive.listing()) == 75
    archive.sync()
    assert archive.verify() == []
    archive.close()


def test_two_deletions_of_one_study_at_once_both_end_cleanly(tmp_path: Path, make: Make, store: Send) -> None:
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE)
    archive.prepare()
    for number in range(1, 31):
        store(archive, make(number=number))
        store(archive, make(2, number=number))
    archive.sync()
    archive.close()
    config = tmp_path / "gateway.yaml"
    config.write_text("archive: {dicomdir: files/DICOMDIR, min_free: 0}\n")
    command = [sys.executable, "-m", "gateway", "archive", "delete", "--study", "1.2.3.1.1", "--yes", "--json"]
    both = [subprocess.Popen([*command, "--config", config], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(one["instances"] for one in said) == [0, 30]
    assert archive.verify(quick=True, repair=True)[0].kind is Kind.EMPTY
    assert archive.verify() == []
    assert [one.patient_id for one in archive.listing()] == ["P2"]
    archive.close()

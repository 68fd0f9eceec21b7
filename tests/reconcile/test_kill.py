"""Kill -9 at every step of a reconcile: the study is as it was or as it is to be, and never half of it, never away."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pydicom
import pytest

from gateway.archive.durability import Durability
from gateway.archive.exchange import STAGING
from gateway.archive.local import LocalArchive
from gateway.dicom.attributes import Attributes
from gateway.reconcile.difference import StudyDifference
from gateway.reconcile.reconciler import Reconciler
from tests.support import dicomfiles
from tests.support.waiting import wait_until

OLD = {"PatientName": "Smith^Jon", "PatientID": "OLD-7"}
NEW = {"PatientName": "Smythe^Jon", "PatientID": "NEW-7"}
STUDY, OTHER = dicomfiles.uid("corrected"), dicomfiles.uid("untouched")
MOST = 100


@pytest.fixture(scope="module")
def file_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets = [one for name in ("corrected", "untouched") for one in dicomfiles.study(name, 2, "CT", **OLD)]
    return dicomfiles.write_file_set(tmp_path_factory.mktemp("made") / "files", datasets).parent


def made(file_set: Path, root: Path) -> LocalArchive:
    shutil.copytree(file_set, root / "files")
    # What the page cache holds survives a kill; test_power_cut.py has the syncing.
    archive = LocalArchive(root / "files" / "DICOMDIR", durability=Durability.NONE, publish_delay=0.01)
    archive.prepare()
    archive.close()
    return archive


def killed(archive: LocalArchive, step: int) -> bool:
    """Reconcile in a child that is killed before its n-th change of a file or folder; whether it came so far."""
    child = os.fork()
    if child == 0:
        _reconcile_until(archive, step)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


_CHANGES = {"open", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.rename"}


def _reconcile_until(archive: LocalArchive, step: int) -> None:
    left = [step]

    def watch(event: str, _: object) -> None:
        if event in _CHANGES:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 70
    try:
        sys.addaudithook(watch)
        Reconciler(archive, "GATEWAY").reconcile(StudyDifference(STUDY, Attributes.of(NEW), ()))
        archive.sync()
        status = 0
    finally:
        os._exit(status)


def told(archive: LocalArchive, study: str) -> list[str]:
    return [str(pydicom.dcmread(one.path).PatientID) for one in archive.instances(study_uids=[study])]


def test_every_instance_is_found_after_a_kill_at_any_step(tmp_path: Path, file_set: Path) -> None:
    ends = []
    for step in range(1, MOST):
        archive = made(file_set, tmp_path / str(step))
        came = killed(archive, step)
        archive.open()
        assert told(archive, STUDY) in (["OLD-7"] * 2, ["NEW-7"] * 2)
        assert told(archive, OTHER) == ["OLD-7"] * 2
        ends += told(archive, STUDY)[:1]
        archive.sync()
        assert archive.verify() == []
        files = {str(one) for one in archive.root.rglob("*") if one.is_file() and one != archive.dicomdir}
        assert files == {one.path for one in archive.instances(study_uids=[STUDY, OTHER])}, "files nobody refers to"
        archive.close()
        if not came:
            break
        shutil.rmtree(tmp_path / str(step))
    else:
        pytest.fail("it never came through")
    assert ends == sorted(ends, reverse=True), "old at first, new once it was acknowledged"
    assert set(ends) == {"OLD-7", "NEW-7"}


def test_a_running_gateway_clears_up_after_a_verb_that_was_killed(tmp_path: Path, file_set: Path) -> None:
    archive = made(file_set, tmp_path)
    assert killed(archive, 12)
    (left,) = (archive.root / STAGING).iterdir()
    archive.start()
    wait_until(lambda: not left.exists(), "what the dead process left is removed")
    assert told(archive, STUDY) == ["OLD-7"] * 2
    archive.close()
    assert archive.verify() == []

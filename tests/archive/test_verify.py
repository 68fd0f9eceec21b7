"""What ``archive verify`` finds, and what it mends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.local import LocalArchive
from gateway.archive.verify import Kind
from gateway.cli import run

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


@pytest.fixture
def filled(archive: LocalArchive, make: Make, store: Send) -> LocalArchive:
    for patient in (1, 2):
        for number in (1, 2):
            store(archive, make(patient, number=number))
    archive.sync()
    return archive


def path_of(archive: LocalArchive, uid: str) -> Path:
    (one,) = archive.instances(sop_uids=[uid])
    return Path(one.path)


def test_a_sound_archive_has_no_problems(filled: LocalArchive) -> None:
    assert filled.verify() == []
    (filled.root / "README").write_text("not ours")
    assert filled.verify() == []


def test_a_missing_file_is_told_and_kept_until_it_is_to_be_forgotten(filled: LocalArchive) -> None:
    path_of(filled, "1.2.3.1.1.1.1").unlink()
    (problem,) = filled.verify(repair=True)
    assert (problem.kind, problem.uid, problem.mended) == (Kind.MISSING, "1.2.3.1.1.1.1", False)
    assert len(filled.instances(study_uids=["1.2.3.1.1"])) == 2
    (problem,) = filled.verify(repair=True, forget_missing=True)
    assert problem.mended
    assert filled.verify() == []


def test_an_unreferenced_instance_is_taken_in(filled: LocalArchive, make: Make, store: Send, tmp_path: Path) -> None:
    other = LocalArchive(tmp_path / "other" / "DICOMDIR")
    other.prepare()
    store(other, make(3))
    (filled.root / "lower case").mkdir()
    shutil.copyfile(path_of(other, "1.2.3.3.1.1.1"), filled.root / "lower case" / "image.dcm")
    other.close()
    (problem,) = filled.verify()
    assert problem.kind is Kind.UNREFERENCED
    (problem,) = filled.verify(repair=True)
    assert problem.mended
    assert filled.verify() == []
    assert path_of(filled, "1.2.3.3.1.1.1").is_relative_to(filled.root / "DICOM")


def test_the_index_follows_a_file_that_was_moved(filled: LocalArchive) -> None:
    path_of(filled, "1.2.3.1.1.1.1").rename(filled.root / "MOVED")
    assert {one.kind for one in filled.verify()} == {Kind.MISSING, Kind.UNREFERENCED}
    assert all(one.mended for one in filled.verify(repair=True))
    assert filled.verify() == []
    assert path_of(filled, "1.2.3.1.1.1.1") == filled.root / "MOVED"


def test_a_damaged_file_is_told(filled: LocalArchive) -> None:
    path = path_of(filled, "1.2.3.1.1.1.1")
    path.write_bytes(path.read_bytes()[:-4])
    assert [one.kind for one in filled.verify(quick=True)] == [Kind.SIZE]
    path_of(filled, "1.2.3.2.1.1.1").write_bytes(path_of(filled, "1.2.3.2.1.1.2").read_bytes())
    assert sorted(one.kind.name for one in filled.verify()) == ["SIZE", "UID"]


def test_an_index_that_was_lost_is_built_again(filled: LocalArchive, make: Make, store: Send) -> None:
    store(filled, make(3))  # not in the DICOMDIR yet
    filled.close()
    shutil.rmtree(filled.root.parent / "files.index")
    again = LocalArchive(filled.dicomdir)
    again.prepare()
    assert again.verify() == []
    assert sum(one.instances for one in again.listing()) == 5
    again.close()


def test_the_verb_ends_with_counts_and_a_status(
    filled: LocalArchive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("archive: {dicomdir: files/DICOMDIR, min_free: 0}\n")
    assert run(["archive", "verify", "--config", str(config)]) == 0
    assert "4 instances: index, DICOMDIR and disk agree" in capsys.readouterr().out
    path_of(filled, "1.2.3.1.1.1.1").unlink()
    assert run(["archive", "verify", "--config", str(config), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["left"] == {"file missing": 1}

"""The verbs under ``archive``, on a stopped gateway; another process beside them is the case of a running one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.local import LocalArchive
from gateway.cli import run

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


@pytest.fixture
def config(tmp_path: Path, archive: LocalArchive, make: Make, store: Send) -> str:
    """A configuration of an archive of 2 studies; the archive stays open, as in a running gateway."""
    for patient in (1, 2):
        for number in (1, 2):
            store(archive, make(patient, number=number))
    archive.sync()
    path = tmp_path / "gateway.yaml"
    path.write_text("archive: {dicomdir: files/DICOMDIR, create: true, min_free: 0}\n")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["archive", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_shows_patients_studies_and_sizes(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "list", "--config", config)
    assert [(one["patient_id"], one["instances"]) for one in found] == [("P1", 2), ("P2", 2)]
    assert all(one["size"] > 500 for one in found)
    assert run(["archive", "list", "--config", config]) == 0
    assert "2 patients, 2 studies, 4 instances" in capsys.readouterr().out


def test_delete_is_seen_by_a_gateway_that_runs(
    config: str, archive: LocalArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    done = said(capsys, "delete", "--study", "1.2.3.1.1", "--yes", "--config", config)
    assert done["instances"] == 2
    assert done["studies"] == ["1.2.3.1.1"]
    assert archive.instances(study_uids=["1.2.3.1.1"]) == []
    assert len([one for one in (archive.root / "DICOM").rglob("*") if one.is_file()]) == 2
    assert said(capsys, "delete", "--study", "1.2.3.1.1", "--yes", "--config", config)["instances"] == 0
    assert said(capsys, "purge", "--config", config) == {"records": 1}
    compacted = said(capsys, "compact", "--config", config)
    assert compacted["before"] > 0
    assert abs(compacted["after"] - compacted["before"]) <= 8  # no inactive records; the new UID has its own length


def test_delete_asks_first(config: str, archive: LocalArchive, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["archive", "delete", "--study", "1.2.3.1.1", "--config", config]) != 0
    assert len(archive.instances(study_uids=["1.2.3.1.1"])) == 2
    assert run(["archive", "delete", "--yes", "--config", config]) == 2
    assert "name what to delete" in capsys.readouterr().err


def test_import_says_when_there_is_nothing_to_do(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "import", "--config", config) == {"imported": False}
    again = said(capsys, "import", "--again", "--config", config)
    assert (again["instances"], again["added"], again["dropped"]) == (4, 0, 0)

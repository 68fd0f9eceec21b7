"""Importing a DICOMDIR that another tool made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import filesets
from gateway.archive.local import LocalArchive
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.models import Level, Model
from gateway.errors import StorageError
from gateway.query.ports import Request
from tests.support.waiting import wait_until

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


def ask(archive: LocalArchive, level: Level, **keys: str) -> list[Attributes]:
    query = Query(Model.PATIENT_ROOT, level, Attributes.of(keys), Negotiated(relational=True))
    return list(archive.find(Request(query, Caller("ASKER"))))


@pytest.fixture
def foreign(tmp_path: Path, make: Make, store: Send) -> Path:
    """A file-set of 2 patients, 4 studies and 8 instances that dcmmkdir wrote."""
    if shutil.which("dcmmkdir") is None and os.environ.get("GATEWAY_PEERS") != "required":
        pytest.skip("dcmmkdir is not installed")
    filled = LocalArchive(tmp_path / "foreign" / "DICOMDIR")
    filled.prepare()
    for patient in (1, 2):
        for study in (1, 2):
            for number in (1, 2):
                assert store(filled, make(patient, study, number=number)) == 0
    filled.close()
    shutil.rmtree(tmp_path / "foreign.index")
    subprocess.run(["dcmmkdir", "+r", "+I", "-W", "+id", ".", "DICOM"], cwd=tmp_path / "foreign", check=True)
    return tmp_path / "foreign" / "DICOMDIR"


@pytest.mark.peers
def test_a_file_set_of_dcmmkdir_is_imported_and_served(foreign: Path) -> None:
    archive = LocalArchive(foreign)
    archive.prepare()
    assert len(ask(archive, Level.PATIENT, PatientID="")) == 2
    studies = ask(archive, Level.STUDY, PatientName="Patient^2", StudyInstanceUID="")
    assert sorted(one.text(tags.StudyInstanceUID) for one in studies) == ["1.2.3.2.1", "1.2.3.2.2"]
    assert {one.text(tags.NumberOfStudyRelatedInstances) for one in studies} == {"2"}
    stored = archive.instances(study_uids=["1.2.3.2.1"])
    assert len(stored) == 2
    assert all(one.dataset_offset > 132 and Path(one.path).stat().st_size == one.size for one in stored)
    archive.close()


@pytest.mark.peers
def test_an_import_is_not_repeated_for_a_dicomdir_that_did_not_change(foreign: Path) -> None:
    archive = LocalArchive(foreign)
    archive.prepare()
    assert archive.sync() is None
    again = archive.sync(reread=True)
    assert again is not None
    assert (again.instances, again.added, again.dropped) == (8, 0, 0)
    archive.close()


def test_a_large_dicomdir_that_changed_is_merged_aside(tmp_path: Path) -> None:
    dicomdir = tmp_path / "files" / "DICOMDIR"
    dicomdir.parent.mkdir()
    filesets.make(dicomdir, 600)
    archive = LocalArchive(dicomdir, publish_delay=0.05)
    archive.prepare()
    archive.start()
    filesets.make(tmp_path / "OTHER", 25_000)
    assert (tmp_path / "OTHER").stat().st_size > 4 << 20
    (tmp_path / "OTHER").rename(dicomdir)
    wait_until(lambda: sum(one.instances for one in archive.listing()) == 25_000, "the import of 25,000 instances")
    archive.close()


def test_what_a_dicomdir_lacks_comes_from_the_files(foreign: Path) -> None:
    archive = LocalArchive(foreign, publish_delay=0.01)
    archive.prepare()
    assert ask(archive, Level.STUDY, StudyDescription="Thorax", PatientBirthDate="19700102") == []
    archive.start()
    images = wait_until(lambda: ask(archive, Level.IMAGE, Rows="2", Columns="2"), "the attributes of the files")
    wait_until(lambda: all(one.size for one in archive.listing()), "the sizes of the files")
    assert images[0].text(tags.tag_of("PatientBirthDate")) == "19700101"
    archive.close()


def test_a_lost_dicomdir_is_not_taken_for_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "DICOMDIR~").write_bytes(b"")
    for _ in range(2):  # nor at the second attempt, when there is an index
        with pytest.raises(StorageError, match="crashed while renaming"):
            LocalArchive(tmp_path / "files" / "DICOMDIR").prepare()

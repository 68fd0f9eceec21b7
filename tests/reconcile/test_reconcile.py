"""Corrections of a real leading archive written into a real file-set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
import yaml

from gateway.archive.local import LocalArchive
from gateway.cli import run
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.tags import AccessionNumber, PatientID, PatientName
from gateway.dimse.ports import Incoming, StoreRequest
from gateway.errors import StorageError
from gateway.reconcile.difference import StudyDifference, compare
from gateway.reconcile.staging import leftovers
from gateway.reconcile.swap import Reconciler
from tests.support import dicomfiles
from tests.support.gateways import peer
from tests.support.peers import dcmqrscp

OLD = {"PatientName": "Smith^Jon", "PatientID": "OLD-7", "AccessionNumber": "A-OLD"}
NEW = {"PatientName": "Smythe^Jörg", "PatientID": "NEW-7", "AccessionNumber": "A-NEW"}
STUDY = dicomfiles.uid("corrected")
OTHER = dicomfiles.uid("untouched")


@dataclass
class Place:
    archive: LocalArchive
    staging: Path

    def difference(self) -> list[StudyDifference]:
        leading = {STUDY: Attributes.of(NEW)}
        local = lambda uids: self.archive.studies(uids, Caller("X"))  # noqa: E731
        batches = compare([STUDY, OTHER], local, lambda uids: {u: leading[u] for u in uids if u in leading})
        return [one for batch in batches for one in batch]

    def datasets(self, study: str = STUDY) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(one.path) for one in self.archive.instances(study_uids=[study])]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    datasets = [
        *dicomfiles.study("corrected", 3, "CT", **OLD),
        dicomfiles.instance("corrected", "2", 1, "MR", **OLD),
        *dicomfiles.study("untouched", 1, "US", **{**OLD, "AccessionNumber": "B"}),
    ]
    archive = LocalArchive(dicomfiles.write_file_set(tmp_path / "root", datasets))
    archive.prepare()
    yield Place(archive, tmp_path / "staging")
    archive.close()


def test_only_studies_that_differ_are_told(place: Place) -> None:
    (one,) = place.difference()
    told = {change.keyword: (change.before, change.after) for change in one.changes}
    assert told["PatientName"] == ("Smith^Jon", "Smythe^Jörg")
    assert told["PatientID"] == ("OLD-7", "NEW-7")
    assert told["AccessionNumber"] == ("A-OLD", "A-NEW")


def test_files_index_and_dicomdir_say_what_the_leading_archive_says(place: Place) -> None:
    pixels = {one.SOPInstanceUID: one.PixelData for one in place.datasets()}
    (one,) = place.difference()
    assert Reconciler(place.archive, place.staging, "GATEWAY").reconcile(one) == 4
    place.archive.sync()
    for after in place.datasets():
        assert (after.PatientName, after.PatientID, after.AccessionNumber) == tuple(NEW.values())
        assert after.PixelData == pixels[after.SOPInstanceUID]
        record = after.OriginalAttributesSequence[-1]
        assert record.ModifyingSystem == "GATEWAY reconcile"
        assert record.ModifiedAttributesSequence[0].PatientID == "OLD-7"
    known = place.archive.studies([STUDY], Caller("X"))[STUDY]
    assert (known.text(PatientName), known.text(PatientID), known.text(AccessionNumber)) == tuple(NEW.values())
    assert place.difference() == []
    assert place.archive.verify() == []
    assert [str(one.PatientID) for one in place.datasets(OTHER)] == ["OLD-7"], "the old patient keeps the other study"
    patients = {line.study_instance_uid: line.patient_id for line in place.archive.listing()}
    assert patients == {STUDY: "NEW-7", OTHER: "OLD-7"}


@pytest.mark.parametrize("stored", [0, 1, 3])
def test_a_crash_after_staging_is_ended_by_the_next_run(stored: int, place: Place) -> None:
    (one,) = place.difference()
    reconciler = Reconciler(place.archive, place.staging, "GATEWAY")
    kill_at = CrashingArchive(place.archive, stored)
    with pytest.raises(Crash):
        Reconciler(kill_at, place.staging, "GATEWAY").reconcile(one)
    assert reconciler.resume() == 1
    assert reconciler.resume() == 0
    assert [str(one.PatientID) for one in place.datasets()] == ["NEW-7"] * 4
    assert place.difference() == []
    assert place.archive.verify() == []


class Crash(Exception):
    pass


class CrashingArchive:
    """The archive of a process that dies before it stores its n-th instance."""

    def __init__(self, archive: LocalArchive, stores: int) -> None:
        self._archive = archive
        self._left = stores
        self.instances = archive.instances
        self.delete = archive.delete
        self.purge = archive.purge

    def begin(self, request: StoreRequest) -> Incoming:
        if not self._left:
            raise Crash
        self._left -= 1
        return self._archive.begin(request)


def test_an_incomplete_staging_is_thrown_away(place: Place) -> None:
    (one,) = place.difference()
    Path(place.archive.instances(study_uids=[STUDY])[-1].path).write_bytes(b"no DICOM file any more")
    with pytest.raises(StorageError):
        Reconciler(place.archive, place.staging, "GATEWAY").reconcile(one)
    assert list(leftovers(place.staging)) == []
    (place.staging / "half").mkdir(parents=True, exist_ok=True)
    assert list(leftovers(place.staging)) == []
    assert not (place.staging / "half").exists()


@pytest.mark.peers
def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicomdir = dicomfiles.write_file_set(tmp_path / "root", dicomfiles.study("corrected", 2, "CT", **OLD))
    with dcmqrscp(tmp_path / "leading") as leading:
        corrected = dicomfiles.study("corrected", 2, "CT", SpecificCharacterSet="ISO_IR 100", **NEW)
        leading.store(dicomfiles.write(tmp_path / "corrected", corrected))
        config = tmp_path / "gateway.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "ae": {"title": "GATEWAY", "port": 0},
                    "peers": {"LEADING": peer(leading.aet, leading.port)},
                    "leading": {"peer": "LEADING"},
                    "archive": {"dicomdir": str(dicomdir), "min_free": 0},
                }
            )
        )
        LocalArchive(dicomdir).prepare()
        common = ["--config", str(config), "--json"]
        assert run(["archive", "diff", *common]) == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert {"attribute": "PatientID", "local": "OLD-7", "leading": "NEW-7"} in told["attributes"]
        assert run(["rules", "dry-run", "--study", STUDY, *common]) == 0
        tried = json.loads(capsys.readouterr().out)
        assert len(tried) == 2
        for one in tried.values():
            assert {"attribute": "PatientID", "before": "OLD-7", "after": "NEW-7", "rule": "leading-attributes"} in one
        assert run(["archive", "diff", "--csv", "--config", str(config)]) == 0
        assert f"{STUDY},PatientID,OLD-7,NEW-7" in capsys.readouterr().out
        files = {path: path.read_bytes() for path in (tmp_path / "root").rglob("*") if path.is_file()}
        assert run(["archive", "reconcile", *common]) == 0
        assert json.loads(capsys.readouterr().out)["written"] is False
        assert files == {path: path.read_bytes() for path in files}, "without --yes nothing is written"
        assert run(["archive", "reconcile", "--yes", *common]) == 0
        assert json.loads(capsys.readouterr().out)["studies"][0]["instances"] == 2
        assert run(["archive", "diff", *common]) == 0
        assert json.loads(capsys.readouterr().out) == []

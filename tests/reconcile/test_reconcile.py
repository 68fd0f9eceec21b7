"""Corrections of a real leading archive written into a real file-set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
import yaml

from gateway.archive.local import LocalArchive
from gateway.cli import run
from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.rules import Where
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.models import Level, Model
from gateway.dicom.tags import AccessionNumber, PatientID, PatientName, StudyInstanceUID
from gateway.errors import BadInstance, StorageError
from gateway.query.ports import Request
from gateway.reconcile.difference import RULES, StudyDifference, compare
from gateway.reconcile.reconciler import Reconciler
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

    def difference(self, told: Mapping[str, Attributes] | None = None) -> list[StudyDifference]:
        leading = told or {STUDY: Attributes.of(NEW)}
        local = lambda uids: self.archive.studies(uids, Caller("X"))  # noqa: E731
        batches = compare([STUDY, OTHER], local, lambda uids: {u: leading[u] for u in uids if u in leading})
        return [one for batch in batches for one in batch]

    def datasets(self, study: str = STUDY) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(one.path) for one in self.archive.instances(study_uids=[study])]


def found(archive: LocalArchive, name: str) -> list[str]:
    """Study Instance UIDs by the patient's name."""
    keys = Attributes.of({"PatientName": name, "StudyInstanceUID": ""})
    query = Query(Model.STUDY_ROOT, Level.STUDY, keys, Negotiated())
    return sorted(one.text(StudyInstanceUID) for one in archive.find(Request(query, Caller("X"))))


def records(archive: LocalArchive, kind: str) -> list[pydicom.Dataset]:
    """The records in use of a DICOMDIR, as pydicom reads them."""
    listed = pydicom.dcmread(archive.dicomdir).DirectoryRecordSequence
    return [one for one in listed if one.DirectoryRecordType == kind and one.RecordInUseFlag]


def files_of(archive: LocalArchive) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in archive.root.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    datasets = [
        *dicomfiles.study("corrected", 3, "CT", **OLD),
        dicomfiles.instance("corrected", "2", 1, "MR", **OLD),
        *dicomfiles.study("untouched", 1, "US", **{**OLD, "AccessionNumber": "B"}),
    ]
    archive = LocalArchive(dicomfiles.write_file_set(tmp_path / "root", datasets))
    archive.prepare()
    yield Place(archive)
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
    assert Reconciler(place.archive, "GATEWAY").reconcile(one) == 4
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


def test_a_study_of_the_same_patient_says_what_it_said_until_it_is_reconciled_itself(tmp_path: Path) -> None:
    """A corrected name under the same Patient ID concerns every study; none is forgotten, none is rewritten twice."""
    name = {"PatientName": "Smythe^Jon"}
    datasets = [dicomfiles.instance(study, "1", 1, "CT", **OLD) for study in ("corrected", "untouched")]
    archive = LocalArchive(dicomfiles.write_file_set(tmp_path / "root", datasets))
    archive.prepare()
    place = Place(archive)
    leading = dict.fromkeys((STUDY, OTHER), Attributes.of(name))
    first, second = place.difference(leading)
    assert Reconciler(archive, "GATEWAY").reconcile(first) == 1
    assert [one.study_instance_uid for one in place.difference(leading)] == [second.study_instance_uid]
    assert found(archive, "Smythe*") == [first.study_instance_uid]
    assert found(archive, "Smith*") == [second.study_instance_uid]
    archive.sync()
    assert archive.verify() == []
    assert Reconciler(archive, "GATEWAY").reconcile(second) == 1
    assert place.difference(leading) == []
    assert found(archive, "Smith*") == []
    assert sorted(found(archive, "Smythe*")) == sorted((STUDY, OTHER))
    archive.sync()
    assert archive.verify() == []
    told = [str(record.PatientName) for record in records(archive, "PATIENT")]
    assert told == ["Smythe^Jon"]
    assert len(records(archive, "STUDY")) == 2
    archive.close()


def test_when_a_study_was_received_and_used_stays(place: Place) -> None:
    before = {line.study_instance_uid: line.received for line in place.archive.listing()}
    (one,) = place.difference()
    Reconciler(place.archive, "GATEWAY").reconcile(one)
    assert {line.study_instance_uid: line.received for line in place.archive.listing()} == before


def test_instances_that_say_it_already_keep_their_files(place: Place) -> None:
    (one,) = place.difference()
    Reconciler(place.archive, "GATEWAY").reconcile(one)
    place.archive.sync()
    files = {one.path for one in place.archive.instances(study_uids=[STUDY])}
    assert Reconciler(place.archive, "GATEWAY").reconcile(one) == 0
    place.archive.sync()
    assert {one.path for one in place.archive.instances(study_uids=[STUDY])} == files
    assert place.archive.verify() == []


def test_an_instance_that_cannot_be_read_leaves_the_study_as_it_was(place: Place) -> None:
    (one,) = place.difference()
    Path(place.archive.instances(study_uids=[STUDY])[-1].path).write_bytes(b"no DICOM file any more")
    before = files_of(place.archive)
    with pytest.raises((BadInstance, StorageError)):
        Reconciler(place.archive, "GATEWAY").reconcile(one)
    assert files_of(place.archive) == before
    assert place.difference() == [one]


def test_a_study_that_changes_meanwhile_is_as_it_was(place: Place) -> None:
    (one,) = place.difference()
    made = plan(RULES, Where.RECEIVED, Context(receiving="G", leading=one.leading))
    hit = place.archive.instances(study_uids=[STUDY])[0]

    def change(stored: StoredInstance) -> Outgoing:
        place.archive.delete(Level.IMAGE, hit.sop_instance_uid)
        return made.apply_to_instance(stored)

    with pytest.raises(StorageError, match="changed meanwhile"):
        place.archive.exchange(STUDY, change)
    place.archive.sync()
    assert [str(one.PatientID) for one in place.datasets()] == ["OLD-7"] * 3
    assert place.archive.verify() == []


def test_a_dicomdir_that_somebody_changes_in_between_is_merged(place: Place) -> None:
    (one,) = place.difference()
    Reconciler(place.archive, "GATEWAY").reconcile(one)
    os.utime(place.archive.dicomdir, (1, 1))
    place.archive.sync()
    assert place.archive.verify() == []
    assert place.difference() == []
    assert {str(one.PatientID) for one in records(place.archive, "PATIENT")} == {"NEW-7", "OLD-7"}


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
                    "leading": {"peer": "LEADING", "callers": ["VIEWER"]},
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

"""Received instances under rules, in front of a real archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from gateway.archive.local import LocalArchive
from gateway.coercion.parser import parse_rules
from gateway.coercion.rules import CoercionFailed
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Status
from gateway.dimse.ports import StoreRequest
from gateway.intake.receiver import QUARANTINED, CoercedReceiver
from tests.coercion.files import small, written

CALLER = Caller("OLD_CT", "10.0.0.5")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[LocalArchive]:
    made = LocalArchive(tmp_path / "root" / "DICOMDIR")
    made.prepare()
    yield made
    made.close()


def receiver(archive: LocalArchive, rules: str, tmp_path: Path) -> CoercedReceiver:
    parsed = parse_rules(f"rules: [{rules}]")
    spool, quarantine = tmp_path / "spool", tmp_path / "quarantine"
    return CoercedReceiver(archive, lambda: parsed, "GATEWAY", spool=spool, quarantine=quarantine)


def store(receiver: CoercedReceiver, instance: StoredInstance) -> int:
    """Send an instance as the wire does: the data set's bytes to the descriptor, then commit."""
    request = StoreRequest(instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid, CALLER)
    incoming = receiver.begin(request)
    os.write(incoming.fd, Path(instance.path).read_bytes()[instance.dataset_offset :])
    return incoming.commit()


def only_file(archive: LocalArchive) -> pydicom.Dataset:
    (found,) = archive.instances(study_uids=["1.2.3"])
    return pydicom.dcmread(found.path)


def test_a_rule_changes_what_is_stored_and_the_record_says_so(archive: LocalArchive, tmp_path: Path) -> None:
    rule = (
        "{name: r, where: received, when: {sending: OLD_CT}, then: [set: {InstitutionName: St. Mary, PatientID: P2}]}"
    )
    instance = written(small(), tmp_path / "in.dcm")
    assert store(receiver(archive, rule, tmp_path), instance) == Status.SUCCESS
    kept = only_file(archive)
    assert (kept.InstitutionName, kept.PatientID, kept.PixelData) == ("St. Mary", "P2", bytes(range(32)))
    (record,) = kept.OriginalAttributesSequence
    assert (record.ModifyingSystem, record.SourceOfPreviousValues) == ("GATEWAY r", "OLD_CT")
    assert record.ModifiedAttributesSequence[0].PatientID == "P1"
    assert list((tmp_path / "spool").iterdir()) == []


def test_changed_uids_are_stored_under_the_new_ones(archive: LocalArchive, tmp_path: Path) -> None:
    rule = "{name: r, where: received, then: [remap_uids: all]}"
    instance = written(small(), tmp_path / "in.dcm")
    assert store(receiver(archive, rule, tmp_path), instance) == Status.SUCCESS
    assert archive.instances(study_uids=["1.2.3"]) == []
    (line,) = archive.listing()
    (found,) = archive.instances(study_uids=[line.study_instance_uid])
    kept = pydicom.dcmread(found.path)
    assert found.sop_instance_uid == kept.SOPInstanceUID == kept.file_meta.MediaStorageSOPInstanceUID
    assert kept.SOPInstanceUID.startswith("2.25.")


def test_without_a_rule_that_fits_the_archive_takes_it_directly(archive: LocalArchive, tmp_path: Path) -> None:
    rule = "{name: r, where: received, when: {sending: OTHER}, then: [set: {PatientID: P2}]}"
    assert store(receiver(archive, rule, tmp_path), written(small(), tmp_path / "in.dcm")) == Status.SUCCESS
    assert only_file(archive).PatientID == "P1"
    assert not (tmp_path / "spool").exists()


def test_the_leading_archive_is_asked_when_a_rule_takes_from_it(archive: LocalArchive, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def leading(study: str, caller: Caller) -> Attributes:
        asked.append((study, caller.aet))
        return Attributes.of({"PatientName": "Neu^Jörg"})

    rules = parse_rules("rules: [{name: r, where: received, then: [from_leading: {sets: patient}]}]")
    spool, quarantine = tmp_path / "spool", tmp_path / "quarantine"
    made = CoercedReceiver(archive, lambda: rules, "GATEWAY", spool=spool, quarantine=quarantine, leading=leading)
    assert store(made, written(small(), tmp_path / "in.dcm")) == Status.SUCCESS
    assert asked == [("1.2.3", "OLD_CT")]
    assert only_file(archive).PatientName == "Neu^Jörg"


FAILING = "{{name: r, where: received, on_failure: {}, then: [set: {{StudyDate: '{{StudyID|shift:1}}'}}]}}"


def test_a_failure_refuses_the_instance(archive: LocalArchive, tmp_path: Path) -> None:
    instance = written(small(StudyID="x"), tmp_path / "in.dcm")
    with pytest.raises(CoercionFailed, match="shift needs a date"):
        store(receiver(archive, FAILING.format("refuse"), tmp_path), instance)
    assert archive.listing() == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_failure_puts_the_instance_aside_as_it_came(archive: LocalArchive, tmp_path: Path) -> None:
    instance = written(small(StudyID="x"), tmp_path / "in.dcm")
    assert store(receiver(archive, FAILING.format("quarantine"), tmp_path), instance) == QUARANTINED
    assert archive.listing() == []
    (aside,) = (tmp_path / "quarantine").iterdir()
    found = pydicom.dcmread(aside)
    assert found.file_meta.SourceApplicationEntityTitle == "OLD_CT"
    assert Path(instance.path).read_bytes()[instance.dataset_offset :] in aside.read_bytes()


def test_an_aborted_instance_leaves_nothing(archive: LocalArchive, tmp_path: Path) -> None:
    made = receiver(archive, FAILING.format("pass"), tmp_path)
    incoming = made.begin(StoreRequest("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5", "1.2.840.10008.1.2.1", CALLER))
    os.write(incoming.fd, b"half")
    incoming.abort()
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_crash_left_is_removed_and_what_is_arriving_stays(archive: LocalArchive, tmp_path: Path) -> None:
    made = receiver(archive, FAILING.format("pass"), tmp_path)
    incoming = made.begin(StoreRequest("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5", "1.2.840.10008.1.2.1", CALLER))
    (arriving,) = (tmp_path / "spool").iterdir()
    for name in ("crashed.part", "begun just now.part"):
        (tmp_path / "spool" / name).touch()
    for path in (arriving, tmp_path / "spool" / "crashed.part"):
        os.utime(path, (0, 0))
    assert made.sweep() == 1
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {arriving.name, "begun just now.part"}
    incoming.abort()

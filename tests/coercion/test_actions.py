"""Every action on a real CT: the values that come out, and that what comes out is as good DICOM as what went in."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.parser import parse_rules
from gateway.coercion.rewrite import write_file
from gateway.coercion.rules import CoercionFailed, RuleSet, Where
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing, StoredInstance
from tests.coercion.files import reread, sample, small, stored, written
from tests.support.tools import need, path_of

SHARED = (
    "tables: {sites: {values: {JFK IMAGING CENTER: North, A: B}}}\n"
    "devices: {CT1: {StationName: CT1-STATION, InstitutionalDepartmentName: Radiology, DeviceSerialNumber: 99}}\n"
)
LEADING = Attributes.of({"PatientName": "Müller^Jörg", "PatientID": "N-1", "StudyDescription": "Schädel"})

ACTIONS: list[tuple[str, dict[str, str | None]]] = [
    ("from_leading: {sets: [patient, study]}", {"PatientName": "Müller^Jörg", "PatientID": "N-1"}),
    ("from_leading: {attributes: [PatientID], policy: supplement}", {"PatientID": "1CT1"}),
    ("set: {PatientComments: '{PatientID|lower}-{StudyDate|slice:0:4}'}", {"PatientComments": "1ct1-2004"}),
    ("set: {StudyDate: '{StudyDate|shift:-19}'}", {"StudyDate": "20031231"}),
    ("set: {PatientID: '{PatientID|hash:8}'}", {"PatientID": hashlib.sha256(b"1CT1").hexdigest()[:8]}),
    ("set: {AccessionNumber: '{leading.PatientID}/{sending}'}", {"AccessionNumber": "N-1/CT1"}),
    ("set: {FrameOfReferenceUID: '{FrameOfReferenceUID|uid}'}", {}),
    ("set: {SmallestImagePixelValue: 3}", {}),
    (
        "default: {PatientName: x, AccessionNumber: A1}",
        {"PatientName": "CompressedSamples^CT1", "AccessionNumber": "A1"},
    ),
    ("copy: {PatientComments: StudyDescription}", {"PatientComments": "e+1"}),
    ("remove: [AdditionalPatientHistory, '(0009,0010)']", {"AdditionalPatientHistory": None}),
    ("nullify: [PatientBirthDate, PatientSex]", {"PatientBirthDate": "", "PatientSex": ""}),
    ("replace: {attribute: PatientID, pattern: '^(\\d)', with: 'X\\1-'}", {"PatientID": "X1-CT1"}),
    ("map: {attribute: InstitutionName, table: sites}", {"InstitutionName": "North"}),
    ("issuer_of_patient_id: {name: HOSP, universal_id: 1.2.3, universal_type: ISO}", {"IssuerOfPatientID": "HOSP"}),
    ("supplement: {device: sending}", {"InstitutionalDepartmentName": "Radiology", "StationName": "CT01_OC0"}),
    ("charset: ISO_IR 192", {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "CompressedSamples^CT1"}),
    ("trim_iso2022: true", {"SpecificCharacterSet": "ISO_IR 100"}),
    ("remap_uids: all", {}),
]


def rules(action: str, where: str = "sent", extra: str = "") -> RuleSet:
    return parse_rules(f"{SHARED}rules: [{{name: leading-attributes, where: {where}, then: [{{{action}}}]{extra}}}]")


def errors(path: Path) -> set[str]:
    """What dciodvfy finds wrong with a file."""
    done = subprocess.run(
        [path_of("dciodvfy"), str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    return {line.strip() for line in done.stderr.splitlines() if line.startswith("Error")}


def apply(made: RuleSet, instance: StoredInstance, target: Path) -> Dataset:
    outgoing = plan(made, Where.SENT, Context("CT1", "VIEWER", leading=LEADING)).apply_to_instance(instance)
    with target.open("wb") as file:
        write_file(outgoing, file.fileno(), "CT1")
    return pydicom.dcmread(target)


@pytest.mark.parametrize(("action", "expected"), ACTIONS, ids=[one[0].split(":")[0] for one in ACTIONS])
def test_the_values_that_come_out(action: str, expected: dict[str, str | None], tmp_path: Path) -> None:
    instance = sample("CT_small.dcm")
    before, after = pydicom.dcmread(instance.path), apply(rules(action), instance, tmp_path / "out.dcm")
    for keyword, value in expected.items():
        assert (str(after[keyword].value or "") if keyword in after else None) == value, keyword
    assert after.PixelData == before.PixelData
    assert [e.tag for e in after if e.tag.is_private and e.tag.group != 9] == [
        e.tag for e in before if e.tag.is_private and e.tag.group != 9
    ]
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    if action != "remap_uids: all":
        assert after.SOPInstanceUID == before.SOPInstanceUID


@pytest.mark.peers
@pytest.mark.parametrize("action", [one[0] for one in ACTIONS], ids=[one[0].split(":")[0] for one in ACTIONS])
def test_what_comes_out_is_as_good_as_what_went_in(action: str, tmp_path: Path) -> None:
    need("dicom3tools", "dcmtk")
    instance = sample("CT_small.dcm")
    apply(rules(action), instance, tmp_path / "out.dcm")
    assert errors(tmp_path / "out.dcm") <= errors(Path(instance.path))
    subprocess.run([path_of("dcmdump"), "-q", str(tmp_path / "out.dcm")], check=True, capture_output=True)


def test_uids_are_remapped_alike_wherever_they_stand(tmp_path: Path) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5"
    instance = written(small(ReferencedImageSequence=[reference]), tmp_path / "in.dcm")
    after = apply(rules("remap_uids: all"), instance, tmp_path / "out.dcm")
    assert after.SOPInstanceUID.startswith("2.25.")
    assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == after.SOPInstanceUID
    assert after.ReferencedImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert after.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"


def test_uids_of_a_table_are_remapped_and_others_stay(tmp_path: Path) -> None:
    made = parse_rules(
        "tables: {uids: {values: {1.2.3: 9.9}}}\n"
        "rules: [{name: leading-attributes, where: sent, then: [{remap_uids: {table: uids}}]}]"
    )
    after = apply(made, written(small(), tmp_path / "in.dcm"), tmp_path / "out.dcm")
    assert (after.StudyInstanceUID, after.SeriesInstanceUID) == ("9.9", "1.2.3.4")


def test_the_local_patient_id_is_kept_among_the_others_once(tmp_path: Path) -> None:
    made = parse_rules(
        "rules:\n"
        "- {name: leading-attributes, where: sent, priority: 9, then: [{from_leading: {sets: [patient]}}]}\n"
        "- {name: keep, where: sent, then: [{keep_patient_id: {issuer: OLD, universal_id: 1.2.9}}]}\n"
    )
    after = apply(made, written(small(), tmp_path / "in.dcm"), tmp_path / "out.dcm")
    (other,) = after.OtherPatientIDsSequence
    assert (other.PatientID, other.IssuerOfPatientID, other.TypeOfPatientID) == ("P1", "OLD", "TEXT")
    assert other.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.9"
    assert after.PatientID == "N-1"
    again = apply(made, stored(tmp_path / "out.dcm"), tmp_path / "again.dcm")
    assert len(again.OtherPatientIDsSequence) == 1


def test_nested_attributes_are_set_removed_and_made(tmp_path: Path) -> None:
    first, second = Dataset(), Dataset()
    first.AccessionNumber, first.RequestedProcedureID = "A", "R1"
    second.AccessionNumber = "B"
    instance = written(small(RequestAttributesSequence=[first, second]), tmp_path / "in.dcm")
    made = rules(
        "set: {'RequestAttributesSequence.AccessionNumber': Z, 'RequestAttributesSequence[2].StudyInstanceUID': 1.2, "
        "'ProcedureCodeSequence[0].CodeValue': C}"
    )
    after = apply(made, instance, tmp_path / "out.dcm")
    assert [one.get("AccessionNumber") for one in after.RequestAttributesSequence] == ["Z", "Z", None]
    assert after.RequestAttributesSequence[2].StudyInstanceUID == "1.2"
    assert after.ProcedureCodeSequence[0].CodeValue == "C"
    removed = apply(rules("remove: 'RequestAttributesSequence[0].RequestedProcedureID'"), instance, tmp_path / "b.dcm")
    assert "RequestedProcedureID" not in removed.RequestAttributesSequence[0]
    assert removed.RequestAttributesSequence[1].AccessionNumber == "B"


@pytest.mark.parametrize("policy", ["refuse", "quarantine", "pass"])
def test_a_failure_goes_the_way_the_rule_says(policy: str, tmp_path: Path) -> None:
    made = rules("set: {StudyDate: '{StudyID|shift:1}'}", extra=f", on_failure: {policy}")
    instance = written(small(StudyID="no date", StudyDate="20200101"), tmp_path / "in.dcm")
    if policy == "pass":
        assert apply(made, instance, tmp_path / "out.dcm").StudyDate == "20200101"
        return
    with pytest.raises(CoercionFailed, match="leading-attributes: shift needs a date") as caught:
        apply(made, instance, tmp_path / "out.dcm")
    assert caught.value.quarantine is (policy == "quarantine")


def test_received_instances_say_what_was_changed_by_which_rule(tmp_path: Path) -> None:
    made = parse_rules(
        "rules:\n"
        "- {name: prefix, where: received, then: [{replace: {attribute: PatientID, pattern: '^(?!H-)', with: 'H-'}}]}\n"
        "- {name: name, where: received, then: [{set: {PatientName: 'Neu^Jörg'}}]}\n"
    )
    at = Context("MODALITY", "GATEWAY")
    instance = written(small(SpecificCharacterSet="ISO_IR 100", PatientName="Alt^Jürgen"), tmp_path / "in.dcm")
    after = reread(plan(made, Where.RECEIVED, at).apply_to_instance(instance), tmp_path / "out.dcm")
    first, second = after.OriginalAttributesSequence
    assert (first.ModifyingSystem, first.SourceOfPreviousValues) == ("GATEWAY name", "MODALITY")
    assert first.ModifiedAttributesSequence[0].PatientName == "Alt^Jürgen"
    assert (second.ModifyingSystem, second.ReasonForTheAttributeModification) == ("GATEWAY prefix", "COERCE")
    assert second.ModifiedAttributesSequence[0].PatientID == "P1"
    once = stored(tmp_path / "out.dcm")
    twice = plan(made, Where.RECEIVED, at).apply_to_instance(once)
    assert twice == Outgoing.untouched(once), "what is as the rules want it is not changed and not recorded again"


def test_the_record_of_changes_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "0.dcm"
    instance = written(small(), path)
    for number in range(40):
        made = rules(f"set: {{PatientComments: c{number}}}", where="received")
        outgoing = plan(made, Where.RECEIVED, Context("M", "G")).apply_to_instance(instance)
        path = tmp_path / f"{number + 1}.dcm"
        with path.open("wb") as file:
            write_file(outgoing, file.fileno())
        instance = stored(path)
    kept = pydicom.dcmread(path).OriginalAttributesSequence
    assert len(kept) == 32
    assert [one.ModifiedAttributesSequence[0].PatientComments for one in (kept[0], kept[-1])] == ["c0", "c38"]


def test_sent_instances_say_it_only_when_asked(tmp_path: Path) -> None:
    instance = written(small(), tmp_path / "in.dcm")
    assert "OriginalAttributesSequence" not in apply(rules("set: {PatientID: X}"), instance, tmp_path / "a.dcm")
    made = parse_rules(
        "record_originals: [received, sent]\n"
        "rules: [{name: leading-attributes, where: sent, then: [{set: {PatientID: X}}]}]"
    )
    after = apply(made, instance, tmp_path / "b.dcm")
    assert after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == "P1"

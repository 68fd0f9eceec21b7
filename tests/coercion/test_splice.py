from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from gateway.coercion.changes import Changes
from gateway.coercion.patch import Patch
from gateway.coercion.splice import read_head, splice
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dicom.tags import tag_of
from gateway.errors import BadInstance
from tests.coercion.files import dataset_bytes, reread, sample, small, stored, written

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
SAMPLES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "image_dfl.dcm",
    "rtplan.dcm",
    "JPEG2000.dcm",
    "ExplVR_BigEnd.dcm",
    "UN_sequence.dcm",
    "reportsi.dcm",
    "waveform_ecg.dcm",
    "nested_priv_SQ.dcm",
]
NEW = Attributes.of({"PatientName": "New^Name", "PatientID": "NEW1", "AccessionNumber": "A-7"})


def patch(values: Attributes = NEW, *removed: str) -> Patch:
    return Patch(Changes(values, frozenset(tag_of(one) for one in removed)))


@pytest.mark.parametrize("name", SAMPLES)
def test_only_the_changed_elements_differ_in_real_files(name: str, tmp_path: Path) -> None:
    instance = sample(name)
    before = pydicom.dcmread(instance.path)
    outgoing = splice(instance, patch(NEW, "PatientBirthDate"))
    after = reread(outgoing, tmp_path / "out.dcm")
    assert (after.PatientName, after.PatientID, after.AccessionNumber) == ("New^Name", "NEW1", "A-7")
    assert "PatientBirthDate" not in after
    touched = {tag_of(one) for one in ("PatientName", "PatientID", "AccessionNumber", "PatientBirthDate")}
    same = [e.tag for e in before if e.tag not in touched and e.tag.element != 0]
    assert [e.tag for e in after if e.tag not in touched and e.tag.element != 0] == same
    for tag in same:
        assert after.get_item(tag).value == before.get_item(tag).value


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_takes_nested_binary_and_foreign_text(syntax: str, tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "T1", "Rücken"
    inner = Dataset()
    inner.ReferencedFrameNumber, inner.ProcedureCodeSequence = 3, [code]
    dataset = small(SpecificCharacterSet="ISO_IR 100", PatientComments="größer", RequestAttributesSequence=[inner])
    instance = written(dataset, tmp_path / "in.dcm", syntax)
    sequence = Attributes.decode(pydicom_bytes(small_sequence()), implicit=False)
    outgoing = splice(instance, patch(Attributes({**Attributes.of({"PatientName": "Αλέξης"}), **sequence})))
    after = reread(outgoing, tmp_path / "out.dcm")
    assert after.SpecificCharacterSet == "ISO_IR 192"
    assert after.PatientName == "Αλέξης"
    assert after.PatientComments == "größer"
    assert after.RequestAttributesSequence[0].ProcedureCodeSequence[0].CodeMeaning == "Rücken"
    assert after.RequestAttributesSequence[0].ReferencedFrameNumber == 3
    assert after.ProcedureCodeSequence[0].CodeValue == "X"
    assert after.PixelData == bytes(range(32))
    assert after.Rows == 4


def small_sequence() -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "X", "plain"
    dataset = Dataset()
    dataset.ProcedureCodeSequence = [code]
    return dataset


def pydicom_bytes(dataset: Dataset) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def test_the_file_keeps_its_character_set_where_that_can_say_it(tmp_path: Path) -> None:
    dataset = small(SpecificCharacterSet="ISO_IR 100", PatientComments="größer")
    outgoing = splice(written(dataset, tmp_path / "in.dcm"), patch(Attributes.of({"PatientName": "Müller"})))
    after = reread(outgoing, tmp_path / "out.dcm")
    assert (after.SpecificCharacterSet, after.PatientName, after.PatientComments) == ("ISO_IR 100", "Müller", "größer")
    assert outgoing.length > len(small().PixelData), "the rest stays in the file"


def test_a_file_without_a_character_set_gets_one_when_it_needs_it(tmp_path: Path) -> None:
    outgoing = splice(written(small(), tmp_path / "in.dcm"), patch(Attributes.of({"PatientName": "Müller"})))
    after = reread(outgoing, tmp_path / "out.dcm")
    assert (after.SpecificCharacterSet, after.PatientName) == ("ISO_IR 192", "Müller")


def test_the_head_ends_behind_the_last_changed_element(tmp_path: Path) -> None:
    instance = written(small(), tmp_path / "in.dcm")
    outgoing = splice(instance, patch())
    whole = Path(instance.path).read_bytes()
    rest = whole[outgoing.offset :]
    assert rest.startswith(b"\x20\x00\x0d\x00UI"), "StudyInstanceUID is the first element left in the file"
    assert len(rest) == outgoing.length


def test_no_changes_send_the_file_as_it_is(tmp_path: Path) -> None:
    instance = written(small(), tmp_path / "in.dcm")
    assert splice(instance, patch(Attributes())) == Outgoing.untouched(instance)


def test_instance_uids_follow_the_data_set(tmp_path: Path) -> None:
    values = Attributes.of({"SOPInstanceUID": "1.9.9", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"})
    outgoing = splice(written(small(), tmp_path / "in.dcm"), patch(values))
    assert (outgoing.sop_instance_uid, outgoing.sop_class_uid) == ("1.9.9", "1.2.840.10008.5.1.4.1.1.4")


def test_group_lengths_of_touched_groups_go_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "in.dcm"
    written(small(), path)
    whole = path.read_bytes()
    at = whole.index(b"\x10\x00\x10\x00PN")
    lengths = b"\x10\x00\x00\x00UL\x04\x00\x24\x00\x00\x00"
    path.write_bytes(whole[:at] + lengths + whole[at:])
    after = dataset_bytes(splice(stored(path), patch()))
    assert lengths not in after
    untouched = dataset_bytes(splice(stored(path), patch(Attributes.of({"AccessionNumber": "1"}))))
    assert lengths in untouched


def test_elements_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "in.dcm"
    written(small(), path)
    whole = path.read_bytes()
    name = whole.index(b"\x10\x00\x10\x00PN")
    study = whole.index(b"\x20\x00\x0d\x00UI")
    rows = whole.index(b"\x28\x00\x02\x00US")
    path.write_bytes(whole[:name] + whole[study:rows] + whole[name:study] + whole[rows:])
    after = reread(splice(stored(path), patch()), tmp_path / "out.dcm")
    tags = [int(one.tag) for one in after]
    assert tags == sorted(tags)
    assert (after.PatientID, after.StudyInstanceUID, after.PixelData) == ("NEW1", "1.2.3", bytes(range(32)))


def test_a_head_longer_than_the_first_read_is_read_on(tmp_path: Path) -> None:
    dataset = small()
    block = dataset.private_block(0x0009, "TEST", create=True)
    block.add_new(1, "OB", bytes(100_000))
    after = reread(splice(written(dataset, tmp_path / "in.dcm"), patch()), tmp_path / "out.dcm")
    assert after.PatientID == "NEW1"
    assert len(after[0x0009, 0x1001].value) == 100_000


def test_deep_nesting_is_refused_and_not_recursed_into(tmp_path: Path) -> None:
    path = tmp_path / "in.dcm"
    instance = written(small(), path)
    whole = path.read_bytes()
    at = whole.index(b"\x08\x00\x60\x00CS")
    opening = b"\x08\x00\x51\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(whole[:at] + opening * 20_000 + whole[at:])
    broken = replace(instance, size=path.stat().st_size)
    with pytest.raises(BadInstance, match="nested deeper than 64"):
        splice(broken, patch())


@pytest.mark.parametrize("name", SAMPLES)
def test_reads_the_head_of_real_files_as_pydicom_does(name: str) -> None:
    instance = sample(name)
    before = pydicom.dcmread(instance.path)
    head = read_head(instance)
    assert head.text(tag_of("PatientID")) == str(before.get("PatientID", "")).strip()
    assert list(head) == [int(one.tag) for one in before if one.tag < 0x7FE00000]
    for element in before:
        if element.VR in {"US", "UL", "FD"} and element.tag in head and element.value is not None:
            expected = element.value if element.VM > 1 else [element.value]
            assert list(head.numbers(element.tag)) == list(expected)


@pytest.mark.parametrize("syntax", SYNTAXES[:2])
def test_heads_of_one_layout_are_converted_each_by_its_own_text(syntax: str, tmp_path: Path) -> None:
    greek = patch(Attributes.of({"PatientName": "Αλέξης"}))
    for number, (comment, meaning) in enumerate([("abcdef", "spine"), ("größer", "spine"), ("abcdef", "Rücke")]):
        code = Dataset()
        code.CodeValue, code.CodeMeaning = "T1", meaning
        dataset = small(SpecificCharacterSet="ISO_IR 100", PatientComments=comment, ProcedureCodeSequence=[code])
        outgoing = splice(written(dataset, tmp_path / f"{number}.dcm", syntax), greek)
        after = reread(outgoing, tmp_path / "out.dcm")
        assert (after.SpecificCharacterSet, after.PatientName) == ("ISO_IR 192", "Αλέξης")
        assert (after.PatientComments, after.ProcedureCodeSequence[0].CodeMeaning) == (comment, meaning)
        assert after.PixelData == bytes(range(32))


def test_a_character_set_that_cannot_say_it_becomes_unicode(tmp_path: Path) -> None:
    dataset = small(SpecificCharacterSet="ISO_IR 126", PatientComments="Ωμέγα")
    latin = Patch(Changes(Attributes(), charset=("ISO_IR 100",)))
    after = reread(splice(written(dataset, tmp_path / "in.dcm"), latin), tmp_path / "out.dcm")
    assert (after.SpecificCharacterSet, after.PatientComments) == ("ISO_IR 192", "Ωμέγα")

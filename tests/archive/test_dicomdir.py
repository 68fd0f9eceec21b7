"""Reading DICOMDIRs of every shape, and of none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.archive.dicomdir import Dicomdir
from gateway.archive.directorybytes import NotADicomdir
from gateway.archive.layout import Record
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from tests.archive.directories import Entry, Shape, tree

EXPECTED = [f"1.2.3.{p}.1.1.{i}" for p in (1, 2) for i in (1, 2)]


def read(path: Path, data: bytes) -> tuple[list[Record], Dicomdir]:
    path.write_bytes(data)
    with Dicomdir(path) as source:
        return [record for _, record in source.records()], source


def instances(records: list[Record]) -> list[str]:
    return [record.sop_instance_uid for record in records if record.file_id]


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(implicit=True),
        Shape(big=True),
        Shape(undefined_items=True),
        Shape(implicit=True, undefined_items=True),
        Shape(big=True, undefined_items=True),
        Shape(undefined_sequence=False),
        Shape(undefined_items=True, item_delimiters=False),
        Shape(undefined_items=True, item_delimiters=False, sequence_delimiter=False),
        Shape(sequence_delimiter=False),
        Shape(shift=-12),
        Shape(shift=128),
        Shape(shift=1000),
        Shape(implicit=True, shift=-8),
        Shape(links=False),
        Shape(links=False, big=True),
        Shape(first=False),
    ],
    ids=str,
)
def test_every_shape_gives_the_same_records(tmp_path: Path, shape: Shape) -> None:
    records, source = read(tmp_path / "DICOMDIR", shape.build(tree()))
    assert [record.type for record in records] == ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE"] * 2
    assert instances(records) == EXPECTED
    assert source.quarantined == []
    assert source.file_set_id == "TEST"
    patient = Attributes.decode(records[0].attributes, implicit=False)
    assert patient.text(tags.PatientName) == "Patient^1"
    assert records[3].file_id == "DICOM\\P1\\S1\\I1"


def test_only_the_usual_shape_is_extended_in_place(tmp_path: Path) -> None:
    assert read(tmp_path / "DICOMDIR", Shape().build(tree()))[1].appendable
    for other in (Shape(implicit=True), Shape(undefined_sequence=False), Shape(undefined_items=True), Shape(shift=8)):
        assert not read(tmp_path / "DICOMDIR", other.build(tree()))[1].appendable


def test_inactive_records_hide_what_is_below_them(tmp_path: Path) -> None:
    entries = tree()
    entries[1].in_use = False
    entries[8].in_use = False
    records, _ = read(tmp_path / "DICOMDIR", Shape().build(entries))
    assert instances(records) == ["1.2.3.2.1.1.2"]


def test_each_record_has_its_own_character_set(tmp_path: Path) -> None:
    entries = tree(patients=2)
    entries[0].values |= {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller"}
    records, _ = read(tmp_path / "DICOMDIR", Shape().build(entries))
    assert Attributes.decode(records[0].attributes, implicit=False).text(tags.PatientName) == "Müller"


def test_a_cycle_ends_and_is_told(tmp_path: Path) -> None:
    data = bytearray(Shape().build(tree()))
    second = data.index(b"IMAGE ", data.index(b"IMAGE ") + 1) - 50
    struct.pack_into("<L", data, second + 16, second)
    records, source = read(tmp_path / "DICOMDIR", bytes(data))
    assert instances(records) == EXPECTED
    assert [one.reason for one in source.quarantined] == ["link leads back to a record seen before"]


def test_a_private_record_does_not_disturb(tmp_path: Path) -> None:
    entries = tree()
    entries.append(Entry(-1, "PRIVATE", {"PrivateRecordUID": "1.2.3.4", "PatientID": "X"}))
    records, source = read(tmp_path / "DICOMDIR", Shape().build(entries))
    assert instances(records) == EXPECTED
    assert source.quarantined == []


def test_a_truncated_tail_costs_what_is_cut_and_no_more(tmp_path: Path) -> None:
    whole = Shape().build(tree())
    records, source = read(tmp_path / "DICOMDIR", whole[:-100])
    assert instances(records) == EXPECTED[:3]
    assert [one.reason for one in source.quarantined] == ["record runs past the end of the file"]


def test_a_file_cut_in_its_first_record_is_read_to_its_end(tmp_path: Path) -> None:
    whole = Shape(shift=128).build(tree())
    begin = read(tmp_path / "WHOLE", whole)[1].items_at
    for cut in range(begin, begin + 24):
        records, _ = read(tmp_path / "CUT", whole[:cut])
        assert records == []


def test_one_bad_record_is_put_aside_and_its_sisters_stay(tmp_path: Path) -> None:
    data = bytearray(Shape().build(tree()))
    first = data.index(b"IMAGE ")
    data[first + 6 : first + 14] = b"\4\0\0\x15CS\xff\x7f"  # the File ID's length is absurd
    records, source = read(tmp_path / "DICOMDIR", bytes(data))
    assert instances(records) == EXPECTED[1:]
    assert len(source.quarantined) == 1


@pytest.mark.parametrize("data", [b"", b"rubbish", bytes(1000), bytes(128) + b"DICM", Shape().build(tree())[:200]])
def test_what_is_no_dicomdir_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotADicomdir):
        read(tmp_path / "DICOMDIR", data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_the_bytes_reading_ends(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(Shape(undefined_items=data.draw(st.booleans())).build(tree()))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(140, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(140, len(whole)))
    try:
        records, _ = read(tmp_path_factory.getbasetemp() / "DICOMDIR", bytes(whole[:cut]))
    except NotADicomdir:
        return
    assert len(records) <= 10

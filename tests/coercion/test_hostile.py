"""Bytes that are no data set, or hardly one: an error of ours, never another, and never a wrong instance."""

from __future__ import annotations

import tempfile
import zlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_charset_files

from gateway.coercion import splice as splice_module
from gateway.coercion.changes import Changes
from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.parser import parse_rules
from gateway.coercion.patch import Patch
from gateway.coercion.rules import Where
from gateway.coercion.splice import read_head, splice
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import StoredInstance
from gateway.errors import BadInstance, GatewayError, StorageError
from tests.coercion.files import dataset_bytes, reread, sample, small, stored, written

NEW = Patch(Changes(Attributes.of({"PatientName": "Neu^Jörg", "PatientID": "N", "StudyID": "S"})))
RULES = parse_rules(
    "rules:\n"
    "- {name: a, where: sent, when: {attribute: Modality, equals: CT}, then: [set: {PatientComments: x}]}\n"
    "- {name: b, where: sent, then: [copy: {'ProcedureCodeSequence[0].CodeValue': PatientID}, trim_iso2022: true]}\n"
    "- {name: c, where: sent, then: [charset: ISO_IR 100], priority: -1}\n"
)
EVERYTHING = plan(RULES, Where.SENT, Context("A", "B"))
HEADS = [sample(name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "reportsi.dcm")]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(HEADS),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    st.integers(0, 3000),
    st.booleans(),
)
def test_spoilt_files_are_refused_in_our_words(
    instance: StoredInstance, edits: list[tuple[int, bytes]], length: int, cut: bool
) -> None:
    data = bytearray(Path(instance.path).read_bytes()[instance.dataset_offset :])
    for at, new in edits:
        data[at : at + len(new)] = new
    if cut:
        del data[length:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoilt"
        path.write_bytes(data)
        spoilt = replace(instance, path=str(path), size=len(data), dataset_offset=0)
        for work in (partial(splice, patch=NEW), EVERYTHING.apply_to_instance, read_head):
            with suppress(GatewayError):
                work(spoilt)


@pytest.mark.parametrize("path", list(get_charset_files("*.dcm")), ids=lambda p: Path(p).stem)
def test_text_of_every_character_set_survives_conversion(path: str, tmp_path: Path) -> None:
    instance = stored(Path(path))
    before = pydicom.dcmread(path)
    made = plan(parse_rules("rules: [{name: c, where: sent, then: [charset: ISO_IR 192]}]"), Where.SENT, Context())
    after = reread(made.apply_to_instance(instance), tmp_path / "out.dcm")
    for dataset in (before, after):
        dataset.decode()
    if "PatientName" in before:
        assert str(after.PatientName).rstrip() == str(before.PatientName).rstrip()
    assert after.SpecificCharacterSet == "ISO_IR 192"


def test_a_deflate_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice_module, "_MAX_INFLATED", 1 << 20)
    instance = written(small(), tmp_path / "in.dcm", "1.2.840.10008.1.2.1.99")
    whole = Path(instance.path).read_bytes()
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = whole[: instance.dataset_offset] + stream.compress(bytes(2 << 20)) + stream.flush()
    Path(instance.path).write_bytes(bomb)
    with pytest.raises(BadInstance, match="inflates to more than"):
        splice(replace(instance, size=len(bomb)), NEW)


def test_files_that_are_gone_or_cut_are_refused(tmp_path: Path) -> None:
    instance = written(small(), tmp_path / "in.dcm")
    with pytest.raises(BadInstance, match="shorter than the index says"):
        splice(replace(instance, size=instance.size + 10), NEW)
    Path(instance.path).unlink()
    with pytest.raises(StorageError):
        splice(instance, NEW)


def test_a_layout_that_only_seems_known_is_not_taken_for_it(tmp_path: Path) -> None:
    patch = Patch(Changes(Attributes.of({"PatientID": "LONGER-ID"})))
    first = written(small(), tmp_path / "1.dcm")
    others = [
        small(SOPInstanceUID="1.2.3.4.55555"),
        small(PatientName="Doe^Johnny"),
        small(SpecificCharacterSet="ISO_IR 100"),
        small(StudyDescription="x"),
        small(PatientBirthDate="19700101"),
    ]
    assert b"LONGER-ID" in dataset_bytes(splice(first, patch))
    for number, one in enumerate(others):
        instance = written(one, tmp_path / f"o{number}.dcm")
        after = reread(splice(instance, patch), tmp_path / f"a{number}.dcm")
        assert after.PatientID == "LONGER-ID"
        one.PatientID = "LONGER-ID"
        assert {e.tag: e.value for e in after} == {e.tag: e.value for e in one}


def test_what_lies_behind_the_bytes_at_hand_is_not_taken_for_the_end(tmp_path: Path) -> None:
    patch = Patch(Changes(Attributes.of({"StudyID": "S", "PatientName": "Αλέξης"})))
    long = "x" * 9000  # two of them: the head ends behind the first read
    texts = {"AdditionalPatientHistory": long, "PatientComments": long, "PixelData": None}
    ends_here, goes_on = small(**texts), small(**texts, StudyID="OLD", RequestedProcedureComments="größer")
    goes_on.SpecificCharacterSet = ends_here.SpecificCharacterSet = "ISO_IR 100"
    for one in (ends_here, goes_on):
        for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "SeriesInstanceUID"):
            del one[keyword]
    del ends_here["StudyInstanceUID"]
    del goes_on["StudyInstanceUID"]
    for number, one in enumerate([ends_here, goes_on, ends_here]):
        instance = written(one, tmp_path / f"{number}.dcm")
        after = reread(splice(instance, patch), tmp_path / "out.dcm")
        assert [e.tag for e in after if e.keyword == "StudyID"] == [0x00200010]
        assert (after.StudyID, after.PatientName) == ("S", "Αλέξης")
        assert after.get("RequestedProcedureComments") == one.get("RequestedProcedureComments")
        assert dataset_bytes(splice(instance, patch)).count(b"\x20\x00\x10\x00SH") == 1


def test_a_patient_id_out_of_place_is_found_in_each_instance(tmp_path: Path) -> None:
    patch = Patch(Changes(Attributes.of({"PatientID": "NEW"})))
    bare = small()
    del bare["PatientID"]
    in_order = written(bare, tmp_path / "1.dcm")
    whole = Path(in_order.path).read_bytes()
    at = whole.index(b"\x28\x00\x02\x00US")
    misplaced = b"\x10\x00\x20\x00LO\x02\x00P1"
    (tmp_path / "2.dcm").write_bytes(whole[:at] + misplaced + whole[at:])
    for instance in (in_order, stored(tmp_path / "2.dcm")):
        assert dataset_bytes(splice(instance, patch)).count(b"\x10\x00\x20\x00LO") == 1

"""The shape of an answer: what was asked for, in the asker's character set, never without its unique key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import metrics
from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.identifier import Query
from gateway.dicom.models import Level, Model
from gateway.dicom.tags import tag_of
from gateway.query.projection import ProjectedSource, Projection
from tests.query.asking import ask, query, uids
from tests.query.doubles import MemoryArchive, instance

CODES = tag_of("ProcedureCodeSequence")
ALWAYS = {tags.QueryRetrieveLevel, tags.RetrieveAETitle}


def shaped(asked: Query, entity: Attributes) -> Attributes:
    answer = Projection(asked, "GATEWAY").answer(entity)
    assert answer is not None
    return answer


def test_exactly_the_requested_keys_with_zero_length_where_unknown() -> None:
    answer = shaped(query(PatientName="", StudyDescription="", PatientComments=""), instance(1))
    keys = {tags.PatientName, tag_of("StudyDescription"), tag_of("PatientComments"), tags.StudyInstanceUID}
    assert set(answer) == keys | ALWAYS
    assert answer[tag_of("PatientComments")].value == b""
    assert answer.text(tags.RetrieveAETitle) == "GATEWAY"
    assert answer.text(tags.QueryRetrieveLevel) == "STUDY"


@pytest.mark.parametrize(
    ("level", "model", "expected"),
    [
        (Level.PATIENT, Model.PATIENT_ROOT, {tags.PatientID}),
        (Level.SERIES, Model.PATIENT_ROOT, {tags.PatientID, tags.StudyInstanceUID, tags.SeriesInstanceUID}),
        (Level.SERIES, Model.STUDY_ROOT, {tags.StudyInstanceUID, tags.SeriesInstanceUID}),
        (Level.IMAGE, Model.STUDY_ROOT, {tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID}),
    ],
)
def test_the_unique_keys_of_the_level_and_above(level: Level, model: Model, expected: set[int]) -> None:
    answer = shaped(query(level, model), instance(1))
    assert set(answer) == expected | ALWAYS
    assert all(answer.text(tag) for tag in expected)


def test_a_unique_key_above_is_the_requested_one_where_the_source_left_it_out() -> None:
    entity = instance(1).without([tags.StudyInstanceUID])
    assert shaped(query(Level.SERIES, StudyInstanceUID="1.2.1"), entity).text(tags.StudyInstanceUID) == "1.2.1"


def test_availability_is_told() -> None:
    entity = Attributes({**instance(1), tags.InstanceAvailability: Element("CS", b"NEARLINE")})
    assert shaped(query(), entity).text(tags.InstanceAvailability) == "NEARLINE"


@pytest.mark.parametrize(
    ("asked", "stored", "name", "expected"),
    [
        ((), (), "Doe", ()),
        (("ISO_IR 100",), (), "Doe", ("ISO_IR 100",)),
        (("ISO_IR 100",), ("ISO_IR 192",), "Müller", ("ISO_IR 100",)),
        ((), ("ISO_IR 100",), "Müller", ("ISO_IR 192",)),
        (("ISO_IR 100",), ("ISO_IR 192",), "山田", ("ISO_IR 192",)),
        (("ISO_IR 192",), ("GB18030",), "王", ("ISO_IR 192",)),
        (("", "ISO 2022 IR 87"), ("ISO_IR 192",), "山田", ("", "ISO 2022 IR 87")),
    ],
)
def test_the_character_set_is_the_askers_if_it_has_the_characters(
    asked: tuple[str, ...], stored: tuple[str, ...], name: str, expected: tuple[str, ...]
) -> None:
    entity = Attributes.of({"StudyInstanceUID": "1.2", "PatientName": name}, terms=stored)
    answer = shaped(query(terms=asked, PatientName=""), entity)
    assert answer.terms == expected
    assert answer.text(tags.PatientName) == name


def with_codes(*items: dict[str, str]) -> Attributes:
    bodies = [Attributes.of(one).encode(implicit=False) for one in items]
    return Attributes({**instance(1), CODES: Element("SQ", b"".join(map(encoding.item, bodies)))})


def asking_codes(**keys: str) -> Query:
    plain = query()
    item = encoding.item(Attributes.of(keys).encode(implicit=False))
    return replace(plain, keys=Attributes({**plain.keys, CODES: Element("SQ", item)}))


def test_a_sequence_returns_the_requested_keys_of_its_matching_items() -> None:
    entity = with_codes(
        {"CodeValue": "A", "CodeMeaning": "Head", "CodingSchemeDesignator": "L"},
        {"CodeValue": "B", "CodeMeaning": "Arm"},
    )
    (item,) = shaped(asking_codes(CodeValue="A", CodeMeaning=""), entity).sequence(CODES)
    assert item == Attributes.of({"CodeValue": "A", "CodeMeaning": "Head"})
    assert len(shaped(asking_codes(CodeValue=""), entity).sequence(CODES)) == 2
    assert shaped(asking_codes(), entity).sequence(CODES) == entity.sequence(CODES)


def test_an_answer_without_its_unique_key_is_dropped_and_counted() -> None:
    counted = metrics.QUERY_ANSWERS_DROPPED.labels("STUDY")._value
    before = counted.get()
    archive = MemoryArchive([instance(1), instance(2, StudyInstanceUID="")])
    assert uids(ask(ProjectedSource(archive, "GATEWAY"), query())) == ["1.2.1"]
    assert counted.get() - before == 1


@given(st.sets(st.sampled_from(sorted(instance(1)))), st.text(st.characters(codec="utf-8"), max_size=8))
def test_never_a_tag_that_was_not_asked_for(wanted: set[int], name: str) -> None:
    entity = instance(1, PatientName=name.replace("\\", ""))
    asked = Query(Model.STUDY_ROOT, Level.STUDY, Attributes({tag: Element(entity[tag].vr, b"") for tag in wanted}))
    answer = shaped(asked, entity)
    allowed = wanted | ALWAYS | {tags.StudyInstanceUID, tags.SpecificCharacterSet}
    assert set(answer) <= allowed
    assert all(answer.text(tag) == entity.text(tag) for tag in wanted - {tags.SpecificCharacterSet})

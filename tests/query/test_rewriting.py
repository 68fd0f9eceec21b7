"""Queries made out of queries: what a leading archive and the local one are asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicom import encoding, matching, tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.identifier import Negotiated, Query, parse_query
from gateway.dicom.models import LEADING_ATTRIBUTES, Level, Model, level_of
from gateway.dicom.tags import tag_of
from gateway.query import rewriting
from tests.query.asking import query

KEYWORDS = ["PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "Modality", "ModalitiesInStudy",
            "StudyDescription", "SeriesDescription", "NumberOfStudyRelatedInstances", "PatientBirthDate"]  # fmt: skip
VALUES = {"StudyDate": "20240131-", "StudyTime": "10-11", "PatientBirthDate": "19700101", "PatientName": "Müller*",
          "NumberOfStudyRelatedInstances": "3"}  # fmt: skip
KEYS = st.dictionaries(st.sampled_from(KEYWORDS), st.booleans(), min_size=1)


def made(keys: dict[str, bool], level: Level = Level.STUDY, negotiated: Negotiated | None = None) -> Query:
    values = {keyword: VALUES.get(keyword, "X*") if given else "" for keyword, given in keys.items()}
    return query(level, Model.STUDY_ROOT, negotiated, (), **values)


@given(KEYS, st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]), st.booleans())
def test_a_leading_archive_restricts_by_what_it_is_the_authority_for_only(
    keys: dict[str, bool], level: Level, combined: bool
) -> None:
    asked = made(keys, level, Negotiated(combined_datetime=combined))
    upstream = rewriting.for_leading(asked)
    assert upstream.model is Model.STUDY_ROOT
    assert set(upstream.keys) >= set(asked.keys) - {tags.SpecificCharacterSet}
    restricting = {key.tag for key in matching.compile(upstream).keys}
    assert all(tag in LEADING_ATTRIBUTES or level_of(tag) is Level.SERIES for tag in restricting)
    assert not (combined and tags.StudyTime in restricting), "apart they would find too little"
    assert upstream.keys.is_ascii() or upstream.keys.terms == ("ISO_IR 192",)


@given(KEYS)
def test_a_look_up_is_matched_by_uids_alone(keys: dict[str, bool]) -> None:
    asked = rewriting.returning(made(keys), Level.STUDY, ["1.2", "1.3"])
    assert [key.tag for key in matching.compile(asked).keys] == [tags.StudyInstanceUID]
    assert set(asked.keys) >= set(made(keys).keys)


@given(KEYS)
def test_without_upper_leaves_what_is_below(keys: dict[str, bool]) -> None:
    left = rewriting.without_upper(made(keys, Level.SERIES))
    assert all(level_of(key.tag) is Level.SERIES for key in matching.compile(left).keys)


@given(KEYS)
def test_the_studies_of_a_patient_query_have_patient_keys_only(keys: dict[str, bool]) -> None:
    asked = query(Level.PATIENT, Model.PATIENT_ROOT, None, (), **dict.fromkeys(keys, ""))
    studies = rewriting.studies_of(asked)
    assert studies.level is Level.STUDY
    assert {level_of(tag) for tag in studies.keys} - {Level.STUDY} == {Level.PATIENT}
    assert set(studies.keys) >= {tags.StudyInstanceUID, tags.PatientID}


def test_a_blanked_sequence_keeps_its_shape() -> None:
    codes = tag_of("ProcedureCodeSequence")
    item = encoding.item(Attributes.of({"CodeValue": "A", "CodeMeaning": "B"}).encode(implicit=False))
    blanked = rewriting.blank(Attributes({codes: Element("SQ", item)}), [codes])
    (inside,) = blanked.sequence(codes)
    assert set(inside) == {tag_of("CodeValue"), tag_of("CodeMeaning")}
    assert not any(element.value for element in inside.values())


@given(KEYS, st.permutations(KEYWORDS))
def test_equal_queries_have_one_canonical_form(keys: dict[str, bool], order: list[str]) -> None:
    shuffled = {name: keys[name] for name in order if name in keys}
    assert made(keys).canonical == made(shuffled).canonical
    assert made(keys).canonical != made({**keys, "StudyDate": not keys.get("StudyDate", False)}).canonical


@pytest.mark.parametrize("flag", ["relational", "combined_datetime", "empty_value", "multiple_value"])
def test_what_was_negotiated_is_part_of_the_canonical_form(flag: str) -> None:
    keys = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
    plain = parse_query(keys, Model.STUDY_ROOT, Negotiated())
    assert parse_query(keys, Model.STUDY_ROOT, Negotiated(**{flag: True})).canonical != plain.canonical

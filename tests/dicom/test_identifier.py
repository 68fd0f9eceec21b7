import pytest

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import InvalidIdentifier, Negotiated, parse_query, parse_retrieve
from gateway.dicom.models import Level, Model, level_of
from gateway.dicom.tags import tag_of


def identifier(level: str, **keys: str) -> Attributes:
    return Attributes.of({"QueryRetrieveLevel": level, **keys})


@pytest.mark.parametrize(
    ("model", "keys", "offending"),
    [
        (Model.STUDY_ROOT, {"level": ""}, tags.QueryRetrieveLevel),
        (Model.STUDY_ROOT, {"level": "PATIENT"}, tags.QueryRetrieveLevel),
        (Model.PATIENT_STUDY_ONLY, {"level": "SERIES"}, tags.QueryRetrieveLevel),
        (Model.STUDY_ROOT, {"level": "study"}, tags.QueryRetrieveLevel),
        (Model.STUDY_ROOT, {"level": "SERIES"}, tags.StudyInstanceUID),
        (Model.STUDY_ROOT, {"level": "SERIES", "StudyInstanceUID": "1.2\\1.3"}, tags.StudyInstanceUID),
        (Model.STUDY_ROOT, {"level": "SERIES", "StudyInstanceUID": "*"}, tags.StudyInstanceUID),
        (Model.PATIENT_ROOT, {"level": "STUDY"}, tags.PatientID),
        (Model.PATIENT_ROOT, {"level": "STUDY", "PatientID": "7*"}, tags.PatientID),
        (Model.STUDY_ROOT, {"level": "STUDY", "StudyInstanceUID": "one"}, tags.StudyInstanceUID),
        (Model.STUDY_ROOT, {"level": "STUDY", "StudyInstanceUID": "1." * 40 + "1"}, tags.StudyInstanceUID),
    ],
)
def test_a_malformed_query_names_the_offending_element(model: Model, keys: dict[str, str], offending: int) -> None:
    level = keys.pop("level")
    with pytest.raises(InvalidIdentifier) as refused:
        parse_query(identifier(level, **keys), model, Negotiated())
    assert refused.value.offending == (offending,)
    assert 0 < len(refused.value.comment) <= 64


def test_relational_queries_need_no_key_above_the_level() -> None:
    asked = identifier("IMAGE", SOPInstanceUID="1.2.3")
    relational = parse_query(asked, Model.STUDY_ROOT, Negotiated(relational=True))
    lenient = parse_query(asked, Model.STUDY_ROOT, Negotiated(), lenient=True)
    assert relational.uids(Level.IMAGE) == lenient.uids(Level.IMAGE) == ("1.2.3",)


def test_what_is_no_key_is_left_out() -> None:
    asked = identifier("STUDY", RetrieveAETitle="X", TimezoneOffsetFromUTC="+0100", PatientName="Müller")
    query = parse_query(asked, Model.STUDY_ROOT, Negotiated())
    assert set(query.keys) == {tags.SpecificCharacterSet, tags.PatientName}
    assert query.keys.text(tags.PatientName) == "Müller"


def test_equal_questions_have_one_canonical_spelling() -> None:
    first = parse_query(identifier("STUDY", PatientID="7", StudyDate=""), Model.STUDY_ROOT, Negotiated())
    second = parse_query(identifier("STUDY", StudyDate="", PatientID="7"), Model.STUDY_ROOT, Negotiated())
    other_returns = parse_query(identifier("STUDY", PatientID="7"), Model.STUDY_ROOT, Negotiated())
    other_level = parse_query(identifier("PATIENT", PatientID="7"), Model.PATIENT_ROOT, Negotiated())
    assert first.canonical == second.canonical
    assert len({first.canonical, other_returns.canonical, other_level.canonical}) == 3


def test_a_lone_asterisk_is_universal() -> None:
    query = parse_query(identifier("STUDY", StudyInstanceUID="*"), Model.STUDY_ROOT, Negotiated())
    assert query.uids(Level.STUDY) == ()


@pytest.mark.parametrize(
    ("model", "keys", "offending"),
    [
        (Model.STUDY_ROOT, {"level": "STUDY"}, tags.StudyInstanceUID),
        (Model.STUDY_ROOT, {"level": "STUDY", "StudyInstanceUID": "*"}, tags.StudyInstanceUID),
        (Model.STUDY_ROOT, {"level": "SERIES", "SeriesInstanceUID": "1.2"}, tags.StudyInstanceUID),
        (Model.PATIENT_ROOT, {"level": "PATIENT", "PatientID": "A?"}, tags.PatientID),
        (Model.PATIENT_ROOT, {"level": "STUDY", "StudyInstanceUID": "1.2"}, tags.PatientID),
    ],
)
def test_a_malformed_retrieve_names_the_offending_element(model: Model, keys: dict[str, str], offending: int) -> None:
    level = keys.pop("level")
    with pytest.raises(InvalidIdentifier) as refused:
        parse_retrieve(identifier(level, **keys), model)
    assert refused.value.offending == (offending,)


def test_a_retrieve_takes_a_list_of_uids_at_its_level() -> None:
    asked = identifier("SERIES", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1\\1.2.2")
    retrieve = parse_retrieve(asked, Model.STUDY_ROOT)
    assert retrieve.uids == {Level.STUDY: ("1.2",), Level.SERIES: ("1.2.1", "1.2.2")}


@pytest.mark.parametrize(
    ("keyword", "level"),
    [
        ("PatientBirthDate", Level.PATIENT),
        ("NumberOfPatientRelatedStudies", Level.PATIENT),
        ("AccessionNumber", Level.STUDY),
        ("ModalitiesInStudy", Level.STUDY),
        ("Modality", Level.SERIES),
        ("NumberOfSeriesRelatedInstances", Level.SERIES),
        ("InstanceNumber", Level.IMAGE),
        ("Rows", Level.IMAGE),
    ],
)
def test_every_attribute_has_its_level(keyword: str, level: Level) -> None:
    assert level_of(tag_of(keyword)) is level

"""PS3.4 C.2.2.2, rule by rule, then properties that hold for any text."""

import fnmatch
import re
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.dicom import encoding, matching, moments, names, tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.identifier import InvalidIdentifier, Negotiated, Query
from gateway.dicom.keys import Empties, NameKey, RangeKey, TextKey, UIDKey
from gateway.dicom.models import Level, Model
from gateway.dicom.patterns import WildCard, name_pattern
from gateway.dicom.tags import tag_of, vr_of


def query(
    keys: Attributes,
    *,
    level: Level = Level.IMAGE,
    model: Model = Model.STUDY_ROOT,
    negotiated: Negotiated | None = None,
) -> Query:
    return Query(model, level, keys, negotiated or Negotiated())


def verdict(keyword: str, key: str, value: str, negotiated: Negotiated | None = None) -> bool:
    matcher = matching.compile(query(Attributes.of({keyword: key}), negotiated=negotiated))
    return matcher.matches(Attributes.of({keyword: value}))


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("AccessionNumber", "A1", "A1", True),
        ("AccessionNumber", "A1", "a1", False),
        ("AccessionNumber", "A1", "A12", False),
        ("AccessionNumber", "A1", " A1 ", True),
        ("StudyDescription", "Kopf*", "Kopf nativ", True),
        ("StudyDescription", "kopf*", "Kopf nativ", False),
        ("StudyDescription", "K?pf*", "Köpfe", True),
        ("StudyDescription", "*nat?v", "Kopf nativ", True),
        ("StudyDescription", "?", "", False),
        ("StudyDescription", "a.c", "abc", False),
        ("StudyDescription", "[a]*", "a", False),
        ("StudyDescription", "*", "anything", True),
        ("StudyDescription", "Cafe\u0301", "Café", True),
        ("Modality", "C?", "CT", True),
        ("Modality", "CT\\MR", "MR", True),
        ("Modality", "CT\\MR", "US", False),
        ("ModalitiesInStudy", "MR", "CT\\MR", True),
        ("ModalitiesInStudy", "US", "CT\\MR", False),
        ("StudyInstanceUID", "1.2.3", "1.2.3", True),
        ("StudyInstanceUID", "1.2.3\\1.2.4", "1.2.4", True),
        ("StudyInstanceUID", "1.2.3\\1.2.4", "1.2.34", False),
        ("StudyInstanceUID", "*", "1.2.4", True),
        ("InstanceNumber", "1", "01", True),
        ("InstanceNumber", "1", "10", False),
        ("PatientAge", "030Y", "030Y", True),
        ("TextValue", "a\\b", "a\\b", True),
        ("TextValue", "a\\b", "a", False),
    ],
)
def test_single_value_list_and_wild_card(keyword: str, key: str, value: str, expected: bool) -> None:
    assert verdict(keyword, key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DOE^JOHN", "Doe^John", True),
        ("doe^john^^^", "Doe^John", True),
        ("Doe^John", "Doe ^ John ^^", True),
        ("Doe", "Doe^John", False),
        ("Doe*", "Doe^John", True),
        ("Doe^*", "Doe", True),
        ("Doe^*", "Doering^John", False),
        ("Doe^*^*", "Doe^John^M", True),
        ("D*^J*", "Doe^John", True),
        ("muller^*", "Müller^Jörg", True),
        ("Müller^Jörg", "MULLER^JORG", True),
        ("Strasse", "Straße", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("==やまだ*", "Yamada^Tarou=山田^太郎", False),
        ("ヤマダ^タロウ", "ﾔﾏﾀﾞ^ﾀﾛｳ", True),
        ("かき", "がき", False),
        ("^John", "Doe^John", False),
        ("*", "Doe^John", True),
        ("=", "Doe^John", True),
    ],
)
def test_names_by_component_group_without_case_and_accents(key: str, value: str, expected: bool) -> None:
    assert verdict("PatientName", key, value) is expected


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("StudyDate", "20240131", "20240131", True),
        ("StudyDate", "20240131", "2024.01.31", True),
        ("StudyDate", "2024.01.31", "20240131", True),
        ("StudyDate", "20240101-20240131", "20240131", True),
        ("StudyDate", "20240101-20240131", "20240201", False),
        ("StudyDate", "20240101-20240131", "20240101", True),
        ("StudyDate", "20240101-", "20231231", False),
        ("StudyDate", "-20240101", "20231231", True),
        ("StudyDate", "20240201-20240231", "20240215", True),
        ("StudyDate", "20240101-", "unknown", False),
        ("StudyDate", "20240131-20240101", "20240115", False),
        ("StudyDate", "*", "20240131", True),
        ("StudyTime", "10", "105959.999999", True),
        ("StudyTime", "10", "110000", False),
        ("StudyTime", "1030", "103059", True),
        ("StudyTime", "10-11", "115959", True),
        ("StudyTime", "-1030", "103059.5", True),
        ("StudyTime", "10:30:00-10:31", "103100.1", True),
        ("StudyTime", "23-01", "233000", False),
        ("StudyTime", "1000-", "10", True),
        ("StudyTime", "120000.5", "120000.500", True),
        ("AcquisitionDateTime", "2024", "20240131120000", True),
        ("AcquisitionDateTime", "2023-2024", "20240131120000", True),
        ("AcquisitionDateTime", "2024-0500", "20240101", True),
        ("AcquisitionDateTime", "20240131120000+0100-20240131130000+0100", "20240131113000+0000", True),
        ("AcquisitionDateTime", "20240131120000+0100-20240131130000+0100", "20240131123000+0000", False),
        ("AcquisitionDateTime", "-20240131", "20240131235959", True),
        ("AcquisitionDateTime", "20240131120000.25", "20240131120000.250000", True),
    ],
)
def test_dates_and_times(keyword: str, key: str, value: str, expected: bool) -> None:
    assert verdict(keyword, key, value) is expected


COMBINED = Negotiated(combined_datetime=True)


@pytest.mark.parametrize(
    ("day", "hour", "negotiated", "expected"),
    [
        ("20240102", "080000", Negotiated(), False),  # each for itself: 08 is not in 10-11
        ("20240102", "080000", COMBINED, True),
        ("20240101", "080000", COMBINED, False),
        ("20240103", "113000", COMBINED, True),
        ("20240103", "120000", COMBINED, False),
        ("20240102", "", COMBINED, True),
    ],
)
def test_date_and_time_are_one_range_only_when_negotiated(
    day: str, hour: str, negotiated: Negotiated, expected: bool
) -> None:
    keys = Attributes.of({"StudyDate": "20240101-20240103", "StudyTime": "10-11"})
    matcher = matching.compile(query(keys, negotiated=negotiated))
    assert matcher.matches(Attributes.of({"StudyDate": day, "StudyTime": hour})) is expected


@pytest.mark.parametrize(
    ("dates", "times", "value", "expected"),
    [
        ("20240101-", "10-", "20240101 09", False),
        ("20240101-", "10-", "20250101 09", True),
        ("-20240101", "-10", "20240101 11", False),
        ("20240101-20240102", "10-", "20240102 235959", True),
        ("20240101-20240102", "-10", "20240101 00", True),
    ],
)
def test_open_ends_of_a_combined_range(dates: str, times: str, value: str, expected: bool) -> None:
    day, hour = value.split()
    matcher = matching.compile(query(Attributes.of({"StudyDate": dates, "StudyTime": times}), negotiated=COMBINED))
    assert matcher.matches(Attributes.of({"StudyDate": day, "StudyTime": hour})) is expected


@pytest.mark.parametrize(
    ("keyword", "key"),
    [
        ("StudyDate", "2024013"),
        ("StudyDate", "20241301"),
        ("StudyDate", "-"),
        ("StudyDate", "2024*"),
        ("StudyDate", "20240101-20240102-20240103"),
        ("StudyTime", "25"),
        ("StudyTime", "noon"),
        ("AcquisitionDateTime", "20240131120000+9900"),
        ("AcquisitionDateTime", "2024.5"),
        ("SOPClassUID", "1.2.*"),
        ("SOPClassUID", "1.2." + "3" * 64),
        ("InstanceNumber", "1*"),
    ],
)
def test_an_impossible_value_names_its_element_and_not_the_value(keyword: str, key: str) -> None:
    with pytest.raises(InvalidIdentifier) as refused:
        matching.compile(query(Attributes.of({keyword: key})))
    assert refused.value.offending == (tag_of(keyword),)
    assert keyword in refused.value.comment
    assert key not in refused.value.comment


def with_sequence(
    *items: dict[str, str], keyword: str = "ProcedureCodeSequence", terms: tuple[str, ...] = ()
) -> Attributes:
    bodies = [Attributes.of(one, terms=terms).without([tags.SpecificCharacterSet]) for one in items]
    value = b"".join(encoding.item(body.encode(implicit=False)) for body in bodies)
    head = Attributes.of({"SpecificCharacterSet": terms[0]} if terms else {})
    return Attributes({**head, tag_of(keyword): Element("SQ", value)})


def test_a_sequence_matches_when_one_item_meets_all_keys() -> None:
    matcher = matching.compile(
        query(with_sequence({"CodeValue": "T-1", "CodingSchemeDesignator": "SRT", "CodeMeaning": ""}))
    )
    both = [{"CodeValue": "T-1", "CodingSchemeDesignator": "SRT"}, {"CodeValue": "X"}]
    apart = [{"CodeValue": "T-1", "CodingSchemeDesignator": "DCM"}, {"CodeValue": "X", "CodingSchemeDesignator": "SRT"}]
    assert matcher.matches(with_sequence(*both))
    assert not matcher.matches(with_sequence(*apart))
    assert not matcher.matches(with_sequence())


def test_sequence_items_are_read_in_the_data_sets_character_set() -> None:
    matcher = matching.compile(query(with_sequence({"CodeMeaning": "Rücken"}, terms=("ISO_IR 100",))))
    assert matcher.matches(with_sequence({"CodeMeaning": "Rücken"}, terms=("ISO_IR 192",)))


@pytest.mark.parametrize("keys", [with_sequence(), with_sequence({}), with_sequence({"CodeValue": ""})])
def test_an_empty_item_is_universal(keys: Attributes) -> None:
    assert matching.compile(query(keys)).keys == ()


def test_a_sequence_key_has_one_item() -> None:
    with pytest.raises(InvalidIdentifier):
        matching.compile(query(with_sequence({"CodeValue": "1"}, {"CodeValue": "2"})))


@pytest.mark.parametrize(
    ("query_terms", "entity_terms"),
    [
        (("ISO_IR 192",), ("ISO_IR 100",)),
        (("ISO_IR 100",), ("ISO_IR 192",)),
        (("ISO_IR 192",), ("", "ISO 2022 IR 100")),
    ],
)
def test_text_is_compared_as_unicode(query_terms: tuple[str, ...], entity_terms: tuple[str, ...]) -> None:
    keys = Attributes.of({"StudyDescription": "Schädel*"}, terms=query_terms)
    entity = Attributes.of({"StudyDescription": "Schädel nativ"}, terms=entity_terms)
    assert matching.compile(query(keys)).matches(entity)


@pytest.mark.parametrize("terms", [("GB18030",), ("", "ISO 2022 IR 58"), ("ISO_IR 192",)])
def test_multi_byte_sets_match_each_other(terms: tuple[str, ...]) -> None:
    keys = Attributes.of({"PatientName": "=王*"}, terms=("ISO_IR 192",))
    assert matching.compile(query(keys)).matches(Attributes.of({"PatientName": "Wang=王^小东"}, terms=terms))


def test_the_character_set_itself_is_no_key() -> None:
    keys = Attributes.of({"PatientID": "1", "SpecificCharacterSet": "ISO_IR 192"})
    assert matching.compile(query(keys)).matches(Attributes.of({"PatientID": "1"}))


@pytest.mark.parametrize(
    "empties", [Empties(), Empties(empty=True), Empties(absent=True), Empties(empty=True, absent=True)]
)
def test_what_has_no_value_matches_by_configuration(empties: Empties) -> None:
    matcher = matching.compile(query(Attributes.of({"AccessionNumber": "A1"})), empties=empties)
    assert matcher.matches(Attributes.of({"AccessionNumber": ""})) is empties.empty
    assert matcher.matches(Attributes()) is empties.absent


def test_two_quotation_marks_match_emptiness_only_when_negotiated() -> None:
    negotiated = Negotiated(empty_value=True)
    assert verdict("AccessionNumber", '""', "", negotiated)
    assert not verdict("AccessionNumber", '""', "A1", negotiated)
    assert not verdict("AccessionNumber", '""', "")


def test_all_of_several_values_only_when_negotiated() -> None:
    assert verdict("ModalitiesInStudy", "CT\\PT", "CT")
    negotiated = Negotiated(multiple_value=True)
    assert not verdict("ModalitiesInStudy", "CT\\PT", "CT", negotiated)
    assert verdict("ModalitiesInStudy", "CT\\PT", "PT\\SR\\CT", negotiated)
    assert verdict("StudyInstanceUID", "1.2\\1.3", "1.3", negotiated)


def test_keys_below_the_level_and_counts_never_restrict() -> None:
    keys = Attributes.of({"Modality": "CT", "NumberOfStudyRelatedInstances": "3", "StudyID": "7", "Rows": "1"})
    matcher = matching.compile(query(keys, level=Level.STUDY))
    assert set(matcher.unsupported) == {tags.Modality, tags.NumberOfStudyRelatedInstances, tag_of("Rows")}
    assert matching.unsupported(query(keys, level=Level.STUDY)) == matcher.unsupported
    assert [key.tag for key in matcher.keys] == [tags.StudyID]


def test_binary_numbers_are_matched_by_value() -> None:
    matcher = matching.compile(query(Attributes.of({"Rows": "512"})))
    assert matcher.matches(Attributes.of({"Rows": "512"}))
    assert not matcher.matches(Attributes.of({"Rows": "256"}))


def test_a_compiled_key_tells_an_index_what_to_look_for() -> None:
    keys = Attributes.of(
        {
            "PatientName": "DOE^J*",
            "StudyDate": "20240101-",
            "StudyInstanceUID": "1.2\\1.3",
            "AccessionNumber": "A*",
        }
    )
    by_tag = {key.tag: key for key in matching.compile(query(keys, level=Level.STUDY)).keys}
    name, study_date = by_tag[tags.PatientName], by_tag[tags.StudyDate]
    assert isinstance(name, NameKey)
    assert isinstance(name.names[0][0], WildCard)
    assert (name.names[0][0].prefix, name.names[0][0].is_prefix) == ("doe^j", True)
    assert isinstance(study_date, RangeKey)
    (first, last), *_ = study_date.ranges
    assert first is not None
    assert (first.earliest, last) == ("20240101", None)
    uid, accession = by_tag[tags.StudyInstanceUID], by_tag[tags.AccessionNumber]
    assert isinstance(uid, UIDKey)
    assert uid.literals == ("1.2", "1.3")
    assert isinstance(accession, TextKey)
    assert accession.patterns == (WildCard("A*"),)


def test_what_an_index_has_matched_is_left_out() -> None:
    matcher = matching.compile(query(Attributes.of({"StudyID": "7", "AccessionNumber": "A"}), level=Level.STUDY))
    assert [key.tag for key in matcher.without([tags.StudyID]).keys] == [tags.AccessionNumber]


def test_wild_cards_cannot_be_made_slow() -> None:
    assert not WildCard("*a" * 40 + "*b").matches("a" * 10_000)


@given(st.text("ab*?.[^", max_size=12), st.text("ab.[^", max_size=12))
def test_wild_cards_agree_with_the_shells(pattern: str, value: str) -> None:
    shell = re.sub(r"\[", "[[]", pattern)
    assert WildCard(pattern).matches(value) is fnmatch.fnmatchcase(value, shell)


@given(st.text(max_size=30))
@example("ǰ")
@example("ΰ")
@example("ŉ")
def test_folding_twice_changes_nothing(text: str) -> None:
    assert names.fold(names.fold(text)) == names.fold(text)


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: not re.search(r"[*?\\^=\s]", normalize("NFKC", text))
)


@given(st.lists(NAME, min_size=1, max_size=5))
def test_every_name_is_found_by_itself_in_any_case(components: list[str]) -> None:
    name = "^".join(components)
    assert verdict("PatientName", name, name)
    assert verdict("PatientName", name.casefold() + "^", name)
    assert verdict("PatientName", name + "*", name)


@given(st.from_regex(r"[a-z^*]{1,8}", fullmatch=True))
def test_a_names_prefix_is_one_of_what_matches(group: str) -> None:
    found = name_pattern(group)
    if isinstance(found, WildCard):
        assert found.matches(re.sub(r"\*", "x", found.text))
        assert re.sub(r"\*", "x", found.text).startswith(found.prefix)


@given(st.dates(), st.dates(), st.dates())
def test_a_range_of_dates_is_that_of_the_calendar(value: object, first: object, last: object) -> None:
    def da(day: object) -> str:
        return f"{day!s}".replace("-", "")

    assert verdict("StudyDate", f"{da(first)}-{da(last)}", da(value)) is (str(first) <= str(value) <= str(last))


@given(st.times(), st.integers(0, 6))
def test_a_partial_time_covers_the_full_one(value: object, cut: int) -> None:
    full = f"{value:%H%M%S}.{value:%f}" if hasattr(value, "isoformat") else ""
    partial = full[: (2, 4, 6, 8, 9, 11, 13)[cut]]
    span = moments.time(partial)
    assert span.earliest <= full <= span.latest


KEYWORDS = ["StudyDate", "StudyTime", "AcquisitionDateTime", "SOPClassUID", "InstanceNumber", "WindowCenter"]


@given(st.text(max_size=20), st.sampled_from(KEYWORDS))
@example("nan", "InstanceNumber")
@example("1_0", "WindowCenter")
def test_any_text_as_a_key_compiles_or_is_refused(text: str, keyword: str) -> None:
    tag = tag_of(keyword)
    try:
        matcher = matching.compile(query(Attributes({tag: Element(vr_of(tag), text.encode())})))
    except InvalidIdentifier as refused:
        assert refused.offending == (tag,)  # noqa: PT017
    else:
        assert len(matcher.keys) <= 1

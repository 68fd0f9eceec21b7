"""What holds for every rule and every data set."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.coercion.actions import Copy, Default, Map, Missing, Nullify, Remove, Replace, Set, Table
from gateway.coercion.changes import Changes
from gateway.coercion.charsets import ChangeCharset, TrimISO2022
from gateway.coercion.conditions import All, Any, Attribute, Code, Empty, Host, Not, OneOf, Present, Regex, Title
from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.formats import Format, parse_format
from gateway.coercion.identity import Issuer, KeepPatientID, RemapUIDs
from gateway.coercion.parser import parse_rules
from gateway.coercion.patch import Patch
from gateway.coercion.paths import parse_path
from gateway.coercion.printer import to_plain, to_yaml
from gateway.coercion.rules import OnFailure, Rule, RuleSet, Where
from gateway.coercion.schema import schema
from gateway.coercion.sources import Device, FromLeading, Policy, Supplement
from gateway.coercion.splice import splice
from gateway.dicom import encoding
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.instance import StoredInstance
from gateway.dicom.tags import SpecificCharacterSet, keyword_of, tag_of, vr_of
from tests.coercion.files import dataset_bytes

TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N"], include_characters=" .-"), min_size=1, max_size=12)
PATHS = st.sampled_from(
    [
        "PatientComments",
        "StudyDescription",
        "PatientID",
        "RequestAttributesSequence[0].StudyID",
        "ProcedureCodeSequence.CodeMeaning",
    ]
).map(parse_path)
PATTERNS = st.sampled_from(["a+", "^(x|y)$", r"\d{2}", "[^ ]*"]).map(re.compile)
FORMATS = st.builds(
    lambda parts: parse_format("".join(parts)),
    st.lists(
        st.sampled_from(
            ["a", "{{", "}}", "{PatientID|upper|slice:0:3}", "{leading.StudyID}", "{sending}", "{StudyDate|shift:-3}"]
        ),
        min_size=1,
        max_size=4,
    ),
)
TITLES = st.builds(
    Title,
    st.sampled_from(["sending", "receiving"]),
    st.one_of(st.lists(TEXTS, min_size=1, max_size=3).map(lambda some: OneOf(tuple(some))), st.builds(Regex, PATTERNS)),
)
TESTS = st.one_of(
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda some: OneOf(tuple(some))),
    st.builds(Regex, PATTERNS),
    st.builds(Empty, st.booleans()),
    st.builds(Present, st.booleans()),
    st.builds(Code, TEXTS, TEXTS | st.just("")),
)
LEAVES = st.one_of(TITLES, st.builds(Host, st.just(("10.0.0.0/8", "::1"))), st.builds(Attribute, PATHS, TESTS))
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: All(tuple(some))),
        st.lists(inner, max_size=3).map(lambda some: Any(tuple(some))),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)
TABLE = Table("codes", (("a", "b"), ("ä", "ö")))
DEVICES = (Device("CT1", Attributes.of({"StationName": "S", "InstitutionName": "Größe"})),)
ACTIONS = st.one_of(
    st.builds(Set, PATHS, FORMATS),
    st.builds(Default, PATHS, FORMATS),
    st.builds(Copy, PATHS, PATHS),
    st.lists(PATHS, min_size=1, max_size=3).map(lambda some: Remove(tuple(some))),
    st.lists(PATHS, min_size=1, max_size=3).map(lambda some: Nullify(tuple(some))),
    st.builds(Replace, PATHS, PATTERNS, st.just("z"), st.none() | st.just((re.compile("z"), "a"))),
    st.builds(Map, PATHS, st.just(TABLE), st.sampled_from(Missing)),
    st.builds(FromLeading, st.sampled_from(Policy), st.just(("patient",)), st.just(())),
    st.builds(FromLeading, st.sampled_from(Policy), st.just(()), st.just((tag_of("StudyID"),))),
    st.builds(Supplement, st.sampled_from(["sending", "receiving"]), st.just(DEVICES)),
    st.builds(Issuer, TEXTS, st.just("1.2.3"), st.just("ISO"), st.booleans()),
    st.builds(KeepPatientID, TEXTS, st.just("1.2.3"), st.just("ISO")),
    st.sampled_from([RemapUIDs(), RemapUIDs(TABLE), TrimISO2022(), ChangeCharset(("ISO_IR 192",))]),
)
RULES = st.builds(
    Rule,
    name=TEXTS.filter(str.strip),
    where=st.frozensets(st.sampled_from(Where), min_size=1),
    then=st.lists(ACTIONS, max_size=4).map(tuple),
    when=CONDITIONS,
    priority=st.integers(-5, 5),
    stop=st.booleans(),
    on_failure=st.sampled_from(OnFailure),
    enabled=st.booleans(),
)
RULE_SETS = st.lists(RULES, max_size=4, unique_by=lambda rule: rule.name).map(lambda some: RuleSet.of(tuple(some), ""))


@settings(deadline=None)
@given(RULE_SETS)
def test_rules_print_and_parse_back(rules: RuleSet) -> None:
    text = to_yaml(rules)
    again = parse_rules(text)
    assert again.rules == rules.rules
    assert to_yaml(again) == text


@settings(deadline=None, max_examples=50)
@given(RULE_SETS)
def test_what_is_printed_is_good_by_the_schema(rules: RuleSet) -> None:
    Draft202012Validator(schema()).validate(yaml.safe_load(to_yaml(rules)))
    assert to_plain(rules).keys() <= schema()["properties"].keys()


@given(FORMATS)
def test_formats_print_and_parse_back(made: Format) -> None:
    assert parse_format(str(made)) == made


_TAGS = [
    tag_of(one)
    for one in [
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyDate",
        "AccessionNumber",
        "Modality",
        "InstitutionName",
        "StudyDescription",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientComments",
        "StudyInstanceUID",
        "StudyID",
        "Rows",
        "BurnedInAnnotation",
    ]
]


@st.composite
def elements(draw: st.DrawFn) -> dict[int, Element]:
    """Some elements with any bytes as values, in a data set without a character set."""
    chosen = draw(st.lists(st.sampled_from([*_TAGS, 0x00091001, 0x00290010, 0x00200000]), unique=True, max_size=12))
    found = {
        tag: Element(vr_of(tag), draw(st.binary(max_size=6).map(lambda b: b + b" " * (len(b) % 2)))) for tag in chosen
    }
    body = b"".join(encoding.element_bytes(tag, *found[tag], implicit=False) for tag in sorted(found))
    nested = draw(st.integers(0, 3))
    for _ in range(nested):
        body = encoding.element_bytes(0x00081110, "SQ", encoding.item(body), implicit=False)
    if nested:
        found[0x00081110] = Element("SQ", encoding.read(body, implicit=False)[0][0x00081110].value)
    return dict(sorted(found.items()))


def put_down(found: dict[int, Element], folder: str, *, implicit: bool) -> StoredInstance:
    """A file that is only a data set, with pixel data."""
    data = b"".join(encoding.element_bytes(tag, *one, implicit=implicit) for tag, one in found.items())
    data += encoding.element_bytes(0x7FE00010, "OW", b"pixels", implicit=implicit)
    path = Path(folder) / "data"
    path.write_bytes(data)
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    return StoredInstance("", "", "", "", "", syntax, str(path), len(data), 0)


@settings(deadline=None)
@given(elements(), st.dictionaries(st.sampled_from(_TAGS), TEXTS, max_size=5), st.booleans())
def test_untouched_elements_are_identical_byte_for_byte(
    found: dict[int, Element], new: dict[int, str], implicit: bool
) -> None:
    ascii_values = {tag: text.encode("ascii", "replace") for tag, text in new.items()}
    values = {tag: Element(vr_of(tag), text + b" " * (len(text) % 2)) for tag, text in ascii_values.items()}
    with tempfile.TemporaryDirectory() as folder:
        stored = put_down(found, folder, implicit=implicit)
        after = dataset_bytes(splice(stored, Patch(Changes(Attributes(values)))))
        again = dataset_bytes(splice(stored, Patch(Changes(Attributes(values)))))
    wanted = {**found, **values}
    if values:
        wanted = {
            tag: one for tag, one in wanted.items() if tag & 0xFFFF or not any(t >> 16 == tag >> 16 for t in values)
        }
    expected = b"".join(encoding.element_bytes(tag, *one, implicit=implicit) for tag, one in sorted(wanted.items()))
    assert after == again == expected + encoding.element_bytes(0x7FE00010, "OW", b"pixels", implicit=implicit)


_SETTLED = [
    "set: {PatientComments: fixed}",
    "default: {PatientComments: fixed}",
    "remove: [PatientComments, StudyID]",
    "nullify: PatientComments",
    "copy: {PatientComments: PatientID}",
    "replace: {attribute: PatientID, pattern: '^(?!H-)', with: 'H-'}",
    "from_leading: {sets: [patient, study]}",
    "from_leading: {sets: [patient, study], policy: supplement}",
    "issuer_of_patient_id: {name: HOSP}",
    "charset: ISO_IR 192",
    "trim_iso2022: true",
]


@settings(deadline=None)
@given(
    st.sampled_from(_SETTLED),
    st.dictionaries(st.sampled_from(["PatientName", "PatientID", "PatientComments", "StudyID"]), TEXTS),
    st.dictionaries(st.sampled_from(["PatientName", "PatientID", "StudyDescription"]), TEXTS),
    st.sampled_from(["received", "answers"]),
)
def test_twice_is_once(action: str, given_: dict[str, str], leading: dict[str, str], where: str) -> None:
    rules = parse_rules(f"rules: [{{name: leading-attributes, where: {where}, then: [{{{action}}}]}}]")
    made = plan(rules, Where(where), Context("A", "B", leading=Attributes.of(leading)))
    once = made.apply_to_answer(Attributes.of(given_))
    assert made.apply_to_answer(once) == once


@given(st.dictionaries(st.sampled_from(["PatientName", "PatientID", "StudyID"]), TEXTS))
def test_undoing_coerced_keys_gives_the_asked_ones(keys: dict[str, str]) -> None:
    rules = parse_rules(
        "rules:\n"
        "- {name: a, where: keys, then: [set: {PatientID: fixed}, remove: StudyID, default: {AccessionNumber: x}]}"
    )
    asked = Attributes.of(keys)
    coerced, undo = plan(rules, Where.KEYS, Context()).apply_to_keys(asked)
    back = undo(coerced)
    for tag in (tag_of(one) for one in ("PatientName", "PatientID", "StudyID")):
        if asked.text(tag):  # an empty key asks for whatever there is
            assert back.text(tag) == asked.text(tag), keyword_of(tag)
    assert set(back) - {SpecificCharacterSet} == set(asked) - {SpecificCharacterSet}


@settings(deadline=None)
@given(
    st.lists(elements(), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), max_size=4),
    st.sampled_from(["plain", "Αλέξης", "Jürgen"]),
    st.booleans(),
)
def test_what_a_patch_has_met_before_makes_no_difference(
    several: list[dict[int, Element]], again: list[int], name: str, implicit: bool
) -> None:
    changes = Changes(Attributes.of({"PatientName": name, "StudyID": "S"}))
    known = Patch(changes)
    order = [*range(len(several)), *(number % len(several) for number in again)]
    for number in order:
        with tempfile.TemporaryDirectory() as folder:
            stored = put_down(several[number], folder, implicit=implicit)
            assert dataset_bytes(splice(stored, known)) == dataset_bytes(splice(stored, Patch(changes)))


@settings(deadline=None)
@given(st.lists(elements(), min_size=2, max_size=3), st.booleans())
def test_what_a_plan_has_met_before_makes_no_difference(several: list[dict[int, Element]], implicit: bool) -> None:
    rules = parse_rules(
        "record_originals: sent\n"
        "rules:\n"
        "- {name: a, where: sent, when: {attribute: Modality, present: true}, then: [set: {PatientComments: x}]}\n"
        "- {name: b, where: sent, then: [copy: {StudyID: PatientID}], on_failure: pass}\n"
    )
    made = plan(rules, Where.SENT, Context("A", "B", at=datetime(2024, 1, 31, tzinfo=UTC)))
    for found in [*several, *several]:
        with tempfile.TemporaryDirectory() as folder:
            stored = put_down(found, folder, implicit=implicit)
            fresh = plan(rules, Where.SENT, made.context)
            assert dataset_bytes(made.apply_to_instance(stored)) == dataset_bytes(fresh.apply_to_instance(stored))

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.parser import load_rules, parse_rules
from gateway.coercion.rules import RuleSet, Where
from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import PatientID, PatientName, tag_of
from gateway.errors import ConfigError
from tests.coercion.files import reread, small, written

LEADING = Attributes.of(
    {"StudyInstanceUID": "1.2.3", "PatientName": "New^Name", "PatientID": "N1", "StudyID": "", "RetrieveAETitle": "X"}
)


def test_the_built_in_rule_puts_the_leading_attributes_into_instances(tmp_path: Path) -> None:
    made = plan(RuleSet.default(), Where.SENT, Context("GW", "VIEWER", leading=LEADING))
    after = reread(made.apply_to_instance(written(small(StudyID="7"), tmp_path / "in.dcm")), tmp_path / "out.dcm")
    assert (after.PatientName, after.PatientID, after.StudyID) == ("New^Name", "N1", "7")
    assert "RetrieveAETitle" not in after, "only patient and study attributes are the leading archive's"


def test_the_built_in_rule_puts_them_into_answers_but_adds_no_key_not_asked_for() -> None:
    made = plan(RuleSet.default(), Where.ANSWERS, Context("GW", "VIEWER", leading=LEADING))
    answer = Attributes.of({"PatientName": "Old^Name", "StudyInstanceUID": "1.2.3"})
    assert made.apply_to_answer(answer, {PatientName}).text(PatientName) == "New^Name"
    assert PatientID not in made.apply_to_answer(answer, {PatientName})
    assert PatientID in made.apply_to_answer(answer)


def test_without_a_leading_answer_nothing_changes() -> None:
    answer = Attributes.of({"PatientName": "Old^Name"})
    assert plan(RuleSet.default(), Where.ANSWERS, Context()).apply_to_answer(answer) == answer


def test_a_rule_of_its_name_takes_the_place_of_the_built_in_one() -> None:
    rules = parse_rules("rules: [{name: leading-attributes, where: sent, enabled: false, then: []}]")
    assert plan(rules, Where.ANSWERS, Context(leading=LEADING)).rules == ()
    assert [rule.name for rule in parse_rules("rules: []").rules] == ["leading-attributes"]


def test_the_example_applies_to_its_receiver_only() -> None:
    rules = load_rules("conf/coercion.yaml")
    assert "mark-images-for-the-viewer" in {r.name for r in plan(rules, Where.SENT, Context("G", "STORESCP")).rules}
    assert "mark-images-for-the-viewer" not in {r.name for r in plan(rules, Where.SENT, Context("G", "OTHER")).rules}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("supplement", ("Old", "7", "N")), ("merge", ("New", "7", "N")), ("overwrite", ("New", "", "N"))],
)
def test_policies(policy: str, expected: tuple[str, ...]) -> None:
    rules = parse_rules(
        f"rules: [{{name: leading-attributes, where: answers, then: [{{from_leading: "
        f"{{attributes: [PatientName, StudyID, AccessionNumber], policy: {policy}}}}}]}}]"
    )
    leading = Attributes.of({"PatientName": "New", "StudyID": "", "AccessionNumber": "N"})
    answer = Attributes.of({"PatientName": "Old", "StudyID": "7", "AccessionNumber": ""})
    after = plan(rules, Where.ANSWERS, Context(leading=leading)).apply_to_answer(answer)
    assert tuple(after.text(tag_of(one)) for one in ("PatientName", "StudyID", "AccessionNumber")) == expected


def test_all_problems_come_at_once_with_their_places() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules(
            "rules:\n"
            "  - name: a\n"
            "    where: snt\n"
            "    then:\n"
            "      - set: {PatientNmae: x}\n"
            "      - remove: StudyInstanceUID\n",
            "file.yaml",
        )
    assert caught.value.problems == [
        "file.yaml:3:12: rules[a].where: 'snt' is not known (did you mean sent?)",
        "file.yaml:5:15: rules[a].then[0].set.PatientNmae: unknown keyword PatientNmae (did you mean PatientName?)",
        "file.yaml:6:17: rules[a].then[1].remove: StudyInstanceUID is changed by a UID rule only (remap_uids)",
    ]


def test_coerced_keys_carry_their_undo() -> None:
    rules = parse_rules(
        "rules: [{name: k, where: keys, when: {attribute: PatientID, regex: 'H-.*'}, "
        "then: [{set: {PatientID: '{PatientID|slice:2}'}}]}]"
    )
    keys, undo = plan(rules, Where.KEYS, Context()).apply_to_keys(Attributes.of({"PatientID": "H-17"}))
    assert keys.text(PatientID) == "17"
    assert undo(Attributes.of({"PatientID": "17"})).text(PatientID) == "H-17"
    assert undo(Attributes.of({"PatientID": "18"})).text(PatientID) == "18"


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("{attribute: Rows, equals: 4}", True),
        ("{attribute: PatientName, regex: 'Doe.*'}", True),
        ("{attribute: PatientName, regex: Doe}", False),
        ("{attribute: ImageType, one_of: [AXIAL, ORIGINAL]}", True),
        ("{attribute: AccessionNumber, empty: true}", True),
        ("{attribute: AccessionNumber, present: true}", True),
        ("{attribute: StudyID, present: true}", False),
        ("{attribute: StudyID, empty: true}", True),
        ("{attribute: 'ProcedureCodeSequence[0].CodeValue', equals: T1}", True),
        ("{attribute: 'ProcedureCodeSequence[1].CodeValue', equals: T2}", True),
        ("{attribute: 'ProcedureCodeSequence[2].CodeValue', equals: T2}", False),
        ("{not: {attribute: 'ProcedureCodeSequence[2].CodeValue', equals: T2}}", True),
        ("{attribute: ProcedureCodeSequence.CodeValue, equals: T2}", True),
        ("{attribute: ProcedureCodeSequence, code: {value: T2, scheme: SRT}}", True),
        ("{attribute: ProcedureCodeSequence, code: {value: T2, scheme: DCM}}", False),
        ("{attribute: ProcedureCodeSequence, code: T1}", True),
        ("{attribute: '(0009,1001)', present: true}", True),
        ("{sending: {regex: 'CT_.*'}, receiving: [A, GW]}", True),
        ("{sending: CT}", False),
        ("{host: 10.0.0.0/8}", True),
        ("{host: [192.168.0.0/16, 10.1.2.3]}", True),
        ("{host: 2001:db8::/32}", False),
        ("{any: [{sending: X}, {all: [{sending: CT_1}, {attribute: Modality, equals: CT}]}]}", True),
        ("{any: []}", False),
        ("{all: []}", True),
    ],
)
def test_conditions(when: str, holds: bool, tmp_path: Path) -> None:
    first, second = Dataset(), Dataset()
    first.CodeValue, second.CodeValue = "T1", "T2"
    second.CodingSchemeDesignator = "SRT"
    dataset = small(ImageType=["ORIGINAL", "PRIMARY"], AccessionNumber="", ProcedureCodeSequence=[first, second])
    dataset.add_new(0x00090010, "LO", "TEST")
    dataset.add_new(0x00091001, "LO", "private")
    rules = parse_rules(f"rules: [{{name: r, where: sent, when: {when}, then: [set: {{PatientComments: yes}}]}}]")
    made = plan(rules, Where.SENT, Context("CT_1", "GW", "10.1.2.3"))
    after = reread(made.apply_to_instance(written(dataset, tmp_path / "in.dcm")), tmp_path / "out.dcm")
    assert ("PatientComments" in after) is holds


def test_rules_go_by_priority_and_stop() -> None:
    rules = parse_rules(
        "rules:\n"
        "- {name: last, where: answers, priority: -1, then: [set: {StudyID: last}]}\n"
        "- {name: second, where: answers, stop: true, then: [set: {StudyID: '{StudyID}2'}]}\n"
        "- {name: first, where: answers, priority: 5, then: [set: {StudyID: '1'}]}\n"
    )
    made = plan(rules, Where.ANSWERS, Context())
    assert made.apply_to_answer(Attributes()).text(tag_of("StudyID")) == "12"


def test_a_rule_is_known_by_what_it_says_and_an_operation_by_its_rules_version() -> None:
    one, other = parse_rules("rules: []"), parse_rules("rules: [] # the same, said otherwise")
    assert one.rules == other.rules
    assert one.version != other.version

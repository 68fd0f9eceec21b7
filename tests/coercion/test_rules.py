from __future__ import annotations

from pathlib import Path

import pytest

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
    assert [rule.name for rule in parse_rules("").rules] == ["leading-attributes"]


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

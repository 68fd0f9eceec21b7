"""The verbs as an admin uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.cli import run
from gateway.coercion.schema import schema
from tests.coercion.files import small, written

CONF = Path("conf")


def test_the_committed_schema_is_that_of_the_code_and_fits_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    committed = json.loads((CONF / "coercion.schema.json").read_text())
    assert printed == committed == schema(), "dicom-gateway rules schema > conf/coercion.schema.json"
    Draft202012Validator.check_schema(committed)
    Draft202012Validator(committed).validate(yaml.safe_load((CONF / "coercion.yaml").read_text()))


def test_the_example_is_good_and_does_what_its_cases_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "check", "conf/coercion.yaml"]) == 0
    assert capsys.readouterr().err == "", "no warning about the example"
    assert run(["rules", "test", "conf/coercion.tests.yaml"]) == 0
    assert "4 of 4 good" in capsys.readouterr().out


def test_check_says_every_problem_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("rules:\n- {name: a, where: snt, then: [set: {PatientNmae: x}]}\n")
    assert run(["rules", "check", str(file)]) == 2
    err, meant = capsys.readouterr().err.splitlines(), "PatientName"
    assert err == [
        f"error: {file}:2:20: rules[a].where: 'snt' is not known (did you mean sent?)",
        f"error: {file}:2:38: rules[a].then[0].set.PatientNmae: unknown keyword PatientNmae (did you mean {meant}?)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: [", "not YAML"),
        ("- a", "must be a mapping"),
        ("rules: [{name: a, where: sent, where: sent, then: []}]", "duplicate key 'where' (first in line 1)"),
        ("rules: [{name: a, where: {dimse: C_FIND_RSP, role: SCP}, then: []}]", "no data set comes here as C_FIND_RSP"),
        ("rules: [{name: a, where: sent, then: [set: {StudyDate: x}]}]", "StudyDate must be a date"),
        ("rules: [{name: a, where: sent, then: [set: {PatientSex: A\\B}]}]", "PatientSex takes 1 values, not 2"),
        ("rules: [{name: a, where: sent, then: [set: {PixelData: x}]}]", "pixel data"),
        ("rules: [{name: a, where: sent, then: [set: {StudyInstanceUID: 1.2}]}]", "by a UID rule only"),
        ("rules: [{name: a, where: sent, then: [set: {PatientID: '{PatientID|uper}'}]}]", "unknown function 'uper'"),
        ("rules: [{name: a, where: sent, then: [map: {attribute: PatientID, table: x}]}]", "'x' is not known"),
        ("tables: {t: {csv: none.csv, key: a, value: b}}\nrules: []", "cannot be read: No such file"),
        ("rules: [{name: a, where: sent, then: [replace: {attribute: PatientID, pattern: (, with: ''}]}]", "regular"),
        ("rules: [{name: a, where: sent, then: [replace: {attribute: PatientID, pattern: a, with: '\\3'}]}]", "group"),
        ("rules: [{name: a, where: sent, when: {attribute: PatientID}, then: []}]", "exactly one of equals"),
        ("rules: [{name: a, where: sent, then: [charset: LATIN]}]", "'LATIN' is no character set"),
        ("rules: [{name: a, where: sent, when: {attribute: PixelData, present: true}, then: []}]", "pixel data"),
        ("rules: [{name: a, where: sent, then: [remove: TransferSyntaxUID]}]", "no part of the data set"),
        ("rules: [{name: a, then: []}]", "has no 'where'"),
        ("rules: [{name: '', where: sent, then: []}]", "must not be empty"),
        ("rules: [{name: a, where: sent, then: [set: {PatientID: null}]}]", "'nullify' empties an attribute"),
    ],
)
def test_problems(text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert run(["rules", "check", str(file)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rules", "warning"),
    [
        ("{name: a, where: sent, stop: true, then: [remove: Rows]}, {name: b, where: sent, then: [remove: StudyID]}",
         "rule b (line 1) is never reached: rule a (line 1) stops before it"),
        ("{name: a, where: sent, then: [set: {StudyID: x}]}, {name: b, where: sent, then: [set: {StudyID: y}]}",
         "what rule a (line 1) does to StudyID (sent) is overwritten by rule b (line 1)"),
        ("{name: a, where: sent, then: [remove: StudyID]}, {name: b, where: sent, then: [remove: StudyID]}",
         "rule b (line 1) does the same as rule a (line 1)"),
        ("{name: a, where: sent, when: {all: [sending: A, sending: B]}, then: [remove: StudyID]}", "can never apply"),
        ("{name: a, where: keys, then: [from_leading: {sets: patient}]}", "which query keys do not have"),
    ],
)  # fmt: skip
def test_lint(rules: str, warning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(f"rules: [{rules}]\n")
    assert run(["rules", "check", str(file)]) == 0
    assert warning in capsys.readouterr().err


def test_explain_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "explain", "--rules", "conf/coercion.yaml", "--receiving", "OTHER", "--json"]) == 0
    said = {one["rule"]: (one["verdict"], one["why"]) for one in json.loads(capsys.readouterr().out)}
    assert said["leading-attributes"] == ("applies", "")
    assert said["mark-images-for-the-viewer"] == ("skipped", "receiving OTHER is not STORESCP")
    assert said["keep-local-patient-id"] == ("skipped", "not enabled")
    assert said["tidy-up-what-old-devices-send"] == ("skipped", "is for received")
    assert said["research-copies"] == ("skipped", "not enabled")


def test_dry_run_shows_each_difference_with_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(small(), tmp_path / "a.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM file")
    leading = tmp_path / "leading.yaml"
    leading.write_text("PatientName: Müller^Jörg\n")
    options = ["--rules", "conf/coercion.yaml", "--receiving", "STORESCP", "--leading", str(leading)]
    before = (tmp_path / "a.dcm").read_bytes()
    assert run(["rules", "dry-run", str(tmp_path), *options, "--json"]) == 0
    (differences,) = json.loads(capsys.readouterr().out).values()
    assert {"attribute": "PatientName", "before": "Doe^John", "after": "Müller^Jörg", "rule": "leading-attributes"} in (
        differences
    )
    assert differences[0]["after"] == "ISO_IR 192"
    assert run(["rules", "dry-run", str(tmp_path), *options]) == 0
    out = capsys.readouterr().out
    assert "- Doe^John" in out
    assert "+ Müller^Jörg" in out
    assert (tmp_path / "a.dcm").read_bytes() == before, "nothing is written"


def test_dry_run_goes_on_after_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(small(), tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + b"nothing more")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert run(["rules", "dry-run", str(tmp_path), "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out).values()
    assert first == []
    assert "error" in second
    assert run(["rules", "dry-run", str(tmp_path / "missing.dcm")]) == 2

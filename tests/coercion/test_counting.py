"""Rules applied and failed are counted for every data set, also where many share one patch."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway import metrics
from gateway.coercion.draft import Context
from gateway.coercion.engine import Plan, plan
from gateway.coercion.parser import parse_rules
from gateway.coercion.rules import CoercionFailed, Where
from gateway.dicom.attributes import Attributes
from tests.coercion.files import small, written

ALWAYS = "then: [set: {PatientComments: x}]"
SHARED = "when: {attribute: Modality, equals: CT}, then: [set: {PatientComments: x}]"
WHOLE = "then: [remap_uids: all]"
FAILING = "then: [set: {StudyDate: '{PatientName}'}]"


def applied(rule: str) -> float:
    return metrics.REGISTRY.get_sample_value("dicom_gateway_coercion_applied_total", {"rule": rule}) or 0


def failed(rule: str, outcome: str) -> float:
    labels = {"rule": rule, "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("dicom_gateway_coercion_failures_total", labels) or 0


def made(name: str, where: Where, *rules: str) -> Plan:
    texts = [f"{{name: {name}-{number}, where: {where.value}, {rule}}}" for number, rule in enumerate(rules)]
    return plan(parse_rules(f"rules: [{', '.join(texts)}]"), where, Context("GW", "VIEWER"))


@pytest.mark.parametrize(("name", "rule"), [("always", ALWAYS), ("shared", SHARED), ("whole", WHOLE)])
def test_each_instance_counts_however_its_patch_came_about(tmp_path: Path, name: str, rule: str) -> None:
    one = made(name, Where.SENT, rule)
    assert applied(f"{name}-0") == 0, "a plan alone counts nothing"
    instance = written(small(), tmp_path / "in.dcm")
    for _ in range(3):
        one.apply_to_instance(instance)
    assert applied(f"{name}-0") == 3
    one.apply_to_instance(instance)
    assert applied(f"{name}-0") == 4


def test_a_rule_whose_condition_does_not_hold_is_not_counted(tmp_path: Path) -> None:
    made("other", Where.SENT, SHARED).apply_to_instance(written(small(Modality="MR"), tmp_path / "in.dcm"))
    assert applied("other-0") == 0


def test_answers_and_keys_count() -> None:
    made("answers", Where.ANSWERS, ALWAYS).apply_to_answer(Attributes())
    made("keys", Where.KEYS, ALWAYS).apply_to_keys(Attributes())
    assert (applied("answers-0"), applied("keys-0")) == (1, 1)


def test_failures_that_are_passed_over_count_for_each_instance(tmp_path: Path) -> None:
    one = made("passed", Where.SENT, f"on_failure: pass, {FAILING}", ALWAYS)
    assert failed("passed-0", "pass") == 0
    instance = written(small(), tmp_path / "in.dcm")
    for _ in range(3):
        one.apply_to_instance(instance)
    assert (failed("passed-0", "pass"), applied("passed-0"), applied("passed-1")) == (3, 0, 3)


def test_a_refusal_counts_with_what_failed_before_it(tmp_path: Path) -> None:
    one = made("refused", Where.SENT, f"on_failure: pass, {FAILING}", FAILING, ALWAYS)
    instance = written(small(), tmp_path / "in.dcm")
    for _ in range(2):
        with pytest.raises(CoercionFailed, match="refused-1"):
            one.apply_to_instance(instance)
    assert (failed("refused-0", "pass"), failed("refused-1", "refuse"), applied("refused-2")) == (2, 2, 0)


def test_nothing_is_lost_between_threads_and_scrapes() -> None:
    step = metrics.RULES_APPLIED.tally("threads")
    threads = [threading.Thread(target=lambda: [step() for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        applied("threads")
    assert applied("threads") == 80_000

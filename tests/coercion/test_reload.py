from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.coercion.reload import Reloader
from gateway.errors import ConfigError
from gateway.metrics import REGISTRY
from tests.support.waiting import wait_until

GOOD = "rules: [{name: %s, where: sent, then: [{set: {PatientComments: hello}}]}]\n"


def failures() -> float:
    return REGISTRY.get_sample_value("dicom_gateway_coercion_rules_reloads_total", {"outcome": "failed"}) or 0.0


def good() -> float | None:
    return REGISTRY.get_sample_value("dicom_gateway_coercion_rules_last_reload_successful")


def test_an_edit_takes_over_and_a_bad_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD % "first")
    with Reloader(file) as rules:
        held = rules()
        new = tmp_path / "rules.yaml.new"
        new.write_text(GOOD % "second")
        new.rename(file)  # as editors do
        wait_until(lambda: rules().rules[-1].name == "second", "the edit is noticed")
        assert held.rules[-1].name == "first", "a running operation keeps the rules it began with"
        before = failures()
        file.write_text("rules: [{name: third, wher: sent}]\n")
        wait_until(lambda: failures() > before, "the edit is noticed")
        assert rules().rules[-1].name == "second"
        assert good() == 0.0
        for hostile in ("- " * 5000, "rules: &a [*a]"):
            before = failures()
            file.write_text(hostile)
            wait_until(lambda before=before: failures() > before, "endless nesting is noticed")  # type: ignore[misc]
        assert rules().rules[-1].name == "second"
        file.write_text(GOOD % "fourth")
        wait_until(lambda: rules().rules[-1].name == "fourth", "the edit is noticed")
        wait_until(lambda: good() == 1.0, "the metric follows")


def test_a_file_is_left_alone_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD % "first")
    taken: list[str] = []
    with Reloader(file) as rules:
        rules.observers.append(lambda taken_over: taken.append(taken_over.rules[-1].name))
        before, end = failures(), time.monotonic() + 0.8
        with file.open("w") as being_written:
            being_written.write(GOOD % "half")
            while time.monotonic() < end:  # longer than events are gathered, each write within the pause waited for
                being_written.write("# more\n")
                being_written.flush()
            assert rules().rules[-1].name == "first"
            being_written.seek(0)
            being_written.truncate()
            being_written.write(GOOD % "whole")
        wait_until(lambda: rules().rules[-1].name == "whole", "the whole file is taken")
    assert taken == ["whole"]
    assert failures() == before


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD % "first")
    reloader = Reloader(file)
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"rules.yaml: is empty; .* 'rules: \[\]'"):
        reloader.reload()
    assert reloader().rules[-1].name == "first"
    file.write_text("# none of our own\n")
    assert [rule.name for rule in reloader.reload().rules] == ["leading-attributes"]


def test_an_edited_table_takes_over(tmp_path: Path) -> None:
    file, table = tmp_path / "rules.yaml", tmp_path / "sites.csv"
    table.write_text("from,to\nA,1\n")
    file.write_text(
        "tables: {sites: {csv: sites.csv, key: from, value: to}}\n"
        "rules: [{name: m, where: sent, then: [{map: {attribute: InstitutionName, table: sites}}]}]\n"
    )
    with Reloader(file) as rules:
        first = rules().version
        table.write_text("from,to\nA,2\n")
        wait_until(lambda: rules().version != first, "the edit is noticed")


def test_a_folder_switched_by_a_link_takes_over(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.yaml").write_text(GOOD % name)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "rules.yaml").symlink_to("data/rules.yaml")  # as Kubernetes mounts a ConfigMap
    reloader = Reloader(tmp_path / "rules.yaml")
    (tmp_path / "data.new").symlink_to("two")
    (tmp_path / "data.new").rename(tmp_path / "data")
    assert reloader.reload().rules[-1].name == "two"


def test_reload_on_demand_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD % "first")
    reloader = Reloader(file)
    file.write_text("rules: 3\n")
    with pytest.raises(ConfigError):
        reloader.reload()
    assert reloader().rules[-1].name == "first"


def test_without_a_file_the_built_in_rule_stays() -> None:
    with Reloader(None) as rules:
        assert rules.reload() == rules()
        assert [rule.name for rule in rules().rules] == ["leading-attributes"]

"""Metrics, panels and alerts name one another, and nothing that does not exist."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest

from gateway import metrics
from tests.support.tools import path_of

DASHBOARD = Path("grafana/dashboard.json")
ALERTS = Path("grafana/alerts.yml")
_NAME = re.compile(r"dicom_gateway_\w+")
_UNITS = ("_total", "_seconds", "_bytes", "_created")


def exposed() -> dict[str, str]:
    """Every sample name that can be scraped, to its type."""
    found: dict[str, str] = {}
    for family in metrics.REGISTRY.collect():
        if family.type == "counter":
            found[f"{family.name}_total"] = "counter"
        elif family.type == "histogram":
            found |= {f"{family.name}{suffix}": "histogram" for suffix in ("_bucket", "_sum", "_count")}
        else:
            found[family.name] = family.type
    return found


def panels() -> list[dict[str, Any]]:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    return rules


@pytest.mark.parametrize("expression", [*expressions(), *(rule["expr"] for rule in alerts())])
def test_panels_and_alerts_name_metrics_that_exist(expression: str) -> None:
    names = set(_NAME.findall(expression))
    assert names <= exposed().keys()
    assert names or "up{" in expression


@pytest.mark.parametrize("expression", [*expressions(), *(rule["expr"] for rule in alerts())])
def test_labels_exist_and_counters_are_rates(expression: str) -> None:
    kinds = exposed()
    for name, selector in re.findall(r"(dicom_gateway_\w+)(?:\{([^}]*)\})?", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - {"job", "le", "instance"}
        assert labels <= labels_of(name), (name, labels)
        if kinds[name] == "counter":
            assert re.search(rf"(rate|increase)\({name}", expression), f"{name} is a counter: take its rate"


def labels_of(name: str) -> set[str]:
    for metric in vars(metrics).values():
        described = getattr(metric, "_name", None)
        if described and name in {described, f"{described}_total", f"{described}_bucket", f"{described}_count"}:
            return set(metric._labelnames)
    return {"version"} if name == "dicom_gateway_processes" else set()


def test_every_metric_is_in_a_panel() -> None:
    shown = set(_NAME.findall(" ".join(expressions())))
    families = {family.name for family in metrics.REGISTRY.collect()}
    unseen = {name for name in families if not any(one.startswith(name) for one in shown)}
    assert unseen == set()


def test_names_have_units_and_texts() -> None:
    for family in metrics.REGISTRY.collect():
        assert family.documentation.endswith(".")
        assert family.name.startswith("dicom_gateway_")
        assert not re.search(r"_(ms|milliseconds|kb|mb|minutes|percent)(_|$)", family.name)


def test_labels_are_bounded_words() -> None:
    words = {label for metric in vars(metrics).values() for label in getattr(metric, "_labelnames", ())}
    assert words <= {
        "archive", "cache", "result", "role", "peer", "reason", "service", "status", "outcome", "kind", "decision",
        "state", "level", "route", "rule", "title", "action", "version",
    }  # fmt: skip


def test_the_dashboard_is_one_grafana_imports() -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "job"}


def test_every_panel_says_what_it_shows() -> None:
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_alert_says_what_to_do_and_is_tested() -> None:
    tested = Path("grafana/alerts.test.yml").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert f"alertname: {rule['alert']}\n        exp_alerts" in tested


def test_every_alert_has_a_section_that_its_runbook_names() -> None:
    text = Path("docs/operate.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (Gateway\w+)\n\n(.+?)(?=\n#|\Z)", text, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/operate.md#{rule['alert'].lower()}"


@pytest.mark.peers("prometheus")
def test_promtool_accepts_rules_and_metrics() -> None:
    promtool = path_of("promtool")
    subprocess.run([promtool, "check", "rules", ALERTS], check=True, capture_output=True, timeout=60)
    scrape = generate_latest(metrics.REGISTRY)
    done = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peers("prometheus")
def test_each_alert_fires_when_it_should() -> None:
    done = subprocess.run(
        [path_of("promtool"), "test", "rules", "alerts.test.yml"],
        cwd="grafana", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

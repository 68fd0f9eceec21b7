"""A real Prometheus scrapes a gateway of two workers under load, and every panel has something to show."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import metrics
from gateway.cli import run
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import RunningPeer, dcmqrscp, storescp
from tests.support.ports import closed_port
from tests.support.prometheus import RunningPrometheus, prometheus
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers("dcmtk", "prometheus")

DASHBOARD = json.loads(Path("grafana/dashboard.json").read_text("utf-8"))
QUIET = {
    "archive_deleted_instances_total": "deletion by the verb is counted in the verb's process",
    "rejected_instances_total": "nobody sends a rejection note",
    "query_answers_dropped_total": "dcmqrscp answers with unique keys",
    "commitment_inquiries_total": "the gateway asks nobody to commit",
    "commitment_events_total": "and so nobody reports",
    "http_limited_total": "nobody sends slowly or guesses tokens",
}
"""Metrics that rightly have no series under this load."""


@dataclass
class Observed:
    gateway: RunningGateway
    leading: RunningPeer
    viewer: RunningPeer
    prometheus: RunningPrometheus
    folder: Path

    def load(self) -> None:
        """Something of everything, failures included."""
        port = self.gateway.port
        study = {"StudyInstanceUID": dicomfiles.uid("both")}
        scu.echo(port, aet="STORESCP", aec="GATEWAY")
        scu.echo(port, aet="NOBODY", aec="GATEWAY")
        for _ in range(2):
            scu.echo(port, aet="HASTY", aec="GATEWAY")
        for _ in range(4):
            scu.find(port, "STUDY", {**study, "PatientName": ""}, aet="STORESCP", aec="GATEWAY")
        scu.find(port, "FRAME", study, aet="STORESCP", aec="GATEWAY")
        scu.move(port, "STUDY", study, "STORESCP", aet="STORESCP", aec="GATEWAY")
        scu.move(port, "STUDY", study, "DEAD", aet="STORESCP", aec="GATEWAY")
        only = {"StudyInstanceUID": dicomfiles.uid("only leading")}
        scu.move(port, "STUDY", only, "STORESCP", aet="STORESCP", aec="GATEWAY")
        scu.store(port, list((self.folder / "new").iterdir()), aet="STORESCP", aec="GATEWAY")

    def break_things(self) -> None:
        """The leading archive goes down, the rule file gets a mistake."""
        self.leading.stop()
        for number in range(12):  # so that one of the two workers has met five failures, which open its circuit
            keys = {"StudyInstanceUID": "", "PatientID": f"P{number}*"}
            scu.find(self.gateway.port, "STUDY", keys, aet="STORESCP", aec="GATEWAY")


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    dicomdir = dicomfiles.write_file_set(folder / "local", dicomfiles.study("both", 3, PatientID="OLD"))
    dicomfiles.write(folder / "new", dicomfiles.study("new", 2, "MR", PatientID="NEW"))
    rules = folder / "coercion.yaml"
    rules.write_text("rules: []\n")
    with (
        storescp(folder / "viewer") as viewer,
        dcmqrscp(folder / "leading", peers={viewer.aet: viewer.port}) as leading,
    ):
        at_leading = [*dicomfiles.study("both", 3, PatientID="NEW"), *dicomfiles.study("only leading", 1)]
        leading.store(dicomfiles.write(folder / "corrected", at_leading))
        peers = {
            "LEADING": peer(leading.aet, leading.port),
            "VIEWER": peer(viewer.aet, viewer.port),
            "DEAD": peer("DEAD", closed_port()),
            "HASTY": {**peer("HASTY", closed_port()), "max_requests_per_second": 0.3},
        }
        with (
            gateway(
                folder / "gw", peers=peers, dicomdir=dicomdir, leading={"peer": "LEADING"},
                coercion={"rules": str(rules)},
                audit={"file": str(folder / "audit.xml")}, ae={"title": "GATEWAY", "port": 0, "workers": 2},
            ) as running,
            prometheus(folder / "prometheus", [running.http_port], [Path("grafana/alerts.yml")]) as scraper,
        ):  # fmt: skip
            one = Observed(running, leading, viewer, scraper, folder)
            one.load()
            commit(running, viewer, next((folder / "new").iterdir()))
            flush(running)
            rules.write_text("rules: []  # edited\n")
            wait_until(lambda: running.metric("coercion_rules_reloads_total") >= 1, "the rules are read again")
            one.load()
            one.break_things()
            yield one


def commit(running: RunningGateway, viewer: RunningPeer, file: Path) -> None:
    """Ask for storage commitment as the viewer; it takes no report, so that the attempts are counted as unanswered."""
    connect = f"GATEWAY@127.0.0.1:{running.port}"
    run(["commit", "ask", "-c", connect, "-b", f"{viewer.aet}:{closed_port()}", "--wait", "1", str(file)])
    wait_until(lambda: running.metric("commitment_reports_total"), "a report is tried")


def flush(running: RunningGateway) -> None:
    url = f"http://127.0.0.1:{running.http_port}/api/cache?all=true"
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30) as response:
        assert json.load(response)["dropped"]


def queries() -> list[Any]:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in panels
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("expression", queries())
def test_every_panel_has_data(observed: Observed, expression: str) -> None:
    asked = expression.replace("$__rate_interval", "30s").replace("$job", ".*")
    if any(f"dicom_gateway_{name}" in expression for name in QUIET):
        assert observed.prometheus.query(asked) == []
        return
    wait_until(lambda: observed.prometheus.query(asked), f"{asked} returns data", seconds=20)


def test_the_target_is_up_and_its_alerts_are_known(observed: Observed) -> None:
    wait_until(lambda: observed.prometheus.query('up{job="dicom-gateway"} == 1'), "the target is up")
    wait_until(
        lambda: observed.prometheus.query('ALERTS{alertname="GatewayLeadingArchiveDown"}'), "the alert is pending",
        seconds=30,
    )  # fmt: skip


def test_what_is_scraped_is_what_is_declared(observed: Observed) -> None:
    body = observed.gateway.http("/metrics")[1]
    declared = {family.name for family in metrics.REGISTRY.collect()}
    scraped = {line.split()[2].removesuffix("_total") for line in body.splitlines() if line.startswith("# TYPE")}
    assert {name for name in scraped if not name.endswith("_created")} <= declared

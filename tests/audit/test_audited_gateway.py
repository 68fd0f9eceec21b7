"""A gateway tells its trail of queries, retrieves, stores, deletions, rule changes and whoever was turned away."""

import base64
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from gateway.cli import run
from gateway.daemon.auditing import operator
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import storescp
from tests.support.ports import closed_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


class Place:
    def __init__(self, running: RunningGateway, trail: Path, rules: Path) -> None:
        self.gateway = running
        self.trail = trail
        self.rules = rules

    def events(self, code: str) -> list[Element]:
        if not self.trail.exists():
            return []
        lines = self.trail.read_text("utf-8").splitlines(keepends=True)
        messages = [fromstring(line) for line in lines if line.endswith("\n")]  # the last may be on its way
        return [one for one in messages if attribute(one, "EventIdentification/EventID", "csd-code") == code]

    def last(self, code: str, count: int = 1) -> Element:
        return wait_until(lambda: (found := self.events(code))[count - 1 :] and found, f"{code} is told")[-1]


def attribute(root: Element, path: str, name: str) -> str:
    found = root.find(path)
    return "" if found is None else found.get(name, "")


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("audited")
    dicomdir = dicomfiles.write_file_set(folder / "local", dicomfiles.study("one", 2, PatientID="P1"))
    (folder / "token").write_text("t" * 32)
    (folder / "rules.yaml").write_text("rules: []\n")
    with storescp(folder / "viewer") as viewer:
        peers = {"VIEWER": peer(viewer.aet, viewer.port), "DEAD": peer("DEAD", closed_port())}
        with gateway(
            folder / "gw", peers=peers, dicomdir=dicomdir, audit={"file": str(folder / "audit.xml"), "site": "Here"},
            http={"port": 0, "token_file": str(folder / "token")}, coercion={"rules": str(folder / "rules.yaml")},
            ae={"title": "GATEWAY", "port": 0, "workers": request.param},
        ) as running:  # fmt: skip
            yield Place(running, folder / "audit.xml", folder / "rules.yaml")


STUDY = {"StudyInstanceUID": dicomfiles.uid("one")}


def test_queries(place: Place) -> None:
    scu.find(place.gateway.port, "STUDY", {"PatientID": "P1", **STUDY}, aet="STORESCP", aec="GATEWAY")
    told = place.last("110112")
    assert attribute(told, "EventIdentification", "EventOutcomeIndicator") == "0"
    assert [one.get("UserID") for one in told.findall("ActiveParticipant")] == ["STORESCP", "GATEWAY"]
    query = told.find("ParticipantObjectIdentification/ParticipantObjectQuery")
    assert query is not None
    assert b"P1" in base64.b64decode(query.text or "")


def test_retrieves_good_and_bad(place: Place) -> None:
    scu.move(place.gateway.port, "STUDY", STUDY, "STORESCP", aet="STORESCP", aec="GATEWAY")
    told = place.last("110104")
    assert attribute(told, "EventIdentification", "EventOutcomeIndicator") == "0"
    assert attribute(told, "EventIdentification", "EventActionCode") == "R"
    objects = {one.get("ParticipantObjectID") for one in told.findall("ParticipantObjectIdentification")}
    assert objects == {dicomfiles.uid("one"), "P1"}
    before = len(place.events("110104"))
    scu.move(place.gateway.port, "STUDY", STUDY, "DEAD", aet="STORESCP", aec="GATEWAY")
    told = place.last("110104", before + 1)
    assert attribute(told, "EventIdentification", "EventOutcomeIndicator") == "8"
    assert [one.get("UserID") for one in told.findall("ActiveParticipant")] == ["GATEWAY", "DEAD", "STORESCP"]


def test_stores(place: Place, tmp_path: Path) -> None:
    before = len(place.events("110104"))
    files = dicomfiles.write(tmp_path, dicomfiles.study("stored", 1, "MR", PatientID="P2"))
    assert scu.store(place.gateway.port, files, aet="STORESCP", aec="GATEWAY").returncode == 0
    told = place.last("110104", before + 1)
    assert attribute(told, "EventIdentification", "EventActionCode") == "C"
    objects = {one.get("ParticipantObjectID") for one in told.findall("ParticipantObjectIdentification")}
    assert objects == {dicomfiles.uid("stored"), "P2"}


def test_whoever_is_turned_away(place: Place) -> None:
    scu.echo(place.gateway.port, aet="STRANGER", aec="GATEWAY")
    told = place.last("110113")
    assert attribute(told, "EventIdentification/EventTypeCode", "csd-code") == "110126"
    assert attribute(told, "ActiveParticipant", "UserID") == "STRANGER"
    assert place.gateway.http("/api/cache")[0] == 401
    assert attribute(place.last("110114"), "EventIdentification", "EventOutcomeIndicator") == "4"


def test_rules_that_change(place: Place) -> None:
    place.rules.write_text("rules: [{name: r, where: sent, then: [{set: {PatientComments: x}}]}]\n")

    def changes() -> list[Element]:
        return [
            one for one in place.events("110113")
            if attribute(one, "EventIdentification/EventTypeCode", "csd-code") == "110131"
        ]  # fmt: skip

    wait_until(changes, "the change is told")
    assert len(changes()) == 1


def test_deletions(place: Place) -> None:
    config = str(place.gateway.config)
    assert run(["archive", "delete", "--study", dicomfiles.uid("one"), "--yes", "--config", config]) == 0
    place.last("110105", 2)  # by the verb, which knows who ran it, and by the gateway, which noticed
    told = place.events("110105")
    for one in told:
        assert attribute(one, "ParticipantObjectIdentification", "ParticipantObjectID") == dicomfiles.uid("one")
    requestors = [attribute(one, "ActiveParticipant[@UserIsRequestor='true']", "UserID") for one in told]
    assert sorted(requestors) == ["", operator()]


def test_deletions_while_the_gateway_is_stopped(tmp_path: Path) -> None:
    dicomfiles.write_file_set(tmp_path / "local", dicomfiles.study("one", 2, PatientID="P1"))
    config = tmp_path / "gateway.yaml"
    config.write_text("archive: {dicomdir: local/DICOMDIR, min_free: 0}\naudit: {file: audit.xml}\n")
    for _ in range(2):  # the second finds nothing, and tells nothing
        assert run(["archive", "delete", "--study", dicomfiles.uid("one"), "--yes", "--config", str(config)]) == 0
    (told,) = (fromstring(line) for line in (tmp_path / "audit.xml").read_text("utf-8").splitlines())
    assert attribute(told, "EventIdentification/EventID", "csd-code") == "110105"
    who = told.find("ActiveParticipant")
    assert who is not None
    assert (who.get("UserID"), who.get("UserIsRequestor")) == (operator(), "true")
    assert who.get("AlternativeUserID") is None


def test_a_trail_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicomfiles.write_file_set(tmp_path / "local", dicomfiles.study("one", 2, PatientID="P1"))
    config = tmp_path / "gateway.yaml"
    config.write_text("archive: {dicomdir: local/DICOMDIR, min_free: 0}\naudit: {file: trail}\n")
    (tmp_path / "trail").mkdir()
    assert run(["archive", "delete", "--study", dicomfiles.uid("one"), "--yes", "--config", str(config)]) == 0
    assert capsys.readouterr().err == "warning: deleted, but the audit trail cannot be written: Is a directory\n"


def test_the_start_is_told(place: Place) -> None:
    (told,) = place.events("110100")  # not first: with workers it is the HTTP process that tells it
    assert attribute(told, "EventIdentification/EventTypeCode", "csd-code") == "110120"
    assert attribute(told, "AuditSourceIdentification", "AuditEnterpriseSiteID") == "Here"

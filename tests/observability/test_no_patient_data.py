"""Marked names go through every path, good and bad; none of them is in a log line, a metric or an error."""

import json
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import run
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import RunningPeer, dcmqrscp, storescp
from tests.support.ports import closed_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

MARK = "CANARY"
PERSON = {
    "PatientName": "CANARYNAME^ANNA", "PatientID": "CANARYID7", "AccessionNumber": "CANARYACC",
    "PatientBirthDate": "19010203", "StudyDescription": "CANARYDESCRIPTION", "StudyID": "CANARYSTUDY",
    "ReferringPhysicianName": "CANARYDOCTOR^BOB", "PatientComments": "CANARYCOMMENT",
}  # fmt: skip
RULES = """\
rules:
  - name: fails-for-all
    where: sent
    when: {receiving: REFUSED}
    on_failure: refuse
    then:
      - set: {PatientSize: "{PatientName}"}
"""


@dataclass
class Place:
    folder: Path
    gateway: RunningGateway
    leading: RunningPeer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("canary")
    dicomdir = dicomfiles.write_file_set(folder / "local", dicomfiles.study("here", 2, **PERSON))
    broken = next(file for file in (folder / "local").rglob("*") if file.is_file() and file.name != "DICOMDIR")
    with (
        storescp(folder / "viewer") as viewer,
        storescp(folder / "refused", "REFUSED") as refused,
        dcmqrscp(folder / "leading") as leading,
    ):
        elsewhere = [*dicomfiles.study("here", 2, **PERSON), *dicomfiles.study("there", 1, **PERSON)]
        leading.store(dicomfiles.write(folder / "corrected", elsewhere))
        peers = {
            "LEADING": peer(leading.aet, leading.port), "VIEWER": peer(viewer.aet, viewer.port),
            "REFUSED": peer(refused.aet, refused.port), "DEAD": peer("DEAD", closed_port()),
        }  # fmt: skip
        (folder / "coercion.yaml").write_text(RULES.replace('"{PatientName}"', "1"))
        with gateway(
            folder / "gw", peers=peers, dicomdir=dicomdir, leading={"peer": "LEADING"},
            coercion={"rules": str(folder / "coercion.yaml")}, logging={"level": "debug", "format": "json"},
            audit={"file": str(folder / "audit.xml")},
        ) as running:  # fmt: skip
            one = Place(folder, running, leading)
            good_paths(one)
            bad_paths(one)
            broken.write_bytes(broken.read_bytes()[:700])
            move(one, "here", "STORESCP")
            leading.stop()
            find(one, PatientName="CANARYNAME*", PatientID="CANARYID7", StudyInstanceUID="")
            move(one, "there", "STORESCP")
            (folder / "coercion.yaml").write_text("rules: [{name: CANARYRULE, where: nowhere}]\n")
            wait_until(lambda: running.metric("coercion_rules_reloads_total", outcome="failed"), "rules are refused")
            yield one


def find(place: Place, level: str = "STUDY", **keys: str) -> scu.Outcome:
    return scu.find(place.gateway.port, level, keys, aet="STORESCP", aec="GATEWAY")


def move(place: Place, study: str, destination: str) -> scu.Outcome:
    keys = {"StudyInstanceUID": dicomfiles.uid(study)}
    return scu.move(place.gateway.port, "STUDY", keys, destination, aet="STORESCP", aec="GATEWAY")


def good_paths(place: Place) -> None:
    port = place.gateway.port
    found = find(place, PatientName="CANARYNAME*", PatientID="", AccessionNumber="CANARYACC", StudyInstanceUID="")
    assert [str(one.PatientName) for one in found.answers] == [PERSON["PatientName"]] * 2
    keys = {"PatientID": "CANARYID7", "PatientName": ""}
    assert scu.find(port, "PATIENT", keys, aet="STORESCP", aec="GATEWAY", model="-P").answers
    assert move(place, "here", "STORESCP").status == 0
    assert move(place, "there", "STORESCP").status == 0
    patient = {"PatientID": "CANARYID7"}
    got = scu.get(port, "PATIENT", patient, place.folder / "got", aet="STORESCP", aec="GATEWAY", model="-P")
    assert got.returncode == 0
    files = dicomfiles.write(place.folder / "new", dicomfiles.study("new", 1, "MR", **PERSON))
    assert scu.store(port, files, aet="STORESCP", aec="GATEWAY").returncode == 0
    conflicting = dicomfiles.study("new", 1, "MR", **{**PERSON, "PatientID": "CANARY2"})
    other = dicomfiles.write(place.folder / "other", conflicting)
    scu.store(port, other, aet="STORESCP", aec="GATEWAY")


def bad_paths(place: Place) -> None:
    port = place.gateway.port
    for keys in (
        {"StudyInstanceUID": "CANARY.UID"}, {"StudyDate": "CANARYDATE"}, {"PatientBirthDate": "CANARY-CANARY"},
        {"SpecificCharacterSet": "CANARYSET", "PatientName": "CANARYNAME"},
    ):  # fmt: skip
        find(place, **keys)
    find(place, "CANARYLEVEL", PatientName="CANARYNAME")
    find(place, "SERIES", PatientName="CANARYNAME")
    move(place, "here", "CANARYDEST")
    move(place, "here", "DEAD")
    move(place, "here", "REFUSED")
    scu.move(port, "PATIENT", {"PatientID": "CANARY*"}, "STORESCP", aet="STORESCP", aec="GATEWAY", model="-P")
    bad = dicomfiles.write(place.folder / "bad", dicomfiles.study("bad", 1, **PERSON))
    data = bad[0].read_bytes()
    bad[0].write_bytes(data[: len(data) - 20_000])
    scu.store(port, bad, aet="STORESCP", aec="GATEWAY")
    for request in (
        b"GET /CANARYPATH HTTP/1.1\r\n\r\n",
        b"\x01\x00\x00\x00\x00\x44CANARY" + bytes(62),
        b"\x04\x00CANARY",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(20)
            while connection.recv(4096):
                pass
    for path in ("/CANARY^ANNA", "/api/CANARYID7?PatientName=CANARYNAME", "/modalities/CANARYMODALITY/x"):
        place.gateway.http(urllib.parse.quote(path, safe="/?="))


def test_logs_have_no_patient_data(place: Place) -> None:
    lines = place.gateway.text.splitlines()
    assert [line for line in lines if MARK in line and "CANARYRULE" not in line and "CANARYDEST" not in line] == []
    assert not [line for line in lines if "19010203" in line]


def test_logs_say_what_happened_all_the_same(place: Place) -> None:
    lines = [json.loads(line) for line in place.gateway.text.splitlines() if line.startswith("{")]
    assert {"info", "warning"} <= {line["level"] for line in lines}
    served = [line for line in lines if line["event"] == "request served"]
    assert {"find", "move", "get"} <= {line["service"] for line in served}
    for line in served:
        assert {"association", "peer", "calling", "address", "status", "seconds"} <= line.keys()
    found = next(line for line in served if line["service"] == "find")
    assert (found["peer"], found["status"], found["answers"]) == ("VIEWER", "0000H", 2)
    dead = next(line for line in lines if line["event"] == "destination failed")
    moved = [line for line in served if line["association"] == dead["association"]]
    assert [(line["service"], line["completed"], line["failed"]) for line in moved] == [("move", 0, 2)]


def test_metrics_have_no_patient_data(place: Place) -> None:
    assert MARK not in place.gateway.http("/metrics")[1]


def test_health_and_problems_have_no_patient_data(place: Place) -> None:
    for path in ("/readyz", "/livez", "/nothing/CANARYID7"):
        assert MARK not in place.gateway.http(path)[1]


def test_error_comments_have_no_values(place: Place) -> None:
    outcome = find(place, StudyInstanceUID="CANARY.UID")
    comments = [line for line in outcome.text.splitlines() if "Error Comment" in line or "(0000,0902)" in line]
    assert not [line for line in comments if MARK in line]


def test_verbs_say_failures_without_values(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        [
            "find",
            "-c",
            f"GATEWAY@127.0.0.1:{place.gateway.port}",
            "-aet",
            "STORESCP",
            "-k",
            "StudyInstanceUID=CANARY.UID",
        ]
    )
    assert MARK not in capsys.readouterr().err

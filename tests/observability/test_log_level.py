"""The log of several processes: each line says whose it is, and the level changes at run time in all of them."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support import scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.ports import closed_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


def put(running: RunningGateway, body: bytes) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{running.http_port}/api/logging", body, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("workers", [1, 2])
def test_the_level_changes_at_run_time(tmp_path: Path, workers: int) -> None:
    peers = {"VIEWER": peer("STORESCP", closed_port())}
    with gateway(tmp_path / "gw", peers=peers, ae={"title": "GATEWAY", "port": 0, "workers": workers}) as running:

        def echoes() -> int:
            assert scu.echo(running.port, aet="STORESCP", aec="GATEWAY").returncode == 0
            return running.text.count("request served")

        assert json.loads(running.http("/api/logging")[1]) == {"level": "info"}
        assert echoes() == 0
        assert put(running, b'{"level": "debug"}') == 200
        assert json.loads(running.http("/api/logging")[1]) == {"level": "debug"}
        wait_until(lambda: echoes() > 0, "an echo is logged at the level of debugging")
        for bad in (b'{"level": "loud"}', b"{}", b"[]", b"\xff", b"", b'{"level": []}', b"[" * 5000):
            assert put(running, bad) == 400
        assert put(running, b'{"level": "warning"}') == 200
        before = running.text.count("request served")
        scu.echo(running.port, aet="STORESCP", aec="GATEWAY")
        assert running.text.count("request served") == before


def test_each_line_says_whose_it_is(tmp_path: Path) -> None:
    peers = {"VIEWER": peer("STORESCP", closed_port())}
    ae = {"title": "GATEWAY", "port": 0, "workers": 2}
    with gateway(tmp_path / "gw", peers=peers, ae=ae, logging={"format": "json", "level": "debug"}) as running:
        for _ in range(4):
            scu.echo(running.port, aet="STORESCP", aec="GATEWAY")
            scu.find(running.port, "STUDY", {"PatientID": "X"}, aet="STORESCP", aec="GATEWAY")
        scu.echo(running.port, aet="NOBODY", aec="GATEWAY")
        wait_until(lambda: "association rejected" in running.text, "the last caller is turned away")
    lines = [json.loads(line) for line in running.text.splitlines() if line.startswith("{")]
    served = [line for line in lines if line["room"] == "dimse"]
    assert len(served) >= 9
    assert {line["worker"] for line in served} == {"worker-1", "worker-2"}
    assert all(line["association"] and line["address"] for line in served)
    assert all("worker" in line for line in lines if line["room"] not in {"workers", "archive"}), "or the parent's"

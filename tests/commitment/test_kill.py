"""Several processes, and kill -9 at any moment: what was acknowledged is reported, what was asked is awaited."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.commitment.messages import PUSH_MODEL
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import IMPLICIT
from gateway.errors import UpstreamError
from tests.commitment.nodes import FAST, A, action, event, peer_node
from tests.support.gateways import gateway, peer, serving
from tests.support.ports import free_port, is_open
from tests.support.processes import Running
from tests.support.waiting import wait_until

ROUNDS = 4


@contextmanager
def gateway_process(folder: Path, port: int, peer: int) -> Iterator[Running]:
    command: list[str | Path] = [sys.executable, "-m", "tests.commitment.runner", folder, str(port), str(peer)]
    with Running(command, folder / "runner.log") as process:
        wait_until(lambda: is_open(port) or process.exit_status is not None, "the gateway listens")
        assert process.exit_status is None, process.text
        yield process


def ask(port: int, uids: list[str]) -> list[str]:
    """Ask until the gateway is gone; returns what it acknowledged."""
    acknowledged: list[str] = []
    try:
        known = Peer("gateway", "GATEWAY", "127.0.0.1", port, FAST)
        with connect(known, "MODALITY", [(PUSH_MODEL, IMPLICIT)]) as association:
            for uid in uids:
                assert association.n_action(action(uid)) == 0
                acknowledged.append(uid)
    except UpstreamError:
        return acknowledged
    return acknowledged


def test_a_gateway_killed_between_request_and_report_reports_after_the_restart(tmp_path: Path) -> None:
    """The service as it is run, two workers, all of it killed."""
    port = free_port()
    peers = {"MODALITY": peer("MODALITY", port)}  # nobody listens there yet
    with gateway(tmp_path, peers=peers, ae={"port": free_port(), "workers": 2}) as running:
        assert ask(running.port, ["2.25.1"]) == ["2.25.1"]
        running.process.kill()
    with peer_node(port=port) as modality, serving(tmp_path / "gateway.yaml"):
        wait_until(lambda: modality.events, "the report arrives")
        assert modality.events[0][0].transaction_uid == "2.25.1"


def test_what_one_process_asks_another_hears_of(tmp_path: Path) -> None:
    """The process with HTTP asks, a worker takes the report."""
    with (
        peer_node() as modality,
        gateway(
            tmp_path, peers={"MODALITY": peer("MODALITY", modality.peer.port)}, ae={"port": free_port(), "workers": 2}
        ) as running,
    ):
        body = json.dumps({"DicomInstances": [[A.sop_class_uid, A.sop_instance_uid]]}).encode()
        url = f"http://127.0.0.1:{running.http_port}/modalities/MODALITY/storage-commitment"
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=30) as answer:
            uid = json.load(answer)["ID"]
        wire = CommitmentAssociations("MODALITY")
        me = Peer("gateway", "GATEWAY", "127.0.0.1", running.port, FAST)
        assert wire.report(me, event(uid, references=[A]), "MODALITY") == 0
        assert json.loads(running.http(f"/storage-commitment/{uid}")[1])["Status"] == "Success"


def test_killed_at_any_moment_every_acknowledged_request_is_reported(tmp_path: Path) -> None:
    port = free_port()
    acknowledged: set[str] = set()
    with peer_node() as modality:
        peer = modality.peer.port
        for number in range(ROUNDS):
            with gateway_process(tmp_path, port, peer) as process:
                acknowledged.update(ask(port, [f"2.25.{number}.{i}" for i in range(5 * number + 1)]))
                process.signal(signal.SIGKILL)
                process.wait()
        with gateway_process(tmp_path, port, peer):
            wait_until(lambda: acknowledged <= {one[0].transaction_uid for one in modality.events}, "all are reported")
    assert len(acknowledged) == sum(5 * number + 1 for number in range(ROUNDS))

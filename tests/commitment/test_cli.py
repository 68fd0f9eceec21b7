"""``commit`` and ``store --commit`` as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import run
from gateway.commitment.messages import PUSH_MODEL
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.ports import EventChannel
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import IMPLICIT
from tests.commitment.nodes import A, action, event, peer_node
from tests.commitment.test_on_the_wire import commits
from tests.commitment.test_rest import REFERENCES, STUDY, Node, node_in
from tests.support import dicomfiles, peers, scu
from tests.support.ports import closed_port, free_port
from tests.support.waiting import wait_until

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run_it(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([str(one) for one in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return dicomfiles.write(tmp_path / "files", STUDY)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_in(tmp_path) as found:
        yield found


@pytest.mark.peers("orthanc", "dcmtk")
def test_ask_and_store_alone_with_orthanc(tmp_path: Path, files: list[Path], command: Command) -> None:
    port = free_port()
    with peers.orthanc(tmp_path / "orthanc", peers={"ME": port}) as there:
        there.store(files[:1])
        to, me = f"ORTHANC@127.0.0.1:{there.port}", f"ME@127.0.0.1:{port}"
        status, out, err = command("commit", "ask", "-c", to, "-b", me, files[0])
        assert (status, err) == (0, ""), err
        assert "success, 1 of 1 committed" in out
        status, out, err = command("commit", "ask", "-c", to, "-b", me, files[0].parent, "--json")
        assert (status, json.loads(out)["Status"]) == (1, "Failure")
        assert err.count("0112H") == 2
        status, out, err = command("store", "-c", to, "-b", me, "--commit", *files)
        assert (status, err) == (0, ""), err
        assert "success, 3 of 3 committed" in out


def test_ask_alone_takes_a_report_on_the_same_association(files: list[Path], command: Command) -> None:
    def report(channel: EventChannel, uid: str) -> None:
        channel.report(event(uid, REFERENCES[2], references=REFERENCES))

    with peer_node(commits(report)) as peer:
        status, out, err = command("commit", "ask", "-c", f"MODALITY@127.0.0.1:{peer.peer.port}", *files)
    assert status == 1
    assert "failure, 2 of 3 committed" in out
    assert err.count("error:") == 1


def test_without_a_report_it_is_pending_and_a_refusal_is_an_error(files: list[Path], command: Command) -> None:
    with peer_node() as peer:
        to = f"MODALITY@127.0.0.1:{peer.peer.port}"
        status, out, _ = command("commit", "ask", "-c", to, "--wait", 0.1, files[0])
        assert (status, "pending, 0 of 1" in out) == (0, True)
    status, out, err = command("commit", "ask", "-c", f"MODALITY@127.0.0.1:{closed_port()}", files[0])
    assert (status, "refused" in out, "cannot connect" in err) == (1, True, True)
    assert err.count("\n") == 1


@pytest.mark.peers
def test_ask_with_a_configuration_waits_for_the_running_gateway(
    tmp_path: Path, node: Node, files: list[Path], command: Command
) -> None:
    assert scu.store(node.gateway.port, files, aet="VNA", aec="GATEWAY").returncode == 0
    config = tmp_path / "gateway.yaml"
    common = ("--config", config)
    status, out, _ = command("commit", "ask", *common, "--peer", "VNA", "--wait", 0, "P1")
    assert (status, "pending, 0 of 3" in out) == (0, True)
    uid = out.partition(":")[0]
    assert node.report(uid, REFERENCES[0]) == [0]
    status, out, err = command("commit", "show", *common, uid)
    assert (status, "failure, 2 of 3 committed" in out, "0112H" in err) == (1, True, True)
    status, out, _ = command("commit", "list", *common, "--json")
    assert [one["state"] for one in json.loads(out)["inquiries"]] == ["failure"]
    status, _, err = command("commit", "ask", *common, "--peer", "MUTE", "--wait", 0, "P1")
    assert (status, "lacks the permission commit" in err) == (1, True)
    status, _, err = command("commit", "ask", *common, "--peer", "VNA", "NOBODY")
    assert (status, "nothing here is named NOBODY" in err) == (1, True)


def shown(command: Command, config: Path, uid: str) -> Any:
    status, out, _ = command("commit", "show", "--config", config, "--json", uid)
    assert status == 0
    return json.loads(out)


def test_jobs_are_paused_resumed_and_cancelled_beside_the_running_gateway(
    tmp_path: Path, node: Node, command: Command
) -> None:
    config = tmp_path / "gateway.yaml"
    with connect(node.peer, "DOWN", [(PUSH_MODEL, IMPLICIT)]) as association:
        assert association.n_action(action("2.25.1", A)) == 0
    wait_until(lambda: shown(command, config, "2.25.1")["attempts"], "an attempt fails")
    assert command("commit", "pause", "--config", config, "2.25.1")[:2] == (0, "2.25.1: paused\n")
    status, _, err = command("commit", "pause", "--config", config, "2.25.1")
    assert (status, err) == (1, "error: a job that is paused cannot be given pause\n")
    assert command("commit", "resume", "--config", config, "2.25.1")[0] == 0
    wait_until(lambda: shown(command, config, "2.25.1")["state"] == "reporting", "the running gateway takes it up")
    assert command("commit", "cancel", "--config", config, "2.25.1")[:2] == (0, "2.25.1: cancelled\n")
    assert shown(command, config, "2.25.1")["decided"][0]["reason"] == 274
    status, out, _ = command("commit", "show", "--config", config, "2.25.1")
    assert "was not available" in out
    status, out, _ = command("commit", "list", "--config", config)
    assert "cancelled" in out
    assert command("commit", "cancel", "--config", config, "9.9")[0] == 1


@pytest.mark.peers
def test_retention_lets_go_only_what_another_archive_has_committed(
    tmp_path: Path, node: Node, files: list[Path], command: Command
) -> None:
    def goes(*options: str) -> int:
        status, out, err = command("archive", "retain", "--config", tmp_path / "gateway.yaml", "--json", *options)
        assert status == 0, err
        found = json.loads(out)
        return len(found["studies"] if isinstance(found, dict) else found)

    assert scu.store(node.gateway.port, files[:2], aet="VNA", aec="GATEWAY").returncode == 0
    assert goes("--dry-run") == 0
    uid = node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"})["ID"]
    assert CommitmentAssociations("VNA").report(node.peer, event(uid, references=REFERENCES[:2]), "VNA") == 0
    assert goes("--dry-run") == 1
    assert scu.store(node.gateway.port, files[2:], aet="VNA", aec="GATEWAY").returncode == 0
    assert goes("--dry-run") == 0  # one more instance that nobody else has
    node.report(node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"})["ID"])
    assert goes() == 1
    node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"}, status=404)


@pytest.mark.parametrize("bind", ["ME:port", "ME:0", "ME@127.0.0.1:99999"])
def test_a_listener_that_cannot_be_is_a_usage_error(files: list[Path], command: Command, bind: str) -> None:
    assert command("commit", "ask", "-c", "VNA@127.0.0.1:104", "-b", bind, files[0])[0] == 2

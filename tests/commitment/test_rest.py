"""The HTTP interface of a whole gateway, with Orthanc and a scripted peer behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from gateway.commitment import job, orthanc
from gateway.commitment.messages import PUSH_MODEL, Reference
from gateway.config import load
from gateway.daemon.listeners import Listeners
from gateway.daemon.running import alone
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import IMPLICIT
from gateway.errors import UpstreamError
from gateway.web.openapi import description
from tests.commitment.nodes import FAST, PeerNode, action, event, peer_node
from tests.support import dicomfiles, peers, scu
from tests.support.ports import closed_port, free_port
from tests.support.waiting import wait_until

STUDY = dicomfiles.study("s", 3, PatientID="P1")
REFERENCES = [Reference(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in STUDY]


@dataclass
class Node:
    """A gateway that runs, and a client of it."""

    gateway: Listeners
    client: httpx.Client
    vna: PeerNode

    @property
    def peer(self) -> Peer:
        """The gateway, as its peers call it."""
        return Peer("gateway", "GATEWAY", "127.0.0.1", self.gateway.port, FAST)

    def post(self, path: str, body: object = None, status: int = 200) -> Any:
        """POST and check that the answer is what is described."""
        return self._checked("post", path, self.client.post(path, json=body), status)

    def get(self, path: str, status: int = 200) -> Any:
        """GET likewise."""
        return self._checked("get", path, self.client.get(path), status)

    def _checked(self, method: str, path: str, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        document = answer.json()
        described = operation(method, path)["responses"][str(status)]["content"]
        schema = described[answer.headers["content-type"]]["schema"]
        jsonschema.validate(document, {**schema, "components": description()["components"]})
        return document

    def report(self, uid: str, *failed: Reference) -> list[int]:
        """Let the VNA report."""
        one = event(uid, *failed, references=REFERENCES)
        return [CommitmentAssociations("VNA").report(self.peer, one, "VNA")]


def operation(method: str, path: str) -> Any:
    """The description of a route by a path that has it."""
    parts = path.split("/")
    for template, item in description()["paths"].items():
        pattern = template.split("/")
        same = len(pattern) == len(parts) and all(a[:1] == "{" or a == b for a, b in zip(pattern, parts, strict=True))
        if same and method in item:
            return item[method]
    raise AssertionError(f"{method} {path} is not described")


CONFIGURATION = """
ae: {{port: {port}, workers: 1}}
http: {{port: 0}}
archive:
  {{dicomdir: archive/DICOMDIR, create: true, index: index, min_free: 0,
   retain: {{rules: [{{received_before: PT0.001S, only_if: committed}}]}}}}
commitment: {{retry: {{first: PT0.05S, longest: PT0.1S}}, timeout: PT1H}}
peers:
  VNA: {{aet: VNA, host: 127.0.0.1, port: {vna}, allow: [echo, store, commit]}}
  MUTE: {{aet: MUTE, host: 127.0.0.1, port: {down}, allow: [echo, store]}}
  DOWN: {{aet: DOWN, host: 127.0.0.1, port: {down}, allow: [commit]}}
  ORTHANC: {{aet: ORTHANC, host: 127.0.0.1, port: {orthanc}, allow: [echo, store, commit]}}
"""


@contextmanager
def node_in(
    folder: Path, *, port: int = 0, orthanc_port: int = 104, configuration: str = CONFIGURATION
) -> Iterator[Node]:
    with peer_node(aet="VNA") as vna:
        file = folder / "gateway.yaml"
        ports = {"port": port, "vna": vna.peer.port, "down": closed_port(), "orthanc": orthanc_port}
        file.write_text(configuration.format(**ports))
        with (
            alone(load(file, {})) as gateway,
            httpx.Client(base_url=f"http://127.0.0.1:{gateway.http_port}", trust_env=False, timeout=20) as client,
        ):
            yield Node(gateway, client, vna)


@contextmanager
def filled(folder: Path) -> Iterator[Node]:
    with node_in(folder) as found:
        files = dicomfiles.write(folder / "files", STUDY)
        stored = scu.store(found.gateway.port, files, aet="VNA", aec="GATEWAY")
        assert stored.returncode == 0, stored.text
        yield found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with filled(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """For tests that change nothing."""
    with filled(tmp_path_factory.mktemp("untouched")) as found:
        yield found


pytestmark = pytest.mark.peers


def names() -> list[str]:
    """Every way to name the study that is here."""
    one = STUDY[0]
    patient, study, series = "P1", str(one.StudyInstanceUID), str(one.SeriesInstanceUID)
    identifiers = [orthanc.identifier(patient), orthanc.identifier(patient, study)]
    return [patient, study, series, *identifiers, orthanc.identifier(patient, study, series)]


def test_a_peer_is_asked_by_every_name_of_a_resource(node: Node) -> None:
    for name in names():
        started = node.post("/modalities/VNA/storage-commitment", {"Resources": name})
        assert started["Path"] == f"/storage-commitment/{started['ID']}"
        assert node.get(started["Path"]) == {"RemoteAET": "VNA", "Status": "Pending", "State": "pending"}
        assert node.report(started["ID"]) == [0]
        report = node.get(started["Path"])
        assert report["Status"] == "Success"
        assert {one["SOPInstanceUID"] for one in report["Success"]} == {one.sop_instance_uid for one in REFERENCES}


def test_instances_are_named_as_objects_or_pairs(node: Node) -> None:
    first, second, third = REFERENCES
    listed: list[object] = [
        {"SOPClassUID": first.sop_class_uid, "SOPInstanceUID": first.sop_instance_uid},
        [second.sop_class_uid, second.sop_instance_uid],
    ]
    body = {"DicomInstances": listed, "Resources": [third.sop_instance_uid]}
    started = node.post("/modalities/VNA/storage-commitment", body)
    assert node.report(started["ID"], second) == [0]
    report = node.get(started["Path"])
    assert report["Status"] == "Failure"
    assert [one["FailureReason"] for one in report["Failures"]] == [274]


def test_remove_deletes_only_after_a_full_success(node: Node) -> None:
    uid = node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"})["ID"]
    node.post(f"/storage-commitment/{uid}/remove", status=409)
    node.report(uid, REFERENCES[0])
    node.post(f"/storage-commitment/{uid}/remove", status=409)
    uid = node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"})["ID"]
    node.report(uid)
    assert node.post(f"/storage-commitment/{uid}/remove") == {"Removed": 3}
    assert node.post(f"/storage-commitment/{uid}/remove") == {"Removed": 0}
    node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"}, status=404)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/modalities/NOBODY/storage-commitment", {"Resources": "P1"}, 404),
        ("/modalities/VNA/storage-commitment", {"Resources": "P2"}, 404),
        ("/modalities/VNA/storage-commitment", {"Resources": []}, 400),
        ("/modalities/VNA/storage-commitment", {}, 400),
        ("/modalities/VNA/storage-commitment", {"DicomInstances": [["1.2"]]}, 400),
        ("/modalities/DOWN/storage-commitment", {"Resources": "P1"}, 502),
        ("/modalities/VNA/store", {"Resources": "P1", "Asynchronous": True}, 501),
        ("/modalities/VNA/store", {"Resources": []}, 400),
        ("/modalities/NOBODY/store", {"Resources": "P1"}, 404),
        ("/storage-commitment/1.2.3/remove", None, 404),
        ("/api/commitment/jobs/1.2.3/pause", None, 404),
        ("/api/commitment/jobs/1.2.3/explode", None, 404),
    ],
)
def test_what_cannot_be_done_is_a_problem(untouched: Node, path: str, body: object, status: int) -> None:
    assert untouched.post(path, body, status)["status"] == status


def test_a_body_that_is_no_json_is_a_problem(untouched: Node) -> None:
    for content in (b"{", b"\xff", b"[" * 100_000):
        assert untouched.client.post("/modalities/VNA/storage-commitment", content=content).status_code == 400


def test_jobs_are_shown_paused_resumed_and_cancelled(node: Node) -> None:
    with connect(node.peer, "DOWN", [(PUSH_MODEL, IMPLICIT)]) as association:
        assert association.n_action(action("2.25.1")) == 0
    path = "/api/commitment/jobs/2.25.1"
    wait_until(lambda: node.get(path)["attempts"] >= 1, "an attempt fails")
    assert [(one["transaction_uid"], one["peer"]) for one in node.get("/api/commitment/jobs")] == [("2.25.1", "DOWN")]
    assert node.post(f"{path}/pause")["state"] == "paused"
    node.post(f"{path}/pause", status=409)
    assert node.post(f"{path}/resume")["state"] == "accepted"
    wait_until(lambda: node.get(path)["state"] == "reporting", "it is decided anew")
    assert node.post(f"{path}/cancel")["state"] == "cancelled"
    assert [one["reason"] for one in node.get(path)["decided"]] == [274, 274]


def test_a_peer_without_the_permission_can_neither_ask_nor_report(untouched: Node) -> None:
    wire = CommitmentAssociations("MUTE")
    with pytest.raises(UpstreamError, match="not accepted"):
        wire.action(untouched.peer, action("2.25.1"), lambda event, caller: None, 0.0)  # noqa: ARG005
    with pytest.raises(UpstreamError, match="not accepted"):
        wire.report(untouched.peer, event("2.25.1"), "MUTE")


def test_inquiries_are_listed(node: Node) -> None:
    uid = node.post("/modalities/VNA/storage-commitment", {"Resources": "P1"})["ID"]
    assert [(one["transaction_uid"], one["instances"]) for one in node.get("/api/commitment/inquiries")] == [(uid, 3)]
    assert node.get("/modalities") == ["DOWN", "MUTE", "ORTHANC", "VNA"]


def test_orthancs_routes_need_the_token_like_all_others(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "reader").write_text("fedcba9876543210")
    http = "http: {{port: 0, token_file: token, read_only_token_file: reader}}"
    with node_in(tmp_path, configuration=CONFIGURATION.replace("http: {{port: 0}}", http)) as node:
        reader = {"Authorization": "Bearer fedcba9876543210"}
        for path in ("/modalities", "/storage-commitment/1.2", "/api/commitment/jobs", "/openapi.json"):
            assert node.client.get(path).status_code == 401
            assert node.client.get(path, headers=reader).status_code in {200, 404}
        for path in ("/modalities/VNA/store", "/storage-commitment/1.2/remove", "/api/commitment/jobs/1.2/cancel"):
            assert node.client.post(path, headers=reader, json={}).status_code == 403


def test_every_route_is_described_and_the_description_is_served(untouched: Node) -> None:
    served = untouched.client.get("/openapi.json").json()
    assert served == description()
    app = untouched.client
    for template, item in served["paths"].items():
        path = template.replace("{transaction}", "1.2.3").replace("{peer}", "NOBODY").replace("{event}", "pause")
        for method in item:
            assert app.request(method, path).status_code != 405, (method, template)


@pytest.mark.peers("orthanc", "dcmtk")
def test_store_and_commit_to_orthanc_and_back(tmp_path: Path) -> None:
    port = free_port()
    with (
        peers.orthanc(tmp_path / "orthanc", peers={"GATEWAY": port}) as there,
        node_in(tmp_path, port=port, orthanc_port=there.port) as node,
    ):
        files = dicomfiles.write(tmp_path / "files", STUDY)
        assert scu.store(port, files, aet="VNA", aec="GATEWAY").returncode == 0
        sent = node.post("/modalities/ORTHANC/store", {"Resources": names()[-1], "StorageCommitment": True})
        assert (sent["InstancesCount"], sent["FailedInstancesCount"], sent["RemoteAet"]) == (3, 0, "ORTHANC")
        path = f"/storage-commitment/{sent['StorageCommitmentTransactionUID']}"
        wait_until(lambda: node.get(path)["Status"] == "Success", "Orthanc reports")
        assert node.post(f"{path}/remove") == {"Removed": 3}
        assert len(there.api("/instances")) == 3
        back = there.api("/modalities/GATEWAY/store", b'{"Resources":["%s"],"StorageCommitment":true}'
                         % there.api("/studies")[0].encode(), "POST")  # fmt: skip
        uid = back["StorageCommitmentTransactionUID"]
        wait_until(lambda: there.api(f"/storage-commitment/{uid}")["Status"] == "Success", "we report")
        wait_until(lambda: node.get(f"/api/commitment/jobs/{uid}")["state"] == job.State.REPORTED.value, "written down")


def test_a_peer_that_is_down_fails_all_of_a_store(untouched: Node) -> None:
    answer = untouched.client.post("/modalities/DOWN/store", json={"Resources": "P1", "StorageCommitment": True})
    assert answer.status_code == 502
    assert answer.json()["FailedInstancesCount"] == 3
    assert "StorageCommitmentTransactionUID" not in answer.json()

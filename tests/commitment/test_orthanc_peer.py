"""Orthanc as the other side, in both directions, driven by its own REST interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.local import LocalArchive
from gateway.commitment import inquiry, orthanc
from gateway.commitment.decision import ArchiveDecider, Verify
from gateway.commitment.elsewhere import LeadingInstances
from gateway.commitment.messages import Reason, Reference
from gateway.commitment.resources import Resources, reference_to
from gateway.dicom.caller import Caller
from gateway.dimse.ports import Peer
from gateway.leading.archive import LeadingArchive, Options
from gateway.leading.connecting import connector
from tests.commitment.nodes import FAST, GatewayNode, gateway_node
from tests.support import dicomfiles, peers
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers("orthanc", "dcmtk")
MISSING = Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3.404")


@dataclass
class Pair:
    """The gateway with an archive, and Orthanc; each is a peer of the other."""

    node: GatewayNode
    archive: LocalArchive
    orthanc: peers.RunningPeer
    files: list[Path]

    @property
    def references(self) -> list[Reference]:
        """What the files are."""
        return [Reference(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in dicomfiles.study("s", 3)]

    def post(self, path: str, body: object) -> dict[str, str]:
        """POST to Orthanc's REST interface."""
        answer: dict[str, str] = self.orthanc.api(path, json.dumps(body).encode(), "POST")
        return answer


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    port = free_port()
    archive = LocalArchive(folder / "archive" / "DICOMDIR")
    archive.prepare()
    decider = ArchiveDecider(archive.instances, Verify.SIZE)
    files = dicomfiles.write(folder / "files", dicomfiles.study("s", 3, PatientID="P1"))
    with peers.orthanc(folder / "orthanc", peers={"GATEWAY": port}) as there:
        peer = Peer("orthanc", there.aet, "127.0.0.1", there.port, FAST)
        with gateway_node(folder, peer, decider=decider, port=port, store=archive) as node:
            yield Pair(node, archive, there, files)
    archive.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("orthanc")) as found:
        found.orthanc.store(found.files)
        yield found


def pairs(*references: Reference) -> list[list[str]]:
    return [[one.sop_class_uid, one.sop_instance_uid] for one in references]


def test_orthanc_stores_and_asks_and_removes_what_we_committed(tmp_path: Path) -> None:
    with pair(tmp_path) as both:
        both.orthanc.store(both.files)
        resources = both.orthanc.api("/studies")
        stored = both.post("/modalities/GATEWAY/store", {"Resources": resources, "StorageCommitment": True})
        uid = stored["StorageCommitmentTransactionUID"]
        path = f"/storage-commitment/{uid}"
        wait_until(lambda: both.orthanc.api(path)["Status"] == "Success", "Orthanc has our report")
        assert len(both.orthanc.api(path)["Success"]) == 3
        both.post(f"{path}/remove", {})
        assert both.orthanc.api("/instances") == []
        assert len(both.archive.instances(sop_uids=[one.sop_instance_uid for one in both.references])) == 3


def test_orthanc_is_told_what_is_not_here(both: Pair) -> None:
    asked = both.post("/modalities/GATEWAY/storage-commitment", {"DicomInstances": pairs(MISSING)})
    theirs = wait_until(lambda: _decided(both, asked["ID"]), "Orthanc has our report")
    assert theirs["Status"] == "Failure"
    assert theirs["Failures"] == [
        {
            "SOPClassUID": MISSING.sop_class_uid,
            "SOPInstanceUID": MISSING.sop_instance_uid,
            "FailureReason": Reason.NO_SUCH_OBJECT_INSTANCE,
            "Description": orthanc.DESCRIPTIONS[Reason.NO_SUCH_OBJECT_INSTANCE],
        }
    ]
    assert asked["Path"] == orthanc.started(asked["ID"])["Path"]


def test_our_answers_have_the_keys_of_orthancs(both: Pair) -> None:
    wanted = [*both.references, MISSING]
    asked = both.post("/modalities/GATEWAY/storage-commitment", {"DicomInstances": pairs(*wanted)})
    theirs = wait_until(lambda: _decided(both, asked["ID"]), "Orthanc has our report")
    uid = both.node.commitment.request("orthanc", wanted).transaction_uid
    both.node.inquiry_reaches(uid, inquiry.State.FAILURE)
    inquiries = both.node.commitment.ledgers.inquiries
    ours: Any = orthanc.report(inquiries.inquiry(uid), inquiries.instances(uid))
    assert set(ours) - set(theirs) == {"State"}
    assert set(theirs) <= set(ours)
    assert asked.keys() == orthanc.started(uid).keys()
    failures = [{key: type(value) for key, value in one.items()} for one in theirs["Failures"]]
    assert failures[0] == {key: type(value) for key, value in ours["Failures"][0].items()}


def _decided(both: Pair, uid: str) -> Any:
    found = both.orthanc.api(f"/storage-commitment/{uid}")
    return found if found["Status"] != "Pending" else None


def test_orthanc_commits_what_it_has(both: Pair) -> None:
    found = both.node.commitment.request("orthanc", both.references)
    assert found.state in {inquiry.State.PENDING, inquiry.State.SUCCESS}  # its report may overtake its response
    both.node.inquiry_reaches(found.transaction_uid, inquiry.State.SUCCESS)
    uids = [one.sop_instance_uid for one in both.references]
    assert both.node.commitment.ledgers.inquiries.committed_elsewhere(uids)


def test_orthanc_does_not_commit_what_it_has_not(both: Pair) -> None:
    uid = both.node.commitment.request("orthanc", [both.references[0], MISSING]).transaction_uid
    both.node.inquiry_reaches(uid, inquiry.State.FAILURE)
    decided = {one.reference: one.reason for one in both.node.commitment.ledgers.inquiries.instances(uid)}
    assert decided == {both.references[0]: 0, MISSING: Reason.NO_SUCH_OBJECT_INSTANCE}


def test_orthancs_identifiers_are_ours(both: Pair) -> None:
    both.post("/modalities/GATEWAY/store", {"Resources": both.orthanc.api("/studies")})
    resources = Resources(both.archive.instances, both.archive, Caller("GATEWAY"))
    for level, count in (("patients", 3), ("studies", 3), ("series", 3), ("instances", 1)):
        for name in both.orthanc.api(f"/{level}"):
            found = resources.find(name)
            assert len(found) == count, level
            assert {reference_to(one) for one in found} <= set(both.references)


def test_orthanc_as_leading_archive_counts_where_its_holdings_are_asked_for(both: Pair) -> None:
    """What is not here is looked for there, in one query without study or series."""
    peer = both.node.commitment.routes.named("orthanc")
    assert peer is not None
    leading = LeadingArchive("orthanc", connector(peer, "GATEWAY"), Options())
    try:
        decider = ArchiveDecider(lambda *, sop_uids: [], Verify.SIZE, elsewhere=LeadingInstances([leading]))  # noqa: ARG005
        wrong = Reference("1.2.840.10008.5.1.4.1.1.4", both.references[1].sop_instance_uid)
        decided = list(decider([both.references[0], wrong, MISSING], Caller("MODALITY")))
    finally:
        leading.close()
    assert decided == [0, Reason.CLASS_INSTANCE_CONFLICT, Reason.NO_SUCH_OBJECT_INSTANCE]

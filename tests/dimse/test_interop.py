"""DCMTK's tools as a user runs them, and its archive as an upstream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.models import VERIFICATION
from gateway.dimse.negotiation import Role
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Cancelled, Peer, Verb
from gateway.dimse.requestor import connect
from gateway.dimse.server import Server
from gateway.dimse.services import Handlers
from tests.dimse.doubles import (
    CT,
    EXPLICIT,
    FAST,
    IMPLICIT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Finder,
    Folder,
    Shelf,
    instance,
    studies,
)
from tests.support import scu
from tests.support.dicomfiles import study, uid, write
from tests.support.peers import RunningPeer, dcmqrscp, storescp
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Everything, for everybody, under any title."""
    (tmp_path / "in").mkdir()
    shelf = Shelf([instance(tmp_path, f"1.2.{at}", 100_000) for at in range(3)])
    handlers = Handlers(find=Finder(studies(2000)), store=Folder(tmp_path / "in"), get=shelf.get)
    with Server(handlers, PeerPolicy(["ANY-SCP"], [], frozenset(Verb))) as running:
        yield running


def peer_of(running: RunningPeer) -> Peer:
    return Peer("upstream", running.aet, "127.0.0.1", running.port, FAST)


def test_echoscu(server: Server) -> None:
    assert scu.echo(server.port).returncode == 0


def test_echoscu_with_every_context_it_can_propose(server: Server) -> None:
    assert scu.echo(server.port, options=["-ppc", "128", "-pts", "38"]).returncode == 0


def test_findscu_gets_every_answer(server: Server) -> None:
    outcome = scu.find(server.port, "STUDY", {"PatientName": "", "StudyInstanceUID": ""})
    assert (outcome.status, len(outcome.answers)) == (0, 2000)
    assert outcome.answers[1999].PatientName == "Name^1999"


def test_findscu_cancels() -> None:
    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:  # noqa: ARG001
        yield from studies(1000)
        wait_until(cancelled, "it is cancelled")

    with Server(Handlers(find=find), PeerPolicy(["ANY-SCP"], [], frozenset(Verb))) as server:
        outcome = scu.find(server.port, "STUDY", {"StudyInstanceUID": ""}, options=["--cancel", "3"])
    assert outcome.status == 0xFE00


def test_findscu_is_told_what_is_wrong(server: Server) -> None:
    outcome = scu.find(server.port, "SERIES", {"SeriesInstanceUID": ""})
    assert outcome.status == 0xA900
    assert "StudyInstanceUID is required here" in outcome.text


def test_dcmsend_stores(server: Server, tmp_path: Path) -> None:
    files = write(tmp_path / "files", study("stored", 3))
    outcome = scu.store(server.port, files)
    assert outcome.returncode == 0
    assert len(list((tmp_path / "in").iterdir())) == 3


def test_getscu_receives_what_was_sent(server: Server, tmp_path: Path) -> None:
    outcome = scu.get(server.port, "STUDY", {"StudyInstanceUID": "1.2"}, tmp_path / "got")
    assert outcome.returncode == 0
    assert len(list((tmp_path / "got").iterdir())) == 3


def test_dcmqrscp_as_upstream(tmp_path: Path) -> None:
    instances = study("upstream", 5)
    with storescp(tmp_path / "viewer") as viewer, dcmqrscp(tmp_path / "q", peers={viewer.aet: viewer.port}) as leading:
        leading.store(write(tmp_path / "files", instances))
        contexts = [(VERIFICATION, IMPLICIT), (STUDY_ROOT_FIND, EXPLICIT), (STUDY_ROOT_MOVE, EXPLICIT),
                    (STUDY_ROOT_GET, EXPLICIT), (CT, EXPLICIT)]  # fmt: skip
        identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid("upstream")})
        (tmp_path / "got").mkdir()
        folder = Folder(tmp_path / "got")
        with connect(peer_of(leading), "ME", contexts, roles={CT: Role(scu=True, scp=True)}) as association:
            assert association.echo() == 0
            (answer,) = association.find(STUDY_ROOT_FIND, identifier)
            assert answer.text(0x0020000D) == uid("upstream")
            *_, moved = association.move(STUDY_ROOT_MOVE, identifier, viewer.aet)
            assert (moved.status, moved.completed) == (0, 5)
            *_, got = association.get(STUDY_ROOT_GET, identifier, folder)
            assert (got.status, got.completed) == (0, 5)
        assert set(viewer.instances()) == {str(one.SOPInstanceUID) for one in instances}
        assert {path.name for path in (tmp_path / "got").iterdir()} == set(viewer.instances())


@pytest.mark.parametrize("nodelay", ["0", "1"])
def test_storescp_is_not_waited_for(nodelay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm at the peer against delayed acknowledgements here costs 40 ms a message; not with us."""
    monkeypatch.setenv("TCP_NODELAY", nodelay)
    with (
        storescp(tmp_path / "viewer", options=("+xa", "--ignore")) as viewer,
        connect(peer_of(viewer), "ME", [(CT, EXPLICIT)]) as association,
    ):
        one = instance(tmp_path, "1.2.3", 100_000)
        association.store(one)
        began = perf_counter()
        for _ in range(20):
            assert association.store(one) == 0
        assert perf_counter() - began < 20 * 0.02

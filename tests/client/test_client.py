"""The Python API against real archives and scripted peers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.client import Client, Progress, UpstreamError, Via, peer
from gateway.client.client import Listening
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.errors import BadInstance
from tests.client.scripted import client_of, scripted
from tests.retrieve.world import gateway
from tests.support import peers
from tests.support.dicomfiles import instance, study, uid, write
from tests.support.peers import RunningPeer
from tests.support.ports import closed_port, free_port

STUDY = [*study("it", 5, PatientID="P1"), instance("it", "2", 1, "MR", PatientID="P1")]
UIDS = {str(one.SOPInstanceUID) for one in STUDY}


@dataclass(frozen=True)
class Holder:
    """An archive that holds STUDY and knows ME at a port."""

    archive: RunningPeer
    our_port: int


@pytest.fixture(scope="module", params=["dcmqrscp", "orthanc"])
def holder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    folder, port = tmp_path_factory.mktemp("archive"), free_port()
    start = peers.dcmqrscp if request.param == "dcmqrscp" else peers.orthanc
    with start(folder / "archive", peers={"ME": port}) as running:
        running.store(write(folder / "made", STUDY))
        yield Holder(running, port)


def client(holder: Holder, via: Via = Via.AUTO) -> Client:
    called = f"{holder.archive.aet}@127.0.0.1:{holder.archive.port}"
    return Client("ME", called, via=via, listening=Listening(holder.our_port))


def fetched(folder: Path) -> set[str]:
    assert not list(folder.glob(".*"))
    assert all(dcmread(file).SOPInstanceUID == file.stem for file in folder.iterdir())
    return {file.stem for file in folder.iterdir()}


@pytest.mark.peers("dcmtk", "orthanc")
def test_a_study_is_downloaded_from_any_archive_and_resumed(tmp_path: Path, holder: Holder) -> None:
    one = client(holder)
    assert one.echo() == Status.SUCCESS
    [found] = one.find("STUDY", StudyInstanceUID=uid("it"), PatientName="")
    assert found["StudyInstanceUID"] == uid("it")
    with one.retrieve(uid("it"), tmp_path / "out") as download:
        seen = list(download)
    assert download.result().ok
    assert seen[-1] == Progress(6, 0, 0, 0, 6, seen[-1].size)
    assert fetched(tmp_path / "out") == UIDS

    gone = sorted((tmp_path / "out").iterdir())[:2]
    for file in gone:
        file.unlink()
    assert len(one.plan(uid("it"), tmp_path / "out").missing.instances) == 2
    resumed = one.retrieve(uid("it"), tmp_path / "out").result()
    assert (set(resumed.files), resumed.present) == (set(gone), 4)

    moved = client(holder, Via.MOVE).retrieve(uid("it"), tmp_path / "moved").result()
    assert moved.ok
    assert fetched(tmp_path / "moved") == UIDS


@pytest.mark.peers("dcmtk", "orthanc")
def test_parts_of_a_study_are_downloaded(tmp_path: Path, holder: Holder) -> None:
    one = client(holder)
    series = one.retrieve(uid("it"), tmp_path / "series", series=[uid("it", "2")]).result()
    assert [file.stem for file in series.files] == [uid("it", "2", 1)]
    picked = [uid("it", "1", 2), uid("it", "1", 4)]
    some = one.retrieve(uid("it"), tmp_path / "some", series=[uid("it", "1")], instances=picked).result()
    assert {file.stem for file in some.files} == set(picked)


def test_files_are_stored_and_a_file_that_is_none_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    files = write(tmp_path / "mine", STUDY)
    with gateway(tmp_path, []) as world:
        one = Client("ME", f"GATEWAY@127.0.0.1:{world.port}")
        assert [(sent.sop_instance_uid, sent.status) for sent in one.store(files[:1])] == [(files[0].stem, 0)]
        assert {sent.sop_instance_uid for sent in one.store([tmp_path / "mine"])} == UIDS
        (tmp_path / "notes.txt").write_text("no instance")
        with pytest.raises(BadInstance):
            one.store([files[0], tmp_path / "notes.txt"])
        assert {stored.sop_instance_uid for stored in world.archive.instances(study_uids=[uid("it")])} == UIDS


def test_a_peer_without_get_that_answers_before_it_sends(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, has_get=False) as (script, server):
        script.move_port = free_port()
        result = client_of(server, script.move_port).retrieve(uid("it"), tmp_path / "out").result()
        assert result.ok
        assert fetched(tmp_path / "out") == UIDS


def test_a_peer_that_claims_to_have_sent_what_it_has_not(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, has_get=False) as (script, server):
        script.move_port, script.sends_all = free_port(), False
        one = client_of(server, script.move_port, late_seconds=0.5)
        result = one.retrieve(uid("it"), tmp_path / "out").result()
        assert (result.status, len(result.failed)) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 4)
        assert len(fetched(tmp_path / "out")) == 2


def test_a_peer_that_does_not_list_is_asked_for_the_whole_study(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "no query") as (script, server):
        with client_of(server).retrieve(uid("it"), tmp_path / "out") as download:
            seen = list(download)
        assert download.result().ok
        assert seen[0].total is None
        assert fetched(tmp_path / "out") == UIDS
        assert [one.level for one in script.retrieves] == [Level.STUDY]


def test_cancel_leaves_whole_files_and_the_next_run_fetches_the_rest(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "endless") as (script, server):
        with client_of(server).retrieve(uid("it"), tmp_path / "out") as download:
            assert script.sent.wait(10)
            download.cancel()
            result = download.result()
        assert (result.status, result.ok, len(result.files)) == (Status.CANCEL, False, 3)
        assert script.cancelled.wait(10)
        assert len(fetched(tmp_path / "out")) == 3
        script.behaviour = ""
        assert client_of(server).retrieve(uid("it"), tmp_path / "out").result().ok
        assert fetched(tmp_path / "out") == UIDS


def test_leaving_the_block_on_an_error_cancels(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "endless") as (script, server):
        download = client_of(server).retrieve(uid("it"), tmp_path / "out")
        assert script.sent.wait(10)
        with pytest.raises(KeyError), download:
            raise KeyError
        assert download.result().status == Status.CANCEL


def test_a_peer_that_dies_leaves_whole_files_and_says_what_lacks(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "dies") as (_, server):
        result = client_of(server).retrieve(uid("it"), tmp_path / "out").result()
        assert not result.ok
        assert result.problem
        assert fetched(tmp_path / "out") | set(result.failed) == UIDS
        assert len(result.failed) == 3


def test_a_failed_instance_is_named(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "fails one") as (script, server):
        result = client_of(server).retrieve(uid("it"), tmp_path / "out").result()
        assert result.status == Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES
        assert result.failed == (script.stored[3].sop_instance_uid,)


def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, has_get=False) as (_, server), socket.create_server(("127.0.0.1", 0)) as taken:
        result = client_of(server, taken.getsockname()[1]).retrieve(uid("it"), tmp_path / "out").result()
        assert "cannot listen" in result.problem
        assert "name a free port" in result.problem


def test_a_refusal_is_the_result(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "refuses") as (_, server):
        result = client_of(server).retrieve(uid("it"), tmp_path / "out").result()
        assert result.status == Status.OUT_OF_RESOURCES
        assert set(result.failed) == UIDS


def test_a_peer_that_is_not_there_raises(tmp_path: Path) -> None:
    one = Client("ME", f"NOBODY@127.0.0.1:{closed_port()}")
    with pytest.raises(UpstreamError):
        one.retrieve(uid("it"), tmp_path / "out").result()
    with pytest.raises(UpstreamError):
        one.echo()


@pytest.mark.parametrize("text", ["", "NOBODY", "A@host", "A@host:0", "A@host:99999", "@host:104"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="AET@host:port"):
        peer(text)


def test_a_path_is_no_uid(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        Client("ME", "A@127.0.0.1:104").retrieve("../../etc", tmp_path)


def test_instances_are_named_with_their_series(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="series"):
        Client("ME", "A@127.0.0.1:104").retrieve("1.2", tmp_path, instances=["1.2.3"])

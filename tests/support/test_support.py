"""The helpers do what the tests of all rooms rely on."""

import signal
import sys
import threading
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support import dicomfiles, scu, tools
from tests.support.peers import dcmqrscp, orthanc, storescp
from tests.support.ports import closed_port, free_port, is_open
from tests.support.processes import Running
from tests.support.waiting import wait_until


def test_waiting_returns_what_came() -> None:
    done = threading.Event()
    threading.Timer(0.05, done.set).start()
    assert wait_until(done.is_set, "the timer fires") is True


def test_waiting_ends_and_says_for_what() -> None:
    with pytest.raises(AssertionError, match=r"never happened within 0\.05 s: the moon falls"):
        wait_until(lambda: False, "the moon falls", seconds=0.05)


def test_free_ports_differ_and_are_closed() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert not is_open(closed_port())


def test_a_process_and_its_children_are_gone_after_the_block(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, signal\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with Running([sys.executable, "-c", script], tmp_path / "out.log") as running:
        child = int(wait_until(lambda: running.text, "the child's pid is printed"))
    assert running.exit_status == -signal.SIGTERM
    stat = Path(f"/proc/{child}/stat")
    wait_until(lambda: not stat.exists() or " Z " in stat.read_text(), "the child is gone")


def test_a_missing_tool_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tools.PACKAGES, "nothing", ("no-such-command",))
    monkeypatch.delenv("GATEWAY_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install nothing"):
        tools.need("nothing")
    monkeypatch.setenv("GATEWAY_PEERS", "required")
    with pytest.raises(pytest.fail.Exception, match="GATEWAY_PEERS=required"):
        tools.need("nothing")


def test_instances_keep_their_pixels_and_take_an_identity(tmp_path: Path) -> None:
    made = dicomfiles.study("one", 3, "MR", PatientName="DOE^JANE", PatientID="P1")
    files = dicomfiles.write(tmp_path, made)
    read = [dcmread(file) for file in files]
    assert len({one.SOPInstanceUID for one in read}) == 3
    assert {str(one.PatientName) for one in read} == {"DOE^JANE"}
    assert {one.PixelData for one in read} == {dicomfiles.real("MR").PixelData}
    assert dicomfiles.study("one")[0].StudyInstanceUID == read[0].StudyInstanceUID


@pytest.mark.peers
def test_dcmtk_peers_store_find_and_move(tmp_path: Path) -> None:
    datasets = [dicomfiles.instance("s", modality, 1, modality, PatientName="DOE^JANE", PatientID="P1")
                for modality in dicomfiles.MODALITIES if modality != "OT"]  # fmt: skip
    files = dicomfiles.write(tmp_path / "files", datasets)
    with (
        storescp(tmp_path / "viewer") as viewer,
        dcmqrscp(tmp_path / "archive", peers={viewer.aet: viewer.port}) as archive,
    ):
        archive.store(files)
        keys = {"PatientName": "DOE*", "StudyInstanceUID": ""}
        found = scu.find(archive.port, "STUDY", keys, aec=archive.aet)
        assert [str(one.PatientName) for one in found.answers] == ["DOE^JANE"]
        assert found.status == 0x0000
        keys = {"StudyInstanceUID": found.answers[0].StudyInstanceUID}
        moved = scu.move(archive.port, "STUDY", keys, viewer.aet, aec=archive.aet)
        assert moved.returncode == 0
        assert viewer.instances().keys() == {one.SOPInstanceUID for one in datasets}
        got = scu.get(archive.port, "STUDY", keys, tmp_path / "got", aec=archive.aet)
        assert got.returncode == 0
        assert len(list((tmp_path / "got").iterdir())) == len(datasets)

        archive.stop()
        assert scu.echo(archive.port).returncode != 0
        archive.start()
        assert len(scu.find(archive.port, "STUDY", keys, aec=archive.aet).answers) == 1


@pytest.mark.peers("orthanc", "dcmtk")
def test_orthanc_stores_and_answers(tmp_path: Path) -> None:
    files = dicomfiles.write(tmp_path / "files", dicomfiles.study("s", 2, PatientName="DOE^JANE"))
    with orthanc(tmp_path / "orthanc") as archive:
        archive.store(files)
        assert len(archive.api("/instances")) == 2
        found = scu.find(archive.port, "STUDY", {"PatientName": "DOE*"}, aec=archive.aet)
        assert [str(one.PatientName) for one in found.answers] == ["DOE^JANE"]


@pytest.mark.peers
def test_a_file_set_of_pydicom_is_one_dcmtk_reads(tmp_path: Path) -> None:
    dicomdir = dicomfiles.write_file_set(tmp_path / "fs", dicomfiles.study("s", 2, PatientID="P1"))
    assert scu.run("dcmdump", dicomdir).returncode == 0

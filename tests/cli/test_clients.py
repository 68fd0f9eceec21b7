"""echo, find and store against DCMTK's archive, as a user runs them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import run
from tests.support import dicomfiles
from tests.support.peers import RunningPeer, dcmqrscp
from tests.support.ports import closed_port

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    folder = tmp_path_factory.mktemp("archive")
    with dcmqrscp(folder / "q") as peer:
        datasets = [
            *dicomfiles.study("one", 2, PatientName="DOE^JANE", PatientID="P1", AccessionNumber="A1"),
            *dicomfiles.study("two", 1, "MR", PatientName="ROE^RICHARD", PatientID="P2"),
        ]
        peer.store(dicomfiles.write(folder / "files", datasets))
        yield peer


@pytest.fixture
def at(archive: RunningPeer) -> str:
    return f"{archive.aet}@127.0.0.1:{archive.port}"


Output = pytest.CaptureFixture[str]


def test_echo(at: str, capsys: Output) -> None:
    assert run(["echo", "-c", at]) == 0
    assert at in capsys.readouterr().out
    assert run(["echo", "-c", at, "-aet", "SOMEBODY", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == 0


def test_echo_as_dcmtk_spells_it(archive: RunningPeer, capsys: Output) -> None:
    assert run(["echo", "-aet", "ME", "-aec", archive.aet, "-c", f"localhost:{archive.port}"]) == 0
    assert f"QRSCP@localhost:{archive.port}" in capsys.readouterr().out


def test_echo_of_a_configured_peer(archive: RunningPeer, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "archive: {dicomdir: D, create: true}\n"
        f"peers: {{QRSCP: {{aet: QRSCP, host: 127.0.0.1, port: {archive.port}}}}}\n"
    )
    assert run(["echo", "--peer", "QRSCP", "--config", str(file)]) == 0
    assert "answers as QRSCP" in capsys.readouterr().out
    assert run(["echo", "--peer", "QRSPC", "--config", str(file)]) == 2
    assert "no peer is named 'QRSPC'" in capsys.readouterr().err


def test_nobody_there_is_one_line_and_status_1(capsys: Output) -> None:
    for verb in ("echo", "find"):
        assert run([verb, "-c", f"QRSCP@127.0.0.1:{closed_port()}"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert "cannot connect" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["echo"], "name the peer once"),
        (["echo", "-c", "A@h:1", "--peer", "B"], "name the peer once"),
        (["echo", "-c", "127.0.0.1:104"], "names no AE title"),
        (["echo", "-c", "A@host"], "is not AET@HOST:PORT"),
        (["echo", "-c", "A@host:0"], "is not AET@HOST:PORT"),
        (["echo", "-c", "A@host:104", "-aet", "A_TITLE_THAT_IS_TOO_LONG"], "1 to 16 characters"),
        (["find", "-c", "A@host:104", "-L", "FRAME"], "is not one of PATIENT, STUDY, SERIES, IMAGE"),
        (["find", "-c", "A@host:104", "-k", "PatientsName=X"], "no attribute's keyword or tag"),
        (["find", "-c", "A@host:104", "-k", "PixelData=X"], "no text to match"),
        (["store", "-c", "A@host:104"], "Missing argument"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, capsys: Output) -> None:
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err


def test_find_as_a_table(at: str, capsys: Output) -> None:
    assert run(["find", "-c", at, "-k", "PatientName=DOE*"]) == 0
    out = capsys.readouterr().out
    assert "DOE^JANE" in out
    assert "ROE" not in out
    assert "1 answers" in out


def test_find_as_json_at_each_level(at: str, capsys: Output) -> None:
    def found(*arguments: str) -> list[dict[str, object]]:
        assert run(["find", "-c", at, "--json", *arguments]) == 0
        answers = json.loads(capsys.readouterr().out)["answers"]
        assert isinstance(answers, list)
        return answers

    (study,) = found("-k", "0008,0050=A1")
    assert study["PatientID"] == "P1"
    assert study["StudyInstanceUID"] == dicomfiles.uid("one")
    assert [one["PatientID"] for one in found("-P", "-L", "PATIENT", "-k", "PatientID=P2")] == ["P2"]
    within = ["-k", f"StudyInstanceUID={dicomfiles.uid('one')}"]
    (series,) = found("-k", "QueryRetrieveLevel=SERIES", *within, "-r", "Modality")
    assert series["Modality"] == "CT"
    within += ["-k", f"SeriesInstanceUID={dicomfiles.uid('one', '1')}"]
    assert len(found("-L", "instance", *within)) == 2


def test_find_that_fails_is_no_empty_answer(at: str, capsys: Output) -> None:
    assert run(["find", "-c", at.replace("QRSCP", "NOBODY"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert "rejected" in err or "status" in err
    assert "answers" not in out or json.loads(out)["error"]


def test_store_files_and_folders(archive: RunningPeer, at: str, tmp_path: Path, capsys: Output) -> None:
    datasets = [dicomfiles.instance("three", modality, 1, modality, PatientID="P3") for modality in ("CT", "MR", "SR")]
    files = dicomfiles.write(tmp_path / "in", datasets)
    (tmp_path / "in" / "notes.txt").write_text("not an instance")
    assert run(["store", "-c", at, str(tmp_path / "in")]) == 0
    assert "3 of 3 files sent" in capsys.readouterr().out
    assert {one.SOPInstanceUID for one in datasets} <= archive.instances().keys()
    assert run(["store", "-c", at, str(files[0]), str(tmp_path / "in" / "notes.txt"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert [one["status"] for one in json.loads(out)["sent"]] == [0]
    assert err == f"error: {tmp_path}/in/notes.txt: not a DICOM file\n"


def test_store_what_the_peer_does_not_take(at: str, tmp_path: Path, capsys: Output) -> None:
    files = dicomfiles.write(tmp_path, [dicomfiles.instance("four", "1", 1, "OT", PatientID="P4")])
    assert run(["store", "-c", at, str(files[0])]) == 1
    err = capsys.readouterr().err
    assert "status 0122H" in err
    assert "in transfer syntax 1.2.840.10008.1.2.4.91" in err


def test_store_of_no_file(at: str, tmp_path: Path, capsys: Output) -> None:
    assert run(["store", "-c", at, str(tmp_path / "none.dcm")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1

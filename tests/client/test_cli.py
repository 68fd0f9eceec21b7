"""``dicom-gateway retrieve`` as a user runs it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pydicom import dcmread

from tests.client.scripted import scripted
from tests.support.dicomfiles import study, uid
from tests.support.ports import closed_port
from tests.support.processes import Running

STUDY = study("it", 5)
UIDS = {str(one.SOPInstanceUID) for one in STUDY}


def retrieving(port: int, folder: Path, *more: str) -> Running:
    command = [sys.executable, "-m", "gateway", "retrieve", "-aet", "ME", "-c", f"ARCHIVE@127.0.0.1:{port}"]
    return Running([*command, "--study", uid("it"), "--out", str(folder), *more], folder.with_suffix(".log"))


def files(folder: Path) -> set[str]:
    assert not list(folder.glob(".*"))
    return {str(dcmread(file).SOPInstanceUID) for file in folder.iterdir()}


def test_a_study_is_downloaded_planned_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted(tmp_path, STUDY) as (_, server):
        with retrieving(server.port, out) as first:
            assert first.wait() == 0, first.text
        assert "5 instances from ARCHIVE@127.0.0.1" in first.text
        assert files(out) == UIDS
        next(out.iterdir()).unlink()
        with retrieving(server.port, out, "--plan") as planned:
            assert planned.wait() == 0
        assert "1 instances of 1 series to fetch, 4 on the disk" in planned.text
        with retrieving(server.port, tmp_path / "other", "--json") as as_json:
            assert as_json.wait() == 0
        document = json.loads(as_json.text)
        assert (document["status"], len(document["files"]), document["failed"]) == ("0000", 5, [])


def test_ctrl_c_cancels_and_leaves_whole_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted(tmp_path, STUDY, "endless") as (script, server), retrieving(server.port, out) as running:
        assert script.sent.wait(20)
        running.signal(signal.SIGINT)
        assert running.wait() == 130
        assert script.cancelled.wait(10)
        assert len(files(out)) == 3
        assert "Traceback" not in running.text


def test_what_went_wrong_is_said_in_a_line_and_by_the_exit_status(tmp_path: Path) -> None:
    with scripted(tmp_path, STUDY, "fails one") as (script, server):
        with retrieving(server.port, tmp_path / "out") as running:
            assert running.wait() == 1
        assert f"error: not fetched: {script.stored[3].sop_instance_uid}" in running.text
    with retrieving(closed_port(), tmp_path / "down") as running:
        assert running.wait() == 1
    assert running.text.splitlines()[-1].startswith("error: ")
    with retrieving(closed_port(), tmp_path / "down", "--series", "../x") as running:
        assert running.wait() == 2
    assert "Traceback" not in running.text

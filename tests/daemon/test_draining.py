"""SIGTERM while images are being sent: what runs ends well, what is new is refused, the process ends with status 0."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.support import dicomfiles, scu
from tests.support.gateways import gateway, peer
from tests.support.peers import storescp
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_retrieve_is_finished(tmp_path: Path, workers: int) -> None:
    dicomdir = dicomfiles.write_file_set(tmp_path / "local", dicomfiles.study("slow", 6))
    with storescp(tmp_path / "viewer") as viewer:
        slow = {**peer(viewer.aet, viewer.port), "send": {"bytes_per_second": 60_000}}
        ae = {"title": "GATEWAY", "port": 0, "workers": workers}
        with gateway(tmp_path / "gw", peers={"VIEWER": slow}, dicomdir=dicomdir, ae=ae) as running:
            moved: list[scu.Outcome] = []

            def move() -> None:
                keys = {"StudyInstanceUID": dicomfiles.uid("slow")}
                moved.append(scu.move(running.port, "STUDY", keys, viewer.aet, aet="STORESCP", aec="GATEWAY"))

            moving = threading.Thread(target=move)
            moving.start()
            wait_until(viewer.instances, "the first image arrives", seconds=30)
            os.kill(running.process.pid, signal.SIGTERM)
            wait_until(lambda: "stopping" in running.text, "it begins to stop")
            wait_until(lambda: scu.echo(running.port, aet="STORESCP", aec="GATEWAY").returncode, "others are refused")
            assert not moved, "they were refused while it was still sending"
            moving.join(60)
            assert running.process.wait(40) == 0
    assert (moved[0].returncode, moved[0].status) == (0, 0), moved[0].text
    assert len(viewer.instances()) == 6

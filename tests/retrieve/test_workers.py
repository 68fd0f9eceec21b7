"""Pull-through when the gateway is several processes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.dicom.status import Status
from tests.support import peers, scu
from tests.support.dicomfiles import study, uid, write
from tests.support.gateways import gateway, peer
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

FAR = study("far", 3, PatientName="New^Name", PatientID="NEW")


@pytest.mark.parametrize(("via", "request_"), [("get", "C-GET RQ"), ("move", "C-MOVE RQ")])
def test_two_viewers_on_two_workers_cause_one_upstream_retrieve(tmp_path: Path, via: str, request_: str) -> None:
    port = free_port()
    with (
        peers.storescp(tmp_path / "one", "ONE", ["+xa", "--sleep-after", "1"]) as one,
        peers.storescp(tmp_path / "two", "TWO") as two,
        peers.dcmqrscp(tmp_path / "leading", peers={"GATEWAY": port}) as leading,
    ):
        leading.store(write(tmp_path / "made", FAR))
        known = {each.aet: peer(each.aet, each.port) for each in (one, two, leading)}
        settings: dict[str, Any] = {"ae": {"title": "GATEWAY", "port": port, "workers": 2}, "retrieve": {"via": via}}
        with gateway(tmp_path / "gw", peers=known, leading={"peer": leading.aet}, **settings) as running:
            asked = {"StudyInstanceUID": uid("far")}
            statuses: dict[str, int | None] = {}

            def move(to: str) -> None:
                statuses[to] = scu.move(running.port, "STUDY", asked, to, aet=to, aec="GATEWAY").status

            first = threading.Thread(target=move, args=(one.aet,))
            first.start()
            wait_until(lambda: request_ in leading.text, "the leading archive is asked for the first one")
            move(two.aet)  # which comes while the first, a slow one, takes what arrives
            first.join()
            assert statuses == {"ONE": Status.SUCCESS, "TWO": Status.SUCCESS}
            assert len(one.files()) == len(two.files()) == 3
            assert leading.text.count(request_) == 1
            assert running.metric("pulls_total", outcome="done") == 1
            assert running.metric("pulled_instances_total", outcome="forwarded") == 6

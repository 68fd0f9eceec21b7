"""Queries through a running gateway: one question upstream, streaming, cancellation, limits, the cache's verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import Cancelled, Peer, Timeouts, Verb
from gateway.dimse.requestor import Association, connect
from gateway.dimse.server import Server
from gateway.dimse.services import Handlers
from gateway.errors import Cancelled as CancelledError
from gateway.errors import Refused, UpstreamError
from gateway.leading.archive import STUDY_ROOT_FIND
from tests.support import scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.waiting import wait_until

EXPLICIT = "1.2.840.10008.1.2.1"
KEYS = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientName": "", "PatientID": ""})


class Archive:
    """A leading archive of ``count`` studies; before answer number ``gated`` it waits for ``gate``."""

    def __init__(self, count: int, gated: int = -1) -> None:
        self.count = count
        self.gated = gated
        self.gate = Event()
        self.asked = 0
        self.cancelled = Event()
        self.given = 0

    def __call__(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:  # noqa: ARG002
        self.asked += 1
        try:
            for number in range(self.count):
                if number == self.gated:
                    wait_until(lambda: self.gate.is_set() or cancelled(), "the gate", seconds=60)
                if cancelled():
                    raise CancelledError("cancelled")
                self.given += 1
                yield Attributes.of(
                    {"StudyInstanceUID": f"1.2.{number}", "PatientName": "DOE", "PatientID": f"P{number}"}
                )
        except (CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


@contextmanager
def between(folder: Path, archive: Archive, **sections: Any) -> Iterator[RunningGateway]:
    policy = PeerPolicy(["LEADING"], [KnownCaller("gateway", "GATEWAY", frozenset({Verb.FIND}))])
    with Server(Handlers(find=archive), policy) as leading:
        timeouts = {"dimse": "PT2S"}
        peers = {"LEADING": {**peer("LEADING", leading.port), "timeouts": timeouts}, "VIEWER": peer("VIEWER", 104)}
        section = {"peer": "LEADING", **sections.pop("leading", {})}
        with gateway(folder / "gw", peers=peers, leading=section, **sections) as running:
            yield running


def viewer(running: RunningGateway) -> Association:
    there = Peer("gateway", "GATEWAY", "127.0.0.1", running.port, Timeouts(dimse=60))
    return connect(there, "VIEWER", [(STUDY_ROOT_FIND, EXPLICIT)])


def ask(running: RunningGateway) -> list[Attributes]:
    with viewer(running) as association:
        return list(association.find(STUDY_ROOT_FIND, KEYS))


@pytest.mark.parametrize("workers", [1, 2])
def test_fifty_equal_queries_are_one_upstream(tmp_path: Path, workers: int) -> None:
    archive = Archive(20, gated=10)
    ae = {"title": "GATEWAY", "port": 0, "workers": workers}
    with between(tmp_path, archive, ae=ae) as running, ThreadPoolExecutor(50) as viewers:
        asked = [viewers.submit(ask, running) for _ in range(50)]
        waiting = 50 - workers  # of each worker one is not told yet whether it asks or waits for the other's
        lookups = ("query_cache_lookups_total",)
        wait_until(lambda: running.metric(*lookups, result="coalesced") == waiting, f"{waiting} to wait", seconds=30)
        archive.gate.set()
        assert {len(one.result()) for one in asked} == {20}
    assert archive.asked == 1


def test_with_a_silent_archive_all_end_within_one_time_out(tmp_path: Path) -> None:
    archive = Archive(20, gated=0)
    with between(tmp_path, archive) as running, ThreadPoolExecutor(50) as viewers:
        started = monotonic()
        asked = [viewers.submit(ask, running) for _ in range(50)]
        assert all(one.result() == [] for one in asked), "there is nothing in the local archive"
        assert monotonic() - started < 8, "the time-out is 2 s, and is not waited for twice"
        assert running.metric("leading_degraded_total", kind="timeout") >= 1
        archive.gate.set()
    assert archive.asked == 1


def test_answers_go_out_while_they_arrive(tmp_path: Path) -> None:
    archive = Archive(20, gated=10)
    with between(tmp_path, archive) as running, viewer(running) as association:
        answers = association.find(STUDY_ROOT_FIND, KEYS)
        first = [next(answers) for _ in range(5)]
        assert len(first) == 5
        assert not archive.gate.is_set()
        archive.gate.set()
        assert len(list(answers)) == 15


def test_a_cancel_is_relayed_and_frees_the_archive(tmp_path: Path) -> None:
    archive = Archive(20, gated=10)
    with between(tmp_path, archive) as running, viewer(running) as association:
        cancelled = Event()
        answers = association.find(STUDY_ROOT_FIND, KEYS, cancelled.is_set)
        next(answers)
        cancelled.set()
        with pytest.raises(CancelledError):
            list(answers)
        assert archive.cancelled.wait(10)
        assert running.metric("query_cache_entries", cache="queries") == 0
        archive.gate.set()
        assert len(list(association.find(STUDY_ROOT_FIND, KEYS))) == 20


def test_a_viewer_that_vanishes_frees_the_archive(tmp_path: Path) -> None:
    archive = Archive(20, gated=10)
    with between(tmp_path, archive) as running:
        association = viewer(running)
        next(association.find(STUDY_ROOT_FIND, KEYS))
        association.abort()
        assert archive.cancelled.wait(10)


def test_a_limit_is_said_and_not_silent(tmp_path: Path) -> None:
    archive = Archive(20)
    with between(tmp_path, archive, query={"max_answers": 7}) as running, viewer(running) as association:
        answers: list[Attributes] = []
        with pytest.raises(UpstreamError) as limited:
            answers.extend(association.find(STUDY_ROOT_FIND, KEYS))
        assert limited.value.upstream_status == Refused("", 0xA700).status
        assert running.metric("query_cache_entries", cache="queries") in {0, 1}
        assert running.metric("query_limited_total") == 1


def test_an_archive_without_end_is_hung_up_on_and_nothing_of_it_is_remembered(tmp_path: Path) -> None:
    archive = Archive(1_000_000)
    with between(tmp_path, archive, leading={"max_answers": 500}) as running:
        assert len(ask(running)) <= 500
        wait_until(lambda: running.metric("leading_requests_total", outcome="endless") == 1, "it is a failure")
        assert archive.given < 500_000
        assert running.metric("leading_degraded_total", kind="endless") == 1
        assert running.metric("query_cache_entries", cache="queries") == 0
        archive.count = 3
        wait_until(lambda: len(ask(running)) == 3, "it is asked anew", seconds=10)
        assert "Traceback" not in running.text
        assert "ignored" not in running.text


@pytest.mark.peers
def test_a_key_that_is_not_matched_is_said_with_each_answer(tmp_path: Path) -> None:
    with between(tmp_path, Archive(2)) as running:
        keys = {"StudyInstanceUID": "", "PatientName": ""}
        plain = scu.find(running.port, "STUDY", keys, aet="VIEWER", aec="GATEWAY")
        warned = scu.find(running.port, "STUDY", {**keys, "Modality": "CT"}, aet="VIEWER", aec="GATEWAY")
    assert (len(plain.answers), len(warned.answers)) == (2, 2)
    assert "0xff01" not in plain.text
    assert warned.text.count("0xff01") == 2


def test_many_answers_need_bounded_memory(tmp_path: Path) -> None:
    archive = Archive(30_000)
    bounds = {"query_cache": {"max_entry_bytes": "1MiB"}}
    with between(tmp_path, archive, leading=bounds, query={"memo_bytes": "1MiB"}) as running, viewer(running) as one:
        before = _resident(running)
        assert sum(1 for _ in one.find(STUDY_ROOT_FIND, KEYS)) == 30_000
        assert _resident(running) - before < 40 << 20


def _resident(running: RunningGateway) -> int:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


def test_the_cache_is_shown_and_flushed_by_command_and_over_http(tmp_path: Path) -> None:
    archive = Archive(3)
    with between(tmp_path, archive) as running:
        ask(running)
        (entry,) = json.loads(running.http("/api/cache")[1])["entries"]
        assert (entry["archive"], entry["cache"], entry["answers"]) == ("LEADING", "queries", 3)
        assert "DOE" not in json.dumps(entry)
        config = tmp_path / "running.yaml"
        text = running.config.read_text().replace("http:\n  port: 0", f"http:\n  port: {running.http_port}")
        config.write_text(text)
        shown = command(config, "cache", "show", "--json")
        assert json.loads(shown.stdout)["entries"][0]["key"] == entry["key"]
        assert command(config, "cache", "flush", "--study", "1.2.1").stdout == "1 entries dropped\n"
        assert json.loads(running.http("/api/cache")[1])["entries"] == []
        ask(running)
        assert archive.asked == 2
        assert (
            command(config, "cache", "flush", "--patient", "P2", "--archive", "LEADING").stdout == "1 entries dropped\n"
        )
        assert command(config, "cache", "flush", "--all", "--archive", "NOBODY").returncode == 1


def command(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments, "--config", config],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

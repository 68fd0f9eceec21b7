"""Behaviours of the cache over simulated time: one file each in scenarios/, run step by step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import metrics
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.errors import UpstreamError, UpstreamKind
from gateway.query.cache import CachedLeading, Settings
from gateway.query.ports import Evidence, Request
from gateway.query.ttl import Lifetimes
from tests.query.asking import query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance
from tests.support.waiting import wait_until

SCENARIOS = sorted(Path(__file__).with_name("scenarios").glob("*.yaml"))


class Stage:
    """The archive, its cache and the clock of one scenario."""

    def __init__(self, name: str, lifetimes: dict[str, float | None]) -> None:
        self.now = 0.0
        self.name = name
        self.archive = MemoryArchive([instance(1), instance(2)])
        given = Lifetimes(**{"refresh_ahead": 1.0, **lifetimes})  # type: ignore[arg-type]
        self.cache = CachedLeading(name, self.archive, Settings(lifetimes=given), lambda: self.now)

    def step(self, step: dict[str, Any]) -> None:
        self.now = float(step["at"])
        for word in ("upstream", "ask", "look_up", "flush"):
            if word in step:
                getattr(self, f"do_{word}")(step)
        if "asked" in step:
            wait_until(lambda: len(self.archive.asked) == step["asked"], f"{step['asked']} queries upstream")
        if "looked_up" in step:
            wait_until(lambda: len(self.archive.looked_up) == step["looked_up"], f"{step['looked_up']} look-ups")
        wait_until(self.is_quiet, "refreshes to end")

    def is_quiet(self) -> bool:
        return not self.cache._queries._flights and not self.cache._studies._flights

    def do_upstream(self, step: dict[str, Any]) -> None:
        what = step["upstream"]
        if "fails" in what:
            self.archive.fail(UpstreamKind(what["fails"]), after=what.get("after", 0))
        if "recovers" in what:
            self.archive.recover()
        for uid, family in what.get("rename", {}).items():
            self.archive.instances = [
                one.overlay(Attributes.of({"PatientName": family})) if one.text(tags.StudyInstanceUID) == uid else one
                for one in self.archive.instances
            ]

    def do_ask(self, step: dict[str, Any]) -> None:
        if step.get("by", 1) == 1:
            return self.ask_once(step)
        before = self.coalesced()
        self.archive.hold()
        with ThreadPoolExecutor(step["by"]) as askers:
            asked = [askers.submit(self.ask_once, step) for _ in range(step["by"])]
            wait_until(lambda: self.coalesced() - before == step["by"] - 1, "all but one to wait")
            self.archive.release()
            for one in asked:
                one.result()
        return None

    def coalesced(self) -> float:
        return float(metrics.CACHE_LOOKUPS.labels(self.name, "queries", "coalesced")._value.get())

    def ask_once(self, step: dict[str, Any]) -> None:
        request = Request(query(PatientName=step["ask"], PatientID=""), CALLER)
        if "fails" in step:
            with pytest.raises(UpstreamError) as failed:
                list(self.cache.find(request))
            assert failed.value.kind is UpstreamKind(step["fails"])
            return
        assert uids(list(self.cache.find(request))) == [str(uid) for uid in step["answers"]]
        assert request.evidence
        if step.get("provisional"):
            assert not all(one.holds() for one in request.evidence)

    def do_look_up(self, step: dict[str, Any]) -> None:
        evidence: list[Evidence] = []
        if "fails" in step:
            with pytest.raises(UpstreamError) as failed:
                self.cache.studies(step["look_up"], CALLER, evidence)
            assert failed.value.kind is UpstreamKind(step["fails"])
            return
        assert sorted(self.cache.studies(step["look_up"], CALLER, evidence)) == step["knows"]

    def do_flush(self, step: dict[str, Any]) -> None:
        assert self.cache.flush(**step["flush"]) == step["dropped"]


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_scenario(path: Path) -> None:
    scenario = yaml.safe_load(path.read_text())
    assert scenario["behaviour"].endswith(".")
    stage = Stage(path.stem, scenario["lifetimes"])
    for number, step in enumerate(scenario["steps"]):
        try:
            stage.step(step)
        except AssertionError as error:
            raise AssertionError(f"step {number + 1} {step}") from error
    stage.cache.close()

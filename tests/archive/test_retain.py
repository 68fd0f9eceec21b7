"""Retention: which studies go, why, and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.retain import Policy, Rule
from gateway.cli import run

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]
DAY = 86400.0
START = 1_700_000_000.0


class Clock:
    """The time of day as a test sets it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def aged(tmp_path: Path, make: Make, store: Send, clock: Clock) -> LocalArchive:
    """Five studies, received on five days in a row; it is the sixth day."""
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE, clock=clock)
    archive.prepare()
    for day in range(1, 6):
        store(archive, make(day, StudyDate=f"20{day:02d}0101", PatientComments="x" * 1000))
        clock.now += DAY
    archive.sync()
    return archive


def chosen(archive: LocalArchive, *rules: Rule, most: int = 1000) -> list[str]:
    archive.retain_by(Policy(rules, most=most))
    return [one.study_instance_uid for one in archive.retain(dry_run=True)]


def test_without_rules_nothing_goes(aged: LocalArchive) -> None:
    assert chosen(aged) == []


def test_age_by_reception(aged: LocalArchive) -> None:
    assert chosen(aged, Rule(received_before=timedelta(days=3.5))) == ["1.2.3.1.1", "1.2.3.2.1"]


def test_age_by_study_date(aged: LocalArchive, clock: Clock) -> None:
    clock.now = START  # November 2023
    assert chosen(aged, Rule(studied_before=timedelta(days=365 * 20))) == ["1.2.3.1.1", "1.2.3.2.1", "1.2.3.3.1"]


def test_all_conditions_of_a_rule_and_any_rule(aged: LocalArchive) -> None:
    old = Rule(received_before=timedelta(days=3.5), studied_before=timedelta(days=365 * 22))
    assert chosen(aged, old) == ["1.2.3.1.1"]
    assert chosen(aged, old, Rule(received_before=timedelta(days=2.5))) == ["1.2.3.1.1", "1.2.3.2.1", "1.2.3.3.1"]


def test_a_run_is_bounded(aged: LocalArchive) -> None:
    assert chosen(aged, Rule(received_before=timedelta(days=1)), most=2) == ["1.2.3.1.1", "1.2.3.2.1"]


def test_short_space_takes_the_oldest_until_it_is_enough(aged: LocalArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    size = aged.listing()[0].size
    monkeypatch.setattr(aged._disk, "free", lambda: 10_000)
    assert chosen(aged, Rule(free_below=10_000)) == []
    assert chosen(aged, Rule(free_below=10_000 + size + 1)) == ["1.2.3.1.1", "1.2.3.2.1"]


def test_only_what_others_have_committed(aged: LocalArchive) -> None:
    def committed(uids: Sequence[str]) -> bool:
        return uids == ["1.2.3.2.1.1.1"]

    rule = Rule(received_before=timedelta(days=1), only_committed=True)
    assert chosen(aged, rule) == []
    aged.retain_by(Policy((rule,)), committed)
    assert [one.study_instance_uid for one in aged.retain(dry_run=True)] == ["1.2.3.2.1"]


def test_a_run_deletes_what_the_dry_run_showed(aged: LocalArchive) -> None:
    aged.retain_by(Policy((Rule(received_before=timedelta(days=3.5)),)))
    shown = aged.retain(dry_run=True)
    assert [one.reason for one in shown] == ["received 2023-11-14", "received 2023-11-15"]
    assert len(aged.listing()) == 5
    assert aged.retain() == shown
    assert [one.study_instance_uid for one in aged.listing()] == ["1.2.3.3.1", "1.2.3.4.1", "1.2.3.5.1"]
    assert aged.retain() == []
    assert aged.verify() == []


def test_the_schedule_is_kept_and_use_counts(tmp_path: Path, make: Make, store: Send, clock: Clock) -> None:
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE, publish_delay=0.01, clock=clock)
    archive.prepare()
    for day in (1, 2):
        store(archive, make(day))
    clock.now += 30 * DAY
    archive.retain_by(Policy((Rule(unused_for=timedelta(days=20)),), every=timedelta(days=1)))
    gone = Event()
    archive.on_deleted(lambda _: gone.set())
    with archive._index.write() as db:  # as another process had just done
        db.execute("INSERT INTO meta VALUES ('retained', ?)", (clock.now,))
    archive.start()
    archive.instances(study_uids=["1.2.3.2.1"])
    clock.now += DAY
    assert gone.wait(10)
    archive.close()
    assert [one.study_instance_uid for one in archive.listing()] == ["1.2.3.2.1"]


def test_the_verb_shows_what_would_go(
    tmp_path: Path, archive: LocalArchive, make: Make, store: Send, capsys: pytest.CaptureFixture[str]
) -> None:
    store(archive, make(StudyDate="19990101"))
    config = tmp_path / "gateway.yaml"
    rules = "{rules: [{studied_before: P3650D}]}"
    config.write_text(f"archive: {{dicomdir: files/DICOMDIR, create: true, min_free: 0, retain: {rules}}}\n")
    assert run(["archive", "retain", "--dry-run", "--json", "--config", str(config)]) == 0
    shown = json.loads(capsys.readouterr().out)["studies"]
    assert [one["reason"] for one in shown] == ["study date 1999-01-01"]
    assert len(archive.listing()) == 1
    assert run(["archive", "retain", "--config", str(config)]) == 0
    assert "1 studies deleted" in capsys.readouterr().out
    assert archive.listing() == []


def test_a_rule_without_condition_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("archive: {dicomdir: files/DICOMDIR, create: true, retain: {rules: [{only_if: committed}]}}\n")
    assert run(["check-config", "--config", str(config)]) == 2
    assert "would delete everything" in capsys.readouterr().err

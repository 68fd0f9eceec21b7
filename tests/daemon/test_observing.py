"""What is told of the running gateway: readiness, and the gauges that are looked at when Prometheus asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import metrics
from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.turns import file_lock
from gateway.daemon.everywhere import is_up
from gateway.daemon.observing import Scrape, readiness
from gateway.dicom.models import Level
from gateway.web.health import READY, State
from tests.support import dicomfiles
from tests.support.waiting import wait_until


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[LocalArchive]:
    dicomdir = dicomfiles.write_file_set(tmp_path / "files", dicomfiles.study("a", 2))
    one = LocalArchive(dicomdir, durability=Durability.NONE, publish_delay=0.02)
    one.prepare()
    one.start()
    yield one
    one.close()


def sample(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(f"dicom_gateway_{name}", labels)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([(True, 0.0, 0.0)], True),
        ([(False, 0.0, 9.0)], False),
        ([(False, 0.0, 9.0), (True, 0.0, 0.0)], False),
        ([(False, 0.0, 9.0), (True, 10.0, 0.0)], True),
        ([(False, 0.0, 9.0), (True, 8.0, 10.0)], False),
    ],
    ids=["never asked", "down", "the other was never asked", "the other had an answer since", "and this one not"],
)
def test_an_idle_process_does_not_keep_a_leading_archive_down(
    standings: list[tuple[bool, float, float]], expected: bool
) -> None:
    assert is_up(standings) is expected


def test_a_change_that_is_not_published_has_an_age(archive: LocalArchive, tmp_path: Path) -> None:
    with file_lock(tmp_path / "files.index" / "index.sqlite.publish"):  # another process publishes, and does not end
        archive.delete(Level.STUDY, dicomfiles.uid("a"))
        first = wait_until(lambda: archive.publish_delay, "the change is noticed")
        wait_until(lambda: archive.publish_delay > first + 0.2, "it gets older")
    wait_until(lambda: archive.publish_delay == 0, "it is published")


def test_a_folder_that_cannot_be_written_is_named(archive: LocalArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = readiness(archive, 0, dict)
    assert checks["archive"]() == READY
    wrong = archive.root
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != wrong and real(path, mode))  # root may write anywhere
    found = checks["archive"]()
    assert found.state is State.NOT_READY
    assert "cannot be written" in found.detail


def test_a_scrape_looks_at_what_is_not_counted(archive: LocalArchive) -> None:
    deaths = 0
    before = sample("process_restarts_total") or 0
    scrape = Scrape(archive, readiness(archive, 0, dict)["archive"], lambda: {"A": True, "B": False}, lambda: deaths)
    assert 'dicom_gateway_leading_up{archive="B"} 0.0' in scrape()
    assert (sample("archive_ready"), sample("leading_up", archive="A")) == (1, 1)
    deaths = 2
    scrape()
    scrape()
    assert sample("process_restarts_total") == before + 2
    full = Scrape(archive, readiness(archive, 1 << 62, dict)["archive"], dict)
    assert "dicom_gateway_archive_ready 0.0" in full()

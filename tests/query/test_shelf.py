"""Several caches in front of one archive, as the processes of one gateway have them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Query
from gateway.dicom.models import Level, Model
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.query.cache import CachedLeading, Settings
from gateway.query.ports import Request
from gateway.query.shelf import SharedShelf
from gateway.query.ttl import Lifetimes
from tests.query.doubles import CALLER, MemoryArchive
from tests.support.waiting import wait_until

STUDY = Query(Model.STUDY_ROOT, Level.STUDY, Attributes.of({"StudyInstanceUID": "1.2", "PatientName": ""}))
ABSENT = Query(Model.STUDY_ROOT, Level.STUDY, Attributes.of({"StudyInstanceUID": "9.9", "PatientName": ""}))


class Now:
    """A clock that two processes share."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def archive() -> MemoryArchive:
    common = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "PatientID": "7"}
    return MemoryArchive([Attributes.of({**common, "SOPInstanceUID": "1.2.1.1", "PatientName": "山田^太郎"})])


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def pair(tmp_path: Path, archive: MemoryArchive, now: Now) -> Iterator[tuple[CachedLeading, CachedLeading]]:
    settings = Settings(lifetimes=Lifetimes(success=300, empty=60, failure=5, stale_if_error=0, refresh_ahead=1))
    with ExitStack() as stack:
        caches = []
        for _ in range(2):
            shelf = SharedShelf(tmp_path, "LEADING", 1 << 20, now)
            caches.append(CachedLeading("LEADING", archive, settings, now, shelf))
            stack.callback(caches[-1].close)
        yield caches[0], caches[1]


def other_process(script: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answers(cache: CachedLeading, query: Query = STUDY) -> list[str]:
    found = [one for batch in cache.batches(Request(query, CALLER)) for one in batch]
    return [one.text(tags.PatientName) for one in found]


Pair = tuple[CachedLeading, CachedLeading]


def test_what_one_process_asked_the_other_need_not(pair: Pair, archive: MemoryArchive) -> None:
    first, second = pair
    assert answers(first) == answers(second) == ["山田^太郎"]
    assert answers(first, ABSENT) == answers(second, ABSENT) == []
    assert len(archive.asked) == 2


def test_studies_are_looked_up_once(pair: Pair, archive: MemoryArchive) -> None:
    first, second = pair
    known = first.studies(["1.2", "9.9"], CALLER, [])
    assert second.studies(["1.2", "9.9"], CALLER, []) == known
    assert list(known) == ["1.2"]
    assert archive.looked_up == [("1.2", "9.9")]


def test_an_answer_is_no_younger_for_having_been_shared(pair: Pair, archive: MemoryArchive, now: Now) -> None:
    first, second = pair
    answers(first)
    now.seconds += 299
    answers(second)
    now.seconds += 2
    answers(second)
    assert len(archive.asked) == 2


def test_a_flush_in_one_process_leaves_nothing_for_the_other(pair: Pair, archive: MemoryArchive) -> None:
    first, second = pair
    answers(first)
    first.flush(study="1.2")
    answers(second)
    assert len(archive.asked) == 2


def test_what_was_asked_before_a_flush_is_not_shared_after_it(pair: Pair, archive: MemoryArchive) -> None:
    first, second = pair
    archive.hold()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(answers, first)
        wait_until(lambda: archive.asked, "the first process asks")
        second.flush()
        archive.release()
        assert asked.result() == ["山田^太郎"]
    answers(second)
    assert len(archive.asked) == 2


def test_a_failure_is_told_to_the_other_process(pair: Pair, archive: MemoryArchive, now: Now) -> None:
    first, second = pair
    archive.fail(UpstreamKind.TIMEOUT)
    for cache in (first, second):
        with pytest.raises(UpstreamError) as failed:
            answers(cache)
        assert failed.value.kind is UpstreamKind.TIMEOUT
    assert len(archive.asked) == 1
    archive.recover()
    now.seconds += 6
    assert answers(second) == ["山田^太郎"]


def test_a_refresh_is_not_served_from_what_it_replaces(tmp_path: Path, archive: MemoryArchive, now: Now) -> None:
    settings = Settings(lifetimes=Lifetimes(success=300, refresh_ahead=0.5))
    cache = CachedLeading("LEADING", archive, settings, now, SharedShelf(tmp_path, "LEADING", 1 << 20, now))
    answers(cache)
    now.seconds += 200
    answers(cache)
    cache.close()
    assert len(archive.asked) == 2


def test_one_process_asks_while_the_other_waits_and_a_cancel_ends_the_wait(tmp_path: Path, now: Now) -> None:
    shelf = SharedShelf(tmp_path, "LEADING", 1 << 20, now)
    script = (
        "import sys; from pathlib import Path; from gateway.query.shelf import SharedShelf\n"
        "shelf = SharedShelf(Path(sys.argv[1]), 'LEADING', 1 << 20)\n"
        "with shelf.asking(b'k', lambda: False):\n    print('mine', flush=True); sys.stdin.readline()\n"
    )
    with other_process(script, tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(Cancelled), shelf.asking(b"k", lambda: True):
            pytest.fail("two processes ask at once")
        with shelf.asking(b"another", lambda: False):
            pass
        other.communicate("\n")
        with shelf.asking(b"k", lambda: False):
            pass
    shelf.close()


def test_the_oldest_goes_when_there_is_too_much(tmp_path: Path, now: Now) -> None:
    shelf = SharedShelf(tmp_path, "LEADING", 10_000, now)
    for number in range(64):
        now.seconds += 1
        shelf.put({b"%d" % number: (Attributes.of({"PatientComments": "x" * 1000}),)}, lambda _: 300.0, 0)
    kept = [number for number in range(64) if shelf.get([b"%d" % number])]
    assert kept == list(range(64 - len(kept), 64))
    assert 5 <= len(kept) <= 10
    shelf.close()

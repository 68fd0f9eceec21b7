"""What the cache keeps and what it must not, its limits, and look-ups shared by several askers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import metrics
from gateway.dicom.models import Level
from gateway.errors import Cancelled, Refused, UpstreamError
from gateway.query.cache import CachedLeading, Settings
from gateway.query.limit import LimitedSource
from gateway.query.memo import Memo
from gateway.query.ports import Evidence, Nothing, Request
from gateway.query.projection import ProjectedSource
from gateway.query.ttl import Lifetimes, Limits, TTLStore, UnboundedCache
from tests.query.asking import ask, query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance
from tests.support.waiting import wait_until


def cached(archive: MemoryArchive, queries: Limits | None = None) -> CachedLeading:
    return CachedLeading("QRSCP", archive, Settings(queries=queries or Limits()))


def test_the_key_covers_level_keys_and_return_keys() -> None:
    archive = MemoryArchive([instance(1)])
    cache = cached(archive)
    for asked in (query(), query(PatientName=""), query(Level.SERIES), query(PatientName="DOE*"), query()):
        ask(cache, asked)
    assert len(archive.asked) == 4


def test_a_cancelled_query_is_not_kept() -> None:
    archive = MemoryArchive([instance(1), instance(2)])
    cache = cached(archive)
    archive.hold()
    with pytest.raises(Cancelled):
        list(cache.find(Request(query(), CALLER, cancelled=lambda: True)))
    archive.release()
    wait_until(lambda: not cache._queries._flights, "the query upstream to end")
    assert cache.entries() == []
    assert len(ask(cache, query())) == 2


def test_no_part_of_an_answer_cut_by_a_limit_is_kept() -> None:
    archive = MemoryArchive(instance(number) for number in range(5))
    cache = cached(archive)
    limited = LimitedSource(cache, 3)
    answers = limited.find(Request(query(), CALLER))
    assert len(list(islice(answers, 3))) == 3
    with pytest.raises(Refused) as refused:
        next(answers)
    assert refused.value.status == 0xA700
    assert "3" in refused.value.comment
    answers.close()  # type: ignore[attr-defined]
    assert {entry.answers for entry in cache.entries()} <= {5}, "what is kept is whole"
    assert len(ask(LimitedSource(cache, 5), query())) == 5


def test_what_is_asked_during_a_flush_is_not_kept() -> None:
    archive = MemoryArchive([instance(1), instance(2)])
    cache = cached(archive)
    answers = cache.find(Request(query(), CALLER))
    next(answers)
    cache.flush()
    assert len(list(answers)) == 1
    assert cache.entries() == []


def test_too_large_an_answer_is_not_kept_but_given() -> None:
    archive = MemoryArchive(instance(number) for number in range(100))
    cache = cached(archive, queries=Limits(max_entry_bytes=10_000))
    assert len(ask(cache, query())) == 100
    assert cache.entries() == []
    assert metrics.CACHE_BYTES.labels("QRSCP", "queries")._value.get() == 0


def test_a_cache_that_would_grow_for_ever_is_refused() -> None:
    with pytest.raises(UnboundedCache):
        CachedLeading(
            "X", MemoryArchive([]), Settings(queries=Limits(max_entries=0), lifetimes=Lifetimes(success=None))
        )
    CachedLeading("X", MemoryArchive([]), Settings(queries=Limits(max_entries=0)))


def test_entries_are_shown_without_values() -> None:
    cache = cached(MemoryArchive([instance(1)]))
    ask(cache, query(PatientName="DOE*"))
    cache.studies(["1.2.1", "1.2.9"], CALLER, [])
    shown = {(one.cache, one.key, one.answers) for one in cache.entries()}
    assert shown == {
        ("queries", "STUDY PatientName= StudyInstanceUID", 1),
        ("studies", "1.2.1", 1),
        ("studies", "1.2.9", 0),
    }


def test_a_page_of_studies_is_one_look_up_and_each_is_kept() -> None:
    archive = MemoryArchive(instance(number) for number in range(1, 6))
    cache = cached(archive)
    wanted = [f"1.2.{number}" for number in range(1, 6)]
    assert sorted(cache.studies(wanted, CALLER, [])) == wanted
    assert sorted(cache.studies([*wanted, "1.2.9"], CALLER, [])) == wanted
    assert archive.looked_up == [tuple(wanted), ("1.2.9",)]


def test_a_study_being_looked_up_is_not_looked_up_again() -> None:
    archive = MemoryArchive([instance(1), instance(2)])
    cache = CachedLeading("COALESCED", archive)
    coalesced = metrics.CACHE_LOOKUPS.labels("COALESCED", "studies", "coalesced")._value
    archive.hold()
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(cache.studies, ["1.2.1"], CALLER, [])
        wait_until(lambda: archive.looked_up, "the first look-up")
        others = [pool.submit(cache.studies, ["1.2.1"], CALLER, []) for _ in range(10)]
        wait_until(lambda: coalesced.get() == 10, "the others to wait")
        archive.release()
        assert all(list(one.result()) == ["1.2.1"] for one in [first, *others])
    assert archive.looked_up == [("1.2.1",)]


def test_a_look_up_that_fails_is_the_failure_of_all_who_wait() -> None:
    archive = MemoryArchive([instance(1)])
    cache = CachedLeading("FAILED", archive)
    archive.fail()
    archive.hold()
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(cache.studies, ["1.2.1"], CALLER, []) for _ in range(5)]
        coalesced = metrics.CACHE_LOOKUPS.labels("FAILED", "studies", "coalesced")._value
        wait_until(lambda: coalesced.get() == 4, "the others to wait")
        archive.release()
        for one in asked:
            with pytest.raises(UpstreamError):
                one.result()
    assert len(archive.looked_up) == 1


def test_evidence_holds_until_the_entry_is_gone() -> None:
    cache = cached(MemoryArchive([instance(1)]))
    request = Request(query(), CALLER)
    list(cache.find(request))
    evidence: list[Evidence] = []
    cache.studies(["1.2.1"], CALLER, evidence)
    assert all(one.holds() for one in [*request.evidence, *evidence])
    cache.flush(study="1.2.1")
    assert not any(one.holds() for one in [*request.evidence, *evidence])


class Versioned:
    """What changes an answer without a source saying so."""

    def __init__(self) -> None:
        self.version = 0

    def __call__(self) -> int:
        return self.version


def test_the_memo_hands_out_the_same_answers_until_something_changes() -> None:
    archive, version = MemoryArchive([instance(1)]), Versioned()
    cache = cached(archive)
    memo = Memo(ProjectedSource(cache, "GATEWAY"), version)
    (first,) = ask(memo, query(PatientName=""))
    (again,) = ask(memo, query(PatientName=""))
    assert again is first
    version.version = 1
    (changed,) = ask(memo, query(PatientName=""))
    assert changed is not first
    cache.flush()
    (flushed,) = ask(memo, query(PatientName=""))
    assert flushed is not changed


def test_the_memo_does_not_remember_a_makeshift() -> None:
    class Makeshift(MemoryArchive):
        def find(self, request: Request):  # type: ignore[no-untyped-def]
            request.evidence.append(Nothing())
            return super().find(request)

    archive = Makeshift([instance(1)])
    memo = Memo(archive, Versioned())
    ask(memo, query())
    ask(memo, query())
    assert len(archive.asked) == 2


def test_the_memo_does_not_remember_what_was_cut_short() -> None:
    archive = MemoryArchive([instance(1), instance(2)])
    memo = Memo(archive, Versioned())
    answers = memo.find(Request(query(), CALLER))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert uids(ask(memo, query())) == ["1.2.1", "1.2.2"]
    assert len(archive.asked) == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=60))
def test_the_store_never_exceeds_its_limits(puts: list[tuple[int, int]]) -> None:
    evicted: list[None] = []
    store: TTLStore[int, str] = TTLStore(Limits(5, 100, 30), lambda: 0.0, lambda: evicted.append(None))
    for key, size in puts:
        entry = store.put(key, "x", size, 10.0, Lifetimes())
        assert (entry is None) is (size > 30)
        assert len(store) <= 5
        assert store.bytes == sum(one.size for _, one in store.items()) <= 100


def test_the_least_recently_used_goes_first() -> None:
    store: TTLStore[int, str] = TTLStore(Limits(2), lambda: 0.0, lambda: None)
    for key in (1, 2):
        store.put(key, "x", 1, 10.0, Lifetimes())
    store.get(1)
    store.put(3, "x", 1, 10.0, Lifetimes())
    assert sorted(key for key, _ in store.items()) == [1, 3]

"""Patient and study attributes of one archive by Study Instance UID, remembered one by one and asked for together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextvars import copy_context
from dataclasses import dataclass, replace
from threading import Lock, Thread

from gateway import metrics
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.errors import UpstreamError, UpstreamKind
from gateway.query.flight import again, size_of
from gateway.query.ports import Evidence, StudyAttributesSource
from gateway.query.shelf import NoShelf, Shelf, Shelved
from gateway.query.ttl import Entry, Lifetimes, Limits, TTLStore

MAX_WAIT = 60.0
"""Seconds to wait for a look-up that somebody else began."""

_OUTCOMES = ("hit", "empty", "miss", "stale", "failed", "coalesced", "refresh")
_FAILURES = Limits(max_entries=10_000)
_SHELF = b"S"
_Found = Attributes | None
"""None: the archive does not know the study."""


@dataclass(frozen=True)
class _Kept:
    """Evidence: these entries are still there and not due."""

    cache: StudyCache
    entries: dict[str, Entry[_Found]]

    def holds(self) -> bool:
        return self.cache.holds(self.entries)

    def use(self) -> None:
        self.cache.used(self.entries)


@dataclass
class _Plan:
    """What a look-up of several studies needs: what is there, who asks already, and what is left to ask."""

    kept: dict[str, Entry[_Found]]
    awaited: dict[str, Future[_Found]]
    mine: dict[str, Future[_Found]]
    failed: UpstreamError | None = None


class StudyCache:
    """Studies' attributes, unknown studies included."""

    def __init__(
        self,
        archive: str,
        source: StudyAttributesSource,
        limits: Limits,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        shelf: Shelf | None = None,
    ) -> None:
        self._shelf = shelf or NoShelf()
        labels = (archive, "studies")
        self._source = source
        self._lifetimes = lifetimes
        self._brief = replace(lifetimes, stale_if_error=0.0)
        self._clock = clock
        self._lock = Lock()
        self._store: TTLStore[str, _Found] = TTLStore(limits, clock, metrics.CACHE_EVICTIONS.labels(*labels).inc)
        self._failures: TTLStore[str, UpstreamError] = TTLStore(_FAILURES, clock, lambda: None)
        self._seen: TTLStore[str, Attributes] = TTLStore(limits, clock, lambda: None)
        self._flights: dict[str, Future[_Found]] = {}
        self._refreshing: Thread | None = None
        self._generation = 0
        self._count = {name: metrics.CACHE_LOOKUPS.labels(*labels, name) for name in _OUTCOMES}
        self._gauges = (metrics.CACHE_ENTRIES.labels(*labels), metrics.CACHE_BYTES.labels(*labels))

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """The attributes of those studies the archive knows.

        Raises:
            UpstreamError: the archive could not tell, and for at least one of them nothing is remembered.
        """
        plan = self._plan(dict.fromkeys(uids))
        self._refresh([uid for uid, entry in plan.kept.items() if self._clock() >= entry.due_at], caller)
        if plan.mine:
            self._ask(plan, caller)
        self._wait(plan)
        if plan.failed is not None:
            self._use_stale(plan, uids)
        else:
            evidence.append(_Kept(self, plan.kept))
        return {uid: entry.value for uid, entry in plan.kept.items() if entry.value is not None}

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """What is known, fresh or stale, without asking: looked up, or seen later in the answer to a query."""
        known: dict[str, Attributes] = {}
        with self._lock:
            for uid in uids:
                entry, seen = self._store.get(uid), self._seen.get(uid)
                if entry is not None and entry.value is not None:
                    later = seen is not None and seen.stored_at > entry.stored_at
                    known[uid] = entry.value.overlay(seen.value) if seen is not None and later else entry.value
                elif seen is not None:
                    known[uid] = seen.value
        return known

    def saw(self, uid: str, attributes: Attributes) -> None:
        """Remember what a query told of a study, for when the archive cannot be asked."""
        with self._lock:
            self._seen.put(uid, attributes, size_of(attributes), self._lifetimes.success, self._lifetimes)

    def holds(self, entries: Mapping[str, Entry[_Found]]) -> bool:
        """Whether all these entries may be given again without another look."""
        return all(self._store.holds(uid, entry) for uid, entry in entries.items())

    def used(self, entries: Mapping[str, Entry[_Found]]) -> None:
        """Count hits."""
        with self._lock:
            for uid in entries:
                self._store.get(uid)  # now the most recently used
        known = sum(entry.value is not None for entry in entries.values())
        self._count["hit"].inc(known)
        self._count["empty"].inc(len(entries) - known)

    def _plan(self, uids: Iterable[str]) -> _Plan:
        plan = _Plan({}, {}, {})
        with self._lock:
            now = self._clock()
            for uid in uids:
                entry = self._store.get(uid)
                if entry is not None and now < entry.fresh_until:
                    plan.kept[uid] = entry
                elif failure := self._failures.get(uid):
                    plan.failed = failure.value
                elif flight := self._flights.get(uid):
                    plan.awaited[uid] = flight
                else:
                    plan.mine[uid] = self._flights[uid] = Future()
        self.used(plan.kept)
        self._count["coalesced"].inc(len(plan.awaited))
        return plan

    def _refresh(self, due: list[str], caller: Caller) -> None:
        """Look up anew in the background what will soon be stale; one look-up at a time."""
        with self._lock:
            if not due or (self._refreshing is not None and self._refreshing.is_alive()):
                return
            left = [uid for uid in due if uid not in self._flights and self._failures.get(uid) is None]
            if not left:
                return
            plan = _Plan({}, {}, {uid: Future() for uid in left})
            self._flights.update(plan.mine)
            context = copy_context()
            self._refreshing = Thread(target=context.run, args=(self._ask, plan, caller), name="refresh", daemon=True)
            self._refreshing.start()
        self._count["refresh"].inc(len(left))

    def close(self) -> None:
        """Wait for a refresh under way."""
        if self._refreshing is not None:
            self._refreshing.join()

    def _ask(self, plan: _Plan, caller: Caller) -> None:
        """Look up what nobody asks yet, all at once; whatever happens, those who wait are told."""
        generation = self._generation
        failure = UpstreamError("the look-up broke off", UpstreamKind.PROTOCOL)
        found: dict[str, Attributes] | None = None
        shelved: dict[str, Shelved] = {}
        try:
            shelved = self._shelved(list(plan.mine))
            found = self._fetched([uid for uid in plan.mine if uid not in shelved], caller)
            found.update({uid: one.answers[0] for uid, one in shelved.items() if one.answers})
        except UpstreamError as error:
            failure = plan.failed = error
        finally:
            self._settle(plan, found, failure, generation, {uid: one.stored_at for uid, one in shelved.items()})

    def _shelved(self, uids: list[str]) -> dict[str, Shelved]:
        """What other processes have looked up."""
        keys = {_SHELF + uid.encode(): uid for uid in uids}
        shelved = {keys[key]: one for key, one in self._shelf.get(list(keys)).items()}
        known = sum(bool(one.answers) for one in shelved.values())
        self._count["hit"].inc(known)
        self._count["empty"].inc(len(shelved) - known)
        return shelved

    def _fetched(self, uids: list[str], caller: Caller) -> dict[str, Attributes]:
        """What the archive says; it goes on the shelf."""
        if not uids:
            return {}
        self._count["miss"].inc(len(uids))
        begun = self._shelf.begin()
        found = self._source.studies(uids, caller)
        answers = {_SHELF + uid.encode(): (found[uid],) if uid in found else () for uid in uids}
        self._shelf.put(answers, lambda one: self._lifetimes.success if one else self._lifetimes.empty, begun)
        return found

    def _settle(
        self,
        plan: _Plan,
        found: dict[str, Attributes] | None,
        failure: UpstreamError,
        generation: int,
        since: Mapping[str, float],
    ) -> None:
        with self._lock:
            keep = self._generation == generation
            for uid, flight in plan.mine.items():
                if self._flights.get(uid) is flight:
                    del self._flights[uid]
                if found is None:
                    self._failures.put(uid, failure, 500, self._lifetimes.failure, self._brief)
                    flight.set_exception(failure)
                    continue
                plan.kept[uid] = self._entry(uid, found.get(uid), since.get(uid), keep=keep)
                flight.set_result(found.get(uid))
            self._gauges[0].set(len(self._store))
            self._gauges[1].set(self._store.bytes)

    def _entry(self, uid: str, value: _Found, since: float | None, *, keep: bool) -> Entry[_Found]:
        life = self._lifetimes.empty if value is None else self._lifetimes.success
        size = 200 + (size_of(value) if value is not None else 0)
        entry = self._store.put(uid, value, size, life, self._lifetimes, since) if keep else None
        return entry or Entry(value, size, 0.0, 0.0, 0.0, 0.0)

    def _wait(self, plan: _Plan) -> None:
        if not plan.awaited:
            return
        wait(plan.awaited.values(), MAX_WAIT)
        for uid, flight in plan.awaited.items():
            try:
                value = flight.result(timeout=0)
            except UpstreamError as error:
                plan.failed = error
            except FutureTimeout:
                plan.failed = UpstreamError("the look-up takes too long", UpstreamKind.TIMEOUT)
            else:
                with self._lock:
                    entry = self._store.get(uid)
                plan.kept[uid] = entry if entry and entry.value is value else Entry(value, 0, 0.0, 0.0, 0.0, 0.0)

    def _use_stale(self, plan: _Plan, uids: Sequence[str]) -> None:
        """Fill up with what is no longer fresh, or raise the failure."""
        with self._lock:
            stale = {uid: self._store.get(uid) for uid in uids if uid not in plan.kept}
        missing = sum(entry is None for entry in stale.values())
        self._count["stale"].inc(len(stale) - missing)
        self._count["failed"].inc(missing)
        if missing and plan.failed is not None:
            raise again(plan.failed)
        plan.kept.update({uid: entry for uid, entry in stale.items() if entry is not None})

    def entries(self) -> list[tuple[str, Entry[_Found]]]:
        """What is kept."""
        with self._lock:
            return self._store.items()

    def flush(self, chosen: Callable[[str, _Found], bool]) -> int:
        """Drop the entries chosen by UID and attributes; what is being asked right now is not kept either."""
        with self._lock:
            self._generation += 1
            self._flights.clear()
            self._failures.clear()
            self._seen.clear()
            dropped = [(uid, entry) for uid, entry in self._store.items() if chosen(uid, entry.value)]
            count = sum(self._store.remove(uid, entry) for uid, entry in dropped)
            self._gauges[0].set(len(self._store))
            self._gauges[1].set(self._store.bytes)
        return count

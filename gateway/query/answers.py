"""Whole answers of one archive, remembered: fresh, stale, or on their way for several askers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Lock
from typing import Self

from gateway import metrics
from gateway.dicom.attributes import Attributes
from gateway.errors import UpstreamError
from gateway.logs import get_logger
from gateway.query.flight import Flight, again, size_of
from gateway.query.ports import Nothing, QuerySource, Request
from gateway.query.shelf import NoShelf, Shelf, Shelved
from gateway.query.ttl import Entry, Lifetimes, Limits, TTLStore

_log = get_logger("query")
_Answers = tuple[Attributes, ...]

_OUTCOMES = ("hit", "empty", "miss", "stale", "failed", "coalesced", "refresh")
_REFRESHES = 4
_FAILURES = Limits(max_entries=1_000)


@dataclass(frozen=True)
class _Kept:
    """Evidence: this entry is still in the store and not due."""

    cache: QueryCache
    key: bytes
    entry: Entry[_Answers]

    def holds(self) -> bool:
        return self.cache.holds(self.key, self.entry)

    def use(self) -> None:
        self.cache.used(self.key, self.entry)


class _Asking:
    """One process asking what others may have asked: a turn, what is on the shelf, and what goes there.

    Attributes:
        since: when an answer that was on the shelf came from the archive.
    """

    def __init__(self, shelf: Shelf, key: bytes, after: float) -> None:
        self._shelf = shelf
        self._key = b"Q" + key
        self._after = after
        self._turn = ExitStack()
        self._begun = 0
        self._told = False
        self.since: float | None = None

    def begin(self, cancelled: Callable[[], bool]) -> Shelved | None:
        """Wait for the turn; what is on the shelf then."""
        self._turn.enter_context(self._shelf.asking(self._key, cancelled))
        try:
            shelved = self._shelf.get([self._key], after=self._after).get(self._key)
        except UpstreamError:
            self._told = True
            raise
        self._begun = self._shelf.begin()
        self.since = shelved.stored_at if shelved else None
        return shelved

    def brought(self, answers: _Answers, life: Callable[[_Answers], float | None]) -> None:
        """Put the archive's answers on the shelf, unless they came from there."""
        if self.since is None:
            self._shelf.put({self._key: answers}, life, self._begun)

    def failed(self, error: UpstreamError, life: float) -> None:
        """Tell the others of a failure, unless it was they who told us."""
        if not self._told:
            self._shelf.fail(self._key, error, life)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._turn.close()


class QueryCache:
    """Answers of one archive to whole queries, by model, level and canonical identifier.

    Args:
        kept: is told the answers of a query when they are complete.
        shelf: what other processes have asked is looked up there first.
    """

    def __init__(
        self,
        archive: str,
        source: QuerySource,
        limits: Limits,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        kept: Callable[[_Answers], None] = lambda _: None,
        shelf: Shelf | None = None,
    ) -> None:
        labels = (archive, "queries")
        self._archive = archive
        self._source = source
        self._kept = kept
        self._shelf = shelf or NoShelf()
        self._lifetimes = lifetimes
        self._clock = clock
        self._limits = limits
        self._lock = Lock()
        self._store: TTLStore[bytes, _Answers] = TTLStore(limits, clock, metrics.CACHE_EVICTIONS.labels(*labels).inc)
        self._failures: TTLStore[bytes, UpstreamError] = TTLStore(_FAILURES, clock, lambda: None)
        self._brief = replace(lifetimes, stale_if_error=0.0)
        self._closing = False
        self._flights: dict[bytes, Flight] = {}
        self._generation = 0  # of invalidations: what was asked before one is not kept after it
        self._refreshing: set[Flight] = set()
        self._count = {name: metrics.CACHE_LOOKUPS.labels(*labels, name) for name in _OUTCOMES}
        self._age = metrics.CACHE_AGE_SECONDS.labels(archive)
        self._gauges = (metrics.CACHE_ENTRIES.labels(*labels), metrics.CACHE_BYTES.labels(*labels))

    def batches(self, request: Request) -> Iterator[Sequence[Attributes]]:
        """Yield the archive's answers, remembered or as they arrive, as many at a time as are there."""
        key = request.query.canonical
        with self._lock:
            entry = self._store.get(key)
            failure = self._failures.get(key)
            now = self._clock()
        if entry is not None and now < entry.fresh_until:
            yield self._given(key, entry, request, now)
        elif entry is not None:
            yield from self._revalidated(key, entry, failure, request)
        elif failure is not None:
            self._count["failed"].inc()
            raise again(failure.value)
        else:
            yield from self._asked(key, request)

    def _given(self, key: bytes, entry: Entry[_Answers], request: Request, now: float) -> _Answers:
        self.used(key, entry)
        if now >= entry.due_at:
            self._refresh(key, request)
        request.evidence.append(_Kept(self, key, entry))
        return entry.value

    def _revalidated(
        self, key: bytes, entry: Entry[_Answers], failure: Entry[UpstreamError] | None, request: Request
    ) -> Iterator[Sequence[Attributes]]:
        """Ask anew, whole, before anything is said: if that fails there is still the old answer."""
        if failure is None:
            try:
                yield from list(self._asked(key, request))
            except UpstreamError as error:
                _log.warning("stale answer given", kind=error.kind.value, reason=error.message)
            else:
                return
        self._count["stale"].inc()
        self._age.observe(self._clock() - entry.stored_at)
        request.evidence.append(Nothing())
        yield entry.value

    def _asked(self, key: bytes, request: Request) -> Iterator[Sequence[Attributes]]:
        """Ask the archive, or listen to who is already asking."""
        yield from self._join(key, request)
        with self._lock:
            entry = self._store.get(key)
        request.evidence.append(_Kept(self, key, entry) if entry else Nothing())

    def _join(self, key: bytes, request: Request) -> Iterator[Sequence[Attributes]]:
        """The flight to read, or what one has brought between the first look and this one."""
        with self._lock:
            entry = self._store.get(key)
            if entry is not None and self._clock() < entry.fresh_until:
                self._count["coalesced"].inc()
                return iter([entry.value])
            if (failure := self._failures.get(key)) is not None:
                raise again(failure.value)
            flight = self._flights.get(key)
            if flight is not None and (answers := flight.join(request.cancelled)) is not None:
                self._count["coalesced"].inc()
                return answers
            # None is on its way, or it is too late to join it.
            flight = self._flights[key] = self._flight(key, request)
            mine = flight.join(request.cancelled)
            assert mine is not None
            flight.launch()
            return mine

    def _flight(self, key: bytes, request: Request, *, known: Entry[_Answers] | None = None) -> Flight:
        """A question on its way; a refresh when ``known`` is what is to be replaced."""
        generation = self._generation
        asking = _Asking(self._shelf, key, known.stored_at if known else -1.0)
        flight: Flight

        def start(cancelled: Callable[[], bool]) -> Iterator[Attributes]:
            shelved = asking.begin(cancelled)
            if not known:
                self._count[("hit" if shelved.answers else "empty") if shelved else "miss"].inc()
            if shelved:
                yield from shelved.answers
            else:
                _log.info("leading archive asked", archive=self._archive, cache="miss")
                yield from self._source.find(Request(request.query, request.caller, cancelled))

        def ended(answers: _Answers | None, error: UpstreamError | None) -> None:
            with asking:
                if error is not None:
                    asking.failed(error, self._lifetimes.failure)
                elif answers is not None:
                    asking.brought(answers, self._life)
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                self._refreshing.discard(flight)
                current = self._generation == generation
                if current:
                    self._keep(key, answers, error, asking.since)
            if current and answers:
                self._kept(answers)

        wanted = (lambda: not self._closing) if known else (lambda: False)
        flight = Flight(start, ended, self._limits.max_entry_bytes, wanted=wanted)
        return flight

    def _life(self, answers: _Answers) -> float | None:
        return self._lifetimes.success if answers else self._lifetimes.empty

    def _keep(self, key: bytes, answers: _Answers | None, error: UpstreamError | None, since: float | None) -> None:
        if answers is not None:
            self._store.put(key, answers, _size(key, answers), self._life(answers), self._lifetimes, since)
        elif error is not None:
            self._failures.put(key, error, 500, self._lifetimes.failure, self._brief)
        self._measure()

    def _measure(self) -> None:
        self._gauges[0].set(len(self._store))
        self._gauges[1].set(self._store.bytes)

    def _refresh(self, key: bytes, request: Request) -> None:
        """Ask anew in the background, once; not now when many are being asked already."""
        with self._lock:
            busy = len(self._refreshing) >= _REFRESHES or self._closing
            if busy or key in self._flights or self._failures.get(key):
                return
            flight = self._flights[key] = self._flight(key, request, known=self._store.get(key))
            self._refreshing.add(flight)
        self._count["refresh"].inc()
        flight.launch()

    def holds(self, key: bytes, entry: Entry[_Answers]) -> bool:
        """Whether an entry may be given again without another look."""
        return self._store.holds(key, entry)

    def used(self, key: bytes, entry: Entry[_Answers]) -> None:
        """Count a hit."""
        with self._lock:
            self._store.get(key)  # now the most recently used
        self._count["hit" if entry.value else "empty"].inc()
        _log.debug("answered from the cache", archive=self._archive, cache="hit")
        self._age.observe(self._clock() - entry.stored_at)

    def entries(self) -> list[tuple[bytes, Entry[_Answers]]]:
        """What is kept."""
        with self._lock:
            return self._store.items()

    def flush(self, chosen: Callable[[_Answers], bool]) -> int:
        """Drop the entries chosen by their answers; what is being asked right now is not kept either."""
        with self._lock:
            self._generation += 1
            self._flights.clear()  # whoever asks from now on gets what the archive says from now on
            candidates = self._store.items()
        dropped = [(key, entry) for key, entry in candidates if chosen(entry.value)]
        with self._lock:
            count = sum(self._store.remove(key, entry) for key, entry in dropped)
            self._failures.clear()
            self._measure()
        return count

    def close(self) -> None:
        """End the refreshes under way."""
        with self._lock:
            self._closing = True
            refreshing = list(self._refreshing)
        for flight in refreshing:
            flight.wait()


def _size(key: bytes, answers: _Answers) -> int:
    return 2 * len(key) + sum(size_of(answer) for answer in answers)

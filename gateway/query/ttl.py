"""A bounded store of values that grow old: least recently used out first, by entries and by bytes.

An entry is *fresh*, then *stale* (good enough when the source fails), then gone. Shortly before the end of its fresh
life it is *due*, so that somebody may fetch it anew while the old one still serves. The clock is an argument and
monotonic. Callers hold their own lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from cachetools import Cache, LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Lifetimes:
    """How long answers live, in seconds.

    Attributes:
        success: of an answer with at least one match; None is for ever.
        empty: of a complete answer without a match, and of a study the archive does not know.
        failure: for which a failure is given to others without asking again.
        stale_if_error: beyond ``success`` or ``empty``, when the archive fails.
        refresh_ahead: share of a fresh life after which a hit fetches anew in the background; 1 never does.
    """

    success: float | None = 300.0
    empty: float = 60.0
    failure: float = 5.0
    stale_if_error: float = 3_600.0
    refresh_ahead: float = 0.8


@dataclass(frozen=True)
class Limits:
    """How much is kept; 0 is without a limit.

    Attributes:
        max_bytes: by estimate of the memory that the values take.
        max_entry_bytes: a larger answer goes through without being kept.
    """

    max_entries: int = 10_000
    max_bytes: int = 64 << 20
    max_entry_bytes: int = 16 << 20


class UnboundedCache(ValueError):
    """A cache that would grow for ever: without a limit on entries, entries must expire."""


def check(lifetimes: Lifetimes, limits: Limits) -> None:
    """Refuse what would run out of memory.

    Raises:
        UnboundedCache: any number of entries, for ever.
    """
    if limits.max_entries == 0 and lifetimes.success is None:
        raise UnboundedCache("max_entries 0 (unbounded) needs a ttl")


@dataclass(frozen=True, eq=False)
class Entry(Generic[V]):
    """A value and its life, in seconds of the store's clock."""

    value: V
    size: int
    stored_at: float
    due_at: float
    fresh_until: float
    stale_until: float


class TTLStore(Generic[K, V]):
    """Entries by key."""

    def __init__(self, limits: Limits, clock: Callable[[], float], evicted: Callable[[], None]) -> None:
        self._limits = limits
        self._clock = clock
        self._entries: _Evicting[K] = _Evicting(limits.max_bytes or inf, evicted)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The sum of the entries' sizes."""
        return int(self._entries.currsize)

    def get(self, key: K) -> Entry[V] | None:
        """The entry, fresh or stale, now the most recently used; None when there is none or it is gone."""
        entry: Entry[V] | None = self._entries.get(key)
        if entry is not None and self._clock() >= entry.stale_until:
            del self._entries[key]
            return None
        return entry

    def holds(self, key: K, entry: Entry[V]) -> bool:
        """Whether this very entry is still there and nothing is to be done about it; its use is not counted."""
        return self._entries.peek(key) is entry and self._clock() < entry.due_at

    def put(
        self,
        key: K,
        value: V,
        size: int,
        fresh_for: float | None,
        lifetimes: Lifetimes,
        since: float | None = None,
    ) -> Entry[V] | None:
        """Keep a value; None when it is too large to be kept.

        Args:
            since: when its life began; now unless given.
        """
        self._entries.pop(key, None)
        if self._limits.max_entry_bytes and size > self._limits.max_entry_bytes:
            return None
        now = self._clock() if since is None else since
        life = inf if fresh_for is None else fresh_for
        due = inf if life == inf else now + life * lifetimes.refresh_ahead
        entry = Entry(value, size, now, due, now + life, now + life + lifetimes.stale_if_error)
        try:
            self._entries[key] = entry
        except ValueError:  # larger than the whole store
            return None
        while self._limits.max_entries and len(self._entries) > self._limits.max_entries:
            self._entries.popitem()
        return entry

    def remove(self, key: K, entry: Entry[V]) -> bool:
        """Drop this very entry; False when it is no longer there."""
        if self._entries.peek(key) is not entry:
            return False
        del self._entries[key]
        return True

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def items(self) -> list[tuple[K, Entry[V]]]:
        """All entries; looking at them is no use of them."""
        return [(key, self._entries.peek(key)) for key in self._entries]


class _Evicting(LRUCache[K, Any]):
    """Says when it pushes something out, and can be looked at without a use being counted."""

    def __init__(self, maxsize: float, evicted: Callable[[], None]) -> None:
        super().__init__(maxsize, getsizeof=lambda entry: entry.size)
        self._evicted = evicted

    def popitem(self) -> tuple[K, Any]:
        self._evicted()
        return super().popitem()

    def peek(self, key: K) -> Any:
        return Cache.__getitem__(self, key) if key in self else None

"""Associations to one archive, reused promptly: opening one costs more than most questions.

An association that was not used again soon is released, since many archives have few of them to give. One that the
archive closed in the meantime is noticed by the first question on it, which is then asked on a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock, Timer
from time import monotonic
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.errors import UpstreamError, UpstreamKind


class Association(Protocol):
    """An open association that can carry C-FIND; :class:`gateway.dimse.requestor.Association` is one."""

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent on it."""

    def find(self, sop_class: str, identifier: Attributes, cancelled: Callable[[], bool]) -> Iterator[Attributes]:
        """C-FIND; ends normally only after 0000H, otherwise raises."""

    def release(self) -> None:
        """End it in order."""

    def abort(self) -> None:
        """End it at once."""


Connect = Callable[[], Association]
"""Opens an association.

Raises:
    UpstreamError: the archive cannot be reached, rejects, or is silent.
"""


@dataclass(frozen=True)
class _Idle:
    association: Association
    since: float


class Pool:
    """At most ``limit`` associations at a time, each used by one thread at a time.

    Args:
        idle: seconds after which an unused association is released.
        patience: seconds to wait for one while all are in use.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        limit: int = 8,
        idle: float = 5.0,
        patience: float = 10.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._connect = connect
        self._idle_for = idle
        self._patience = patience
        self._clock = clock
        self._lock = Lock()
        self._places = BoundedSemaphore(limit)
        self._idle: list[_Idle] = []
        self._timer: Timer | None = None
        self._closed = False

    @contextmanager
    def association(self, *, fresh: bool = False) -> Iterator[tuple[Association, bool]]:
        """An association for one question, and whether it was used before.

        Raises:
            UpstreamError: none can be had.
        """
        if not self._places.acquire(timeout=self._patience):
            raise UpstreamError("all associations to the archive are in use", UpstreamKind.BUSY)
        try:
            reused = None if fresh else self._take()
            association = reused or self._connect()
            try:
                yield association, reused is not None
            finally:
                self._give_back(association)
        finally:
            self._places.release()

    def close(self) -> None:
        """Release what is idle; what is in use is released when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        for one in idle:
            one.association.release()

    def _take(self) -> Association | None:
        with self._lock:
            while self._idle:
                one = self._idle.pop()
                if one.association.is_open:
                    return one.association
        return None

    def _give_back(self, association: Association) -> None:
        if not association.is_open:
            return
        with self._lock:
            keep = not self._closed and self._idle_for > 0
            if keep:
                self._idle.append(_Idle(association, self._clock()))
                self._schedule()
        if not keep:
            association.release()

    def _schedule(self) -> None:
        """Wake up when the longest idle association has been so for long enough; needs the lock."""
        if self._timer is None and self._idle:
            wait = max(0.01, self._idle[0].since + self._idle_for - self._clock())
            self._timer = Timer(wait, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        limit = self._clock() - self._idle_for
        with self._lock:
            self._timer = None
            expired = [one for one in self._idle if one.since <= limit]
            self._idle = [one for one in self._idle if one.since > limit]
            self._schedule()
        for one in expired:
            one.association.release()

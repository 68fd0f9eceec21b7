"""What is still to be sent, shared by the threads that send it and the one that finds more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from gateway.retrieve.delivery import Parcel


class Backlog:
    """A queue of parcels that can be closed (no more will come) and stopped (nobody wants more)."""

    def __init__(self, parcels: Iterable[Parcel] = ()) -> None:
        self._parcels = deque(parcels)
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False

    def put(self, parcel: Parcel) -> None:
        """Add one."""
        with self._changed:
            self._parcels.append(parcel)
            self._changed.notify()

    def close(self) -> None:
        """Say that no more will come; takers end when they have emptied it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let every taker end now."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether nobody wants more."""
        return self._stopped

    def take(self, timeout: float | None = None) -> Parcel | None:
        """The next one, waited for up to ``timeout`` seconds; None when there is none, see :attr:`ended`."""
        with self._changed:
            self._changed.wait_for(lambda: self._parcels or self._closed or self._stopped, timeout)
            if self._stopped or not self._parcels:
                return None
            return self._parcels.popleft()

    def peek(self) -> Parcel | None:
        """The one that will be taken next, if it is there; another taker may be faster."""
        with self._changed:
            return self._parcels[0] if self._parcels and not self._stopped else None

    @property
    def ended(self) -> bool:
        """Whether no taker will get anything any more."""
        with self._changed:
            return self._stopped or (self._closed and not self._parcels)

    def rest(self) -> list[Parcel]:
        """Empty it: what nobody took."""
        with self._changed:
            left = list(self._parcels)
            self._parcels.clear()
            return left

"""Who takes up how many associations: in all, from one address while it negotiates, and of one peer from then on.

An address proves little, and many peers may share one; a peer's name is known only when its A-ASSOCIATE-RQ has been
read. So an association counts for its address until it is admitted, which a flood of connections does not reach, and
for its peer afterwards. All counts hold for all processes on the port. An association is counted before the count is
compared, so that processes that count at the same moment may reject one too many, but never let one too many in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic

from gateway.dimse.negotiation import LOCAL_LIMIT_EXCEEDED, TEMPORARY_CONGESTION, AssociateReject
from gateway.dimse.pdu import MAX_PDU
from gateway.rates import Buckets, Rate
from gateway.workers.board import Place


@dataclass(frozen=True)
class Limits:
    """Bounds on what peers can take up, in all processes that share the port."""

    associations: int = 100
    """At once."""
    negotiating: int = 50
    """Associations of one network address that are not admitted yet, at once."""
    rate: Rate | None = None
    """How often one network address may begin an association."""
    waiting: int = 1000
    """Connections that have not said anything yet, in each process."""
    max_pdu: int = MAX_PDU
    """Longest P-DATA-TF we let a peer send, in bytes; announced in negotiation."""


class Full(Enum):
    """Which limit an association is over; the value is the label of the metric."""

    TOTAL = "limit"
    ADDRESS = "address_limit"
    PEER = "peer_limit"
    RATE = "rate"

    @property
    def reject(self) -> AssociateReject:
        """How it is told so (PS3.8 Table 9-21): both are transient, so it may try again."""
        return TEMPORARY_CONGESTION if self is Full.RATE else LOCAL_LIMIT_EXCEEDED


class Slots:
    """The associations of this process, counted with those of the others.

    Args:
        place: this process among others on the same port.
    """

    def __init__(self, limits: Limits, place: Place, clock: Callable[[], float] = monotonic) -> None:
        self._limits = limits
        self._place = place
        self._lock = threading.Lock()
        self._taken = 0
        self.buckets = Buckets(place.times, clock)

    def take(self, address: str) -> Slot | Full:
        """Count one more association, or say which limit it is over."""
        key = f"address {address}"
        if self._limits.rate and self.buckets.take(key, self._limits.rate):
            return Full.RATE
        slot = Slot(self, key)
        full = self._count(key)
        if full:
            slot.free()
            return full
        return slot

    def _count(self, key: str) -> Full | None:
        with self._lock:
            self._place.add(key, 1)
            self._taken += 1
            self._place.serves(self._taken)
            if self._place.total > self._limits.associations:
                return Full.TOTAL
            return Full.ADDRESS if self._place.count(key) > self._limits.negotiating else None

    def admit(self, slot: Slot, peer: str, most: int) -> bool:
        """Count an association for its peer instead of its address; false when the peer has ``most`` already."""
        key = f"peer {peer}"
        with self._lock:
            self._place.add(key, 1)
            if most and self._place.count(key) > most:
                self._place.add(key, -1)  # while it is told so, it counts for its address as before
                return False
            self._place.add(slot.key, -1)
            slot.key = key
            return True

    def free(self, slot: Slot) -> None:
        """Count an association that has ended no more."""
        with self._lock:
            self._place.add(slot.key, -1)
            self._taken -= 1
            self._place.serves(self._taken)


class Slot:
    """One association's; to be freed when it ends."""

    def __init__(self, slots: Slots, key: str) -> None:
        self._slots = slots
        self.key = key

    def admit(self, peer: str, most: int) -> bool:
        """See :meth:`Slots.admit`."""
        return self._slots.admit(self, peer, most)

    def free(self) -> None:
        """See :meth:`Slots.free`."""
        self._slots.free(self)

"""Holding back requests that come faster than their peer's rate allows.

The thread that serves the association waits, so the peer feels it as a slow gateway and nobody else feels it. A request
that would have to wait too long is refused, but not at once: what asks again and again without a pause is slowed, too.
"""

from __future__ import annotations

import threading

from gateway import metrics
from gateway.dicom.status import Status
from gateway.dimse.command import Field
from gateway.dimse.wire import Lost
from gateway.errors import UpstreamKind
from gateway.rates import Buckets, Rate

_REFUSALS: dict[int, Status] = {
    Field.C_FIND: Status.OUT_OF_RESOURCES,
    Field.C_STORE: Status.OUT_OF_RESOURCES,
    Field.C_MOVE: Status.UNABLE_TO_PERFORM_SUBOPERATIONS,
    Field.C_GET: Status.UNABLE_TO_PERFORM_SUBOPERATIONS,
}


class Pace:
    """The rate of one peer, as one of its associations feels it.

    Args:
        buckets: of all associations of all peers, in all processes.
        longest: seconds that a request is held back.
        stopping: set when the server stops.
    """

    def __init__(self, peer: str, rate: Rate, buckets: Buckets, longest: float, stopping: threading.Event) -> None:
        self._peer = peer
        self._rate = rate
        self._buckets = buckets
        self._longest = longest
        self._stopping = stopping

    def wait(self) -> bool:
        """Wait for a request's turn; false when it has none.

        Raises:
            Lost: the server stops.
        """
        seconds = self._buckets.take(f"requests {self._peer}", self._rate, self._longest)
        if not seconds:
            return True
        has_turn = seconds <= self._longest
        metrics.REQUESTS_LIMITED.labels(self._peer, "delayed" if has_turn else "refused").inc()
        if self._stopping.wait(min(seconds, self._longest)):
            raise Lost("the server stops", UpstreamKind.ABORTED)
        return has_turn


def refusal(field: int) -> Status:
    """The status for a request that has no turn (PS3.4 C.4 and B.2.3; PS3.7 C.5.16 where the service has none)."""
    return _REFUSALS.get(field, Status.RESOURCE_LIMITATION)

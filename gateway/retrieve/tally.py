"""The counters of a running retrieve, shared by the threads that carry it out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Kind, kind
from gateway.metrics import SUBOPERATIONS


class Tally:
    """Counts sub-operations; every method may be called from any thread.

    Args:
        sop_instance_uids: what is to be sent, each instance once.
    """

    def __init__(self, sop_instance_uids: Iterable[str], service: str) -> None:
        self._outstanding = dict.fromkeys(sop_instance_uids)
        self._counters = SubOperations(len(self._outstanding))
        self._service = service
        self._lock = threading.Lock()

    def count(self, sop_instance_uid: str, status: int) -> None:
        """Count one sub-operation by the status it ended with; only its first end counts."""
        with self._lock:
            if sop_instance_uid not in self._outstanding:
                return
            del self._outstanding[sop_instance_uid]
            self._counters.count(sop_instance_uid, status)
        outcome = kind(status)
        known = outcome in {Kind.SUCCESS, Kind.WARNING}
        SUBOPERATIONS.labels(self._service, outcome.value if known else Kind.FAILURE.value).inc()

    def fail_rest(self, status: int) -> int:
        """Count everything that has not ended yet as failed, and say how much that was."""
        with self._lock:
            rest = list(self._outstanding)
        for uid in rest:
            self.count(uid, status)
        return len(rest)

    def snapshot(self) -> SubOperations:
        """The counters as they are now; a copy that does not change."""
        with self._lock:
            return replace(self._counters, failed_uids=list(self._counters.failed_uids))

"""The counters of a running retrieve, shared by the threads that carry it out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Kind, kind
from gateway.metrics import SUBOPERATIONS


class Tally:
    """Counts sub-operations; every method may be called from any thread."""

    def __init__(self, total: int, service: str) -> None:
        self._counters = SubOperations(total)
        self._service = service
        self._lock = threading.Lock()

    def count(self, sop_instance_uid: str, status: int) -> None:
        """Count one sub-operation by the status it ended with."""
        with self._lock:
            self._counters.count(sop_instance_uid, status)
        outcome = kind(status)
        SUBOPERATIONS.labels(self._service, outcome.value if outcome is not Kind.PENDING else "failure").inc()

    def count_all(self, sop_instance_uids: Iterable[str], status: int) -> None:
        """Count sub-operations that ended alike."""
        for uid in sop_instance_uids:
            self.count(uid, status)

    def snapshot(self) -> SubOperations:
        """The counters as they are now; a copy that does not change."""
        with self._lock:
            return replace(self._counters, failed_uids=list(self._counters.failed_uids))

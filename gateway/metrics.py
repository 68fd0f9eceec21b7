"""Every metric of the gateway, on one page (Prometheus naming: base units, bounded label sets).

A label never carries a UID, a patient's data or a title a peer made up: unknown callers count as ``unknown``.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__

REGISTRY = CollectorRegistry()

_PREFIX = "dicom_gateway_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Tallied(Counter):
    """A counter with one label for places where ``inc`` is too dear: one atomic step of an iterator, a tenth of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tallies: dict[str, _Tally] = {}
        self._adding = threading.Lock()

    def tally(self, label: str) -> Callable[[], object]:
        """What counts one when it is called, from any thread; the same for the same label."""
        found = self._tallies.get(label)
        if found is None:
            found = self._tallies.setdefault(label, _Tally())
        return found.step

    def collect(self) -> Iterable[Metric]:
        """Add what was counted since the last time, and tell."""
        with self._adding:
            for label, tally in list(self._tallies.items()):
                self.labels(label).inc(tally.taken())
        return super().collect()


class _Tally:
    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._told = 0
        self.step = self._numbers.__next__

    def taken(self) -> int:
        """Steps since the last call; looking takes a step itself."""
        now = self.step()
        new, self._told = now - self._told, now + 1
        return new


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(_PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(_PREFIX + name, text, labels, registry=REGISTRY)


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(_PREFIX + name, text, labels, registry=REGISTRY, buckets=_SECONDS)


# -- associations and DIMSE requests

ASSOCIATIONS = _gauge("associations_active", "Associations open now, by who requested them.", "role")
ASSOCIATIONS_ACCEPTED = _counter("associations_accepted_total", "Associations accepted, by configured peer.", "peer")
ASSOCIATIONS_REJECTED = _counter(
    "associations_rejected_total", "Associations rejected, or lost in the TLS handshake, by reason.", "reason"
)
REQUESTS = _counter("dimse_requests_total", "DIMSE requests served, by service and status class.", "service", "status")
REQUESTS_LIMITED = _counter(
    "dimse_requests_limited_total", "DIMSE requests over their peer's rate: delayed, or refused.", "peer", "outcome"
)
REQUEST_SECONDS = _seconds(
    "dimse_request_duration_seconds", "Time from request to final response, by service and status.", "service", "status"
)
SENT_BYTES = _counter("instances_sent_bytes_total", "Bytes of data sets sent by C-STORE, sub-operations included.")
RECEIVED_BYTES = _counter("instances_received_bytes_total", "Bytes of data sets received by C-STORE.")

# -- queries and their cache

CACHE_LOOKUPS = _counter(
    "query_cache_lookups_total",
    "Looks into a leading archive's cache by result: hit, empty, miss, stale, failed, coalesced, refresh.",
    "archive",
    "cache",
    "result",
)
CACHE_EVICTIONS = _counter("query_cache_evictions_total", "Entries pushed out by a limit.", "archive", "cache")
CACHE_FLUSHED = _counter("query_cache_flushed_total", "Entries invalidated by hand or by a deletion.", "archive")
CACHE_ENTRIES = _gauge("query_cache_entries", "Entries kept now.", "archive", "cache")
CACHE_BYTES = _gauge("query_cache_bytes", "Estimated memory of the entries kept now.", "archive", "cache")
CACHE_AGE_SECONDS = Histogram(
    _PREFIX + "query_cache_hit_age_seconds",
    "Age of an answer when it was given.",
    ("archive",),
    registry=REGISTRY,
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400),
)
QUERY_MEMO = _counter("query_memo_total", "Queries answered from the memo of finished answers, or not.", "outcome")
QUERY_LIMITED = _counter("query_limited_total", "Queries ended by query.max_answers.")
QUERY_ANSWERS_DROPPED = _counter("query_answers_dropped_total", "Answers without their unique key, by level.", "level")

# -- leading archives

LEADING_UP = _gauge("leading_up", "Whether a leading archive answers, as of the last question to it.", "archive")
LEADING_CIRCUIT = _gauge("leading_circuit_state", "Circuit breaker: 0 closed, 1 half open, 2 open.", "archive")
LEADING_REQUESTS = _counter(
    "leading_requests_total",
    "C-FIND requests to leading archives: answered, given_up by the asker, or the kind of failure.",
    "archive",
    "outcome",
)
LEADING_SECONDS = _seconds("leading_request_duration_seconds", "From request to final response.", "archive")
LEADING_DEGRADED = _counter("leading_degraded_total", "Answers given without the leading archive, by failure.", "kind")

# -- retrieves

SUBOPERATIONS = _counter(
    "suboperations_total", "C-STORE sub-operations of C-MOVE and C-GET, by how each ended.", "service", "outcome"
)
DESTINATION_FAILURES = _counter(
    "destination_failures_total", "Associations to a move destination that failed or broke.", "peer", "kind"
)
PULLS = _counter("pulls_total", "Retrieves from the leading archive for callers, by how each ended.", "outcome")
PULLED = _counter("pulled_instances_total", "Instances of the leading archive, by what became of them.", "outcome")
PULLED_BYTES = _counter("pulled_bytes_total", "Bytes of data sets that the leading archive sent for callers.")

# -- archive

ARCHIVE_READY = _gauge("archive_ready", "Whether the archive takes and sends instances, as /readyz says.")
ARCHIVE_ENTITIES = _gauge("archive_entities", "Patients, studies, series and instances kept, by level.", "level")
ARCHIVE_BYTES = _gauge("archive_bytes", "Bytes of the instances kept, as far as their files were looked at.")
ARCHIVE_FREE_BYTES = _gauge("archive_free_bytes", "Bytes free on the archive's disk.")
ARCHIVE_QUARANTINED = _gauge("archive_quarantined", "Directory records that could not be read.")
ARCHIVE_UNPUBLISHED = _gauge("archive_unpublished", "Instances kept that the DICOMDIR does not list yet.")
ARCHIVE_PUBLISH_DELAY = _gauge(
    "archive_publish_delay_seconds", "Age of the oldest change that is not in the DICOMDIR; 0 when all are."
)
JOURNALED = _counter(
    "archive_journaled_total", "Instances for the journal: made durable by it, or synced by themselves.", "outcome"
)
PUBLISH_SECONDS = _seconds("archive_publish_duration_seconds", "Time to publish the DICOMDIR once.")
STORED = _counter(
    "archive_stored_total", "C-STORE requests taken: new, identical, kept (the first), replaced, restored.", "outcome"
)
DELETED = _counter("archive_deleted_instances_total", "Instances deleted, by what asked for it.", "reason")
REJECTED = _counter("rejected_instances_total", "Instances rejected by notes, by title and action.", "title", "action")

# -- coercion

RULES_APPLIED = Tallied(
    _PREFIX + "coercion_applied_total", "Data sets a rule was applied to, by rule.", ("rule",), registry=REGISTRY
)
RULES_FAILURES = _counter(
    "coercion_failures_total",
    "Data sets a rule could not be applied to, by rule and its on_failure: refuse, pass, quarantine.",
    "rule",
    "outcome",
)
RULES_QUARANTINED = _counter("coercion_quarantined_total", "Received instances put aside by a rule's on_failure.")
RULES_RELOADS = _counter("coercion_rules_reloads_total", "Times the rule file was read again, by outcome.", "outcome")
RULES_GOOD = _gauge("coercion_rules_last_reload_successful", "Whether the rule file was good when last read.")
RULES_TIME = _gauge("coercion_rules_loaded_timestamp_seconds", "When the rules in force were read.")

# -- storage commitment

COMMITMENT_REQUESTS = _counter("commitment_requests_total", "N-ACTION requests received, by outcome.", "outcome")
COMMITMENT_INSTANCES = _counter("commitment_instances_total", "Instances decided for peers, by decision.", "decision")
COMMITMENT_REPORTS = _counter("commitment_reports_total", "Attempts to report to a requestor, by outcome.", "outcome")
COMMITMENT_INQUIRIES = _counter("commitment_inquiries_total", "Commitments asked of peers, by how they end.", "outcome")
COMMITMENT_EVENTS = _counter("commitment_events_total", "N-EVENT-REPORTs received, by outcome.", "outcome")
COMMITMENT_TRANSACTIONS = _gauge("commitment_transactions", "Transactions in the ledger.", "role", "state")

# -- audit trail, HTTP, processes

AUDIT_MESSAGES = _counter("audit_messages_total", "Audit messages, delivered or on disk, or lost.", "outcome")
HTTP_REQUESTS = _counter("http_requests_total", "HTTP requests served, by route and status class.", "route", "status")
HTTP_LIMITED = _counter(
    "http_limited_total", "HTTP connections ended as slow or for others (crowd), log-ins not looked at.", "reason"
)
HTTP_SECONDS = _seconds("http_request_duration_seconds", "Time to answer an HTTP request.", "route")
RESTARTS = _counter("process_restarts_total", "Processes of the gateway that died and were replaced.")


SAME_IN_EVERY_PROCESS: dict[str, Callable[[float, float], float]] = {
    "dicom_gateway_leading_circuit_state": max,
    "dicom_gateway_coercion_rules_last_reload_successful": min,
    "dicom_gateway_coercion_rules_loaded_timestamp_seconds": min,
    "dicom_gateway_commitment_transactions": max,
}
"""Gauges whose values of several worker processes are not added up, and what is told of them instead."""


class _Process(Collector):
    """This process's share of the machine; values that can be added up over worker processes."""

    def collect(self) -> Iterator[Metric]:
        times = os.times()
        cpu = CounterMetricFamily(_PREFIX + "process_cpu_seconds", "CPU time spent in user and system mode.")
        cpu.add_metric([], times.user + times.system)
        yield cpu
        figures = {
            "process_resident_memory_bytes": ("Memory resident.", _resident_bytes()),
            "process_open_fds": ("File descriptors open.", sum(1 for _ in Path("/proc/self/fd").iterdir())),
            "process_threads": ("Threads running.", threading.active_count()),
        }
        for name, (text, value) in figures.items():
            yield GaugeMetricFamily(_PREFIX + name, text, value)
        running = GaugeMetricFamily(_PREFIX + "processes", "Processes running, by version.", labels=["version"])
        running.add_metric([__version__], 1)
        yield running


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


REGISTRY.register(_Process())

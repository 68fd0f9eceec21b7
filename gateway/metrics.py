"""Every metric of the gateway, on one page (Prometheus naming: base units, bounded label sets).

A label never carries a UID, a patient's data or a title a peer made up: unknown callers count as ``unknown``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__

REGISTRY = CollectorRegistry()

_PREFIX = "dicom_gateway_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(_PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(_PREFIX + name, text, labels, registry=REGISTRY)


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(_PREFIX + name, text, labels, registry=REGISTRY, buckets=_SECONDS)


ASSOCIATIONS = _gauge("associations_active", "Associations open now, by who requested them.", "role")
ASSOCIATIONS_ACCEPTED = _counter("associations_accepted_total", "Associations accepted, by configured peer.", "peer")
ASSOCIATIONS_REJECTED = _counter("associations_rejected_total", "Associations rejected, by reason.", "reason")
REQUESTS = _counter("dimse_requests_total", "DIMSE requests served, by service and status class.", "service", "status")
REQUESTS_LIMITED = _counter(
    "dimse_requests_limited_total", "DIMSE requests over their peer's rate: delayed, or refused.", "peer", "outcome"
)
REQUEST_SECONDS = _seconds("dimse_request_duration_seconds", "Time from request to final response.", "service")

SENT_BYTES = _counter("instances_sent_bytes_total", "Bytes of data sets sent by C-STORE, sub-operations included.")
RECEIVED_BYTES = _counter("instances_received_bytes_total", "Bytes of data sets received by C-STORE.")

ARCHIVE_ENTITIES = _gauge("archive_entities", "Patients, studies, series and instances kept, by level.", "level")
ARCHIVE_BYTES = _gauge("archive_bytes", "Bytes of the instances kept, as far as their files were looked at.")
ARCHIVE_FREE_BYTES = _gauge("archive_free_bytes", "Bytes free on the archive's disk.")
ARCHIVE_QUARANTINED = _gauge("archive_quarantined", "Directory records that could not be read.")
ARCHIVE_UNPUBLISHED = _gauge("archive_unpublished", "Instances kept that the DICOMDIR does not list yet.")
STORED = _counter("archive_stored_total", "C-STORE requests taken: new, identical, kept or replaced.", "outcome")
PUBLISH_SECONDS = _seconds("archive_publish_duration_seconds", "Time to publish the DICOMDIR once.")
DELETED = _counter("archive_deleted_instances_total", "Instances deleted, by what asked for it.", "reason")

SUBOPERATIONS = _counter(
    "suboperations_total", "C-STORE sub-operations of C-MOVE and C-GET, by how each ended.", "service", "outcome"
)
DESTINATION_FAILURES = _counter(
    "destination_failures_total", "Associations to a move destination that failed or broke.", "peer", "kind"
)
PULLS = _counter("pulls_total", "Retrieves from the leading archive for callers, by how each ended.", "outcome")
PULLED = _counter("pulled_instances_total", "Instances of the leading archive, by what became of them.", "outcome")

COMMITMENT_REQUESTS = _counter("commitment_requests_total", "N-ACTION requests received, by outcome.", "outcome")
COMMITMENT_INSTANCES = _counter("commitment_instances_total", "Instances decided for peers, by decision.", "decision")
COMMITMENT_REPORTS = _counter("commitment_reports_total", "Attempts to report to a requestor, by outcome.", "outcome")
COMMITMENT_INQUIRIES = _counter("commitment_inquiries_total", "Commitments asked of peers, by how they end.", "outcome")
COMMITMENT_EVENTS = _counter("commitment_events_total", "N-EVENT-REPORTs received, by outcome.", "outcome")
REJECTED = _counter("rejected_instances_total", "Instances rejected by notes, by title and action.", "title", "action")
COMMITMENT_TRANSACTIONS = _gauge("commitment_transactions", "Transactions in the ledger.", "role", "state")
LEADING_DEGRADED = _counter("leading_degraded_total", "Answers given without the leading archive, by failure.", "kind")
QUERY_ANSWERS_DROPPED = _counter("query_answers_dropped_total", "Answers without their unique key, by level.", "level")
AUDIT_MESSAGES = _counter("audit_messages_total", "Audit messages, delivered or on disk, or lost.", "outcome")
HTTP_REQUESTS = _counter("http_requests_total", "HTTP requests served, by route and status class.", "route", "status")
HTTP_LIMITED = _counter(
    "http_limited_total", "HTTP connections ended as slow or for others (crowd), log-ins not looked at.", "reason"
)
HTTP_SECONDS = _seconds("http_request_duration_seconds", "Time to answer an HTTP request.", "route")

CACHE_LOOKUPS = _counter(
    "query_cache_lookups_total",
    "Looks into a leading archive's cache by result: hit, empty, miss, stale, failed, coalesced, refresh.",
    "archive",
    "cache",
    "result",
)
CACHE_EVICTIONS = _counter("query_cache_evictions_total", "Entries pushed out by a limit.", "archive", "cache")
CACHE_FLUSHED = _counter("query_cache_flushed_total", "Entries invalidated by hand.", "archive")
CACHE_ENTRIES = _gauge("query_cache_entries", "Entries kept now.", "archive", "cache")
CACHE_BYTES = _gauge("query_cache_bytes", "Estimated memory of the entries kept now.", "archive", "cache")
CACHE_AGE_SECONDS = Histogram(
    _PREFIX + "query_cache_hit_age_seconds",
    "Age of an answer when it was given.",
    ("archive",),
    registry=REGISTRY,
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400),
)
LEADING_REQUESTS = _counter(
    "leading_requests_total", "C-FIND requests to leading archives, by how they ended.", "archive", "outcome"
)
LEADING_SECONDS = _seconds("leading_request_duration_seconds", "From request to final response.", "archive")
LEADING_CIRCUIT = _gauge("leading_circuit_state", "Circuit breaker: 0 closed, 1 half open, 2 open.", "archive")
QUERY_MEMO = _counter("query_memo_total", "Queries answered from the memo of finished answers, or not.", "outcome")
QUERY_LIMITED = _counter("query_limited_total", "Queries ended by query.max_answers.")

RULES_RELOADS = _counter("coercion_rules_reloads_total", "Times the rule file was read again, by outcome.", "outcome")
RULES_GOOD = _gauge("coercion_rules_last_reload_successful", "Whether the rule file was good when last read.")
RULES_TIME = _gauge("coercion_rules_loaded_timestamp_seconds", "When the rules in force were read.")
RULES_FAILURES = _counter(
    "coercion_failures_total",
    "Data sets a rule could not be applied to, by rule and what came of it.",
    "rule",
    "outcome",
)


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
QUARANTINED = _counter("coercion_quarantined_total", "Received instances put aside by a rule's on_failure.")

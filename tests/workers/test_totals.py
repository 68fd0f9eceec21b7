"""Metrics of several processes as one exposition."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.workers.totals import Totals


def exposition(requests: int, label: str) -> str:
    registry = CollectorRegistry()
    Counter("requests_total", "Requests.", ["kind"], registry=registry).labels(label).inc(requests)
    Gauge("open", "Open.", registry=registry).set(requests)
    Histogram("seconds", "Seconds.", registry=registry, buckets=(1, 2)).observe(1.5)
    return generate_latest(registry).decode()


def total(texts: list[str]) -> str:
    return Totals()({f"worker-{number}": (number, text) for number, text in enumerate(texts)})


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_samples_of_the_same_name_and_labels_are_added() -> None:
    both = samples(total([exposition(2, "a"), exposition(3, "a"), exposition(5, "b")]))
    assert both["requests_total", "a"] == 5
    assert both["requests_total", "b"] == 5
    assert both["open", ""] == 10
    assert both["seconds_bucket", "1.0"] == 0
    assert both["seconds_bucket", "2.0"] == 3
    assert both["seconds_count", ""] == 3


def test_the_total_of_one_says_what_it_said() -> None:
    text = exposition(2, "a")
    alone = samples(text)
    assert samples(total([text])) == {key: value for key, value in alone.items() if not key[0].endswith("_created")}


def test_gauges_that_say_the_same_in_every_process_are_not_added() -> None:
    def one(circuit: int, good: int) -> str:
        registry = CollectorRegistry()
        Gauge("dicom_gateway_leading_circuit_state", "State.", ["archive"], registry=registry).labels("A").set(circuit)
        Gauge("dicom_gateway_coercion_rules_last_reload_successful", "Good.", registry=registry).set(good)
        return generate_latest(registry).decode()

    both = samples(total([one(1, 1), one(2, 0), one(1, 1)]))
    assert both["dicom_gateway_leading_circuit_state", "A"] == 2
    assert both["dicom_gateway_coercion_rules_last_reload_successful", ""] == 0


def test_what_a_process_counted_outlives_it() -> None:
    totals = Totals()
    totals({"a": (1, exposition(10, "x")), "b": (2, exposition(5, "x"))})
    after = samples(totals({"a": (1, exposition(11, "x")), "b": (3, exposition(1, "x"))}))
    assert after["requests_total", "x"] == 17
    assert after["seconds_count", ""] == 3
    assert after["open", ""] == 12, "a gauge dies with its process"
    again = samples(totals({"a": (1, exposition(11, "x")), "b": (4, exposition(0, "x"))}))
    assert again["requests_total", "x"] == 17


def test_a_process_that_does_not_answer_counts_with_what_it_said_last() -> None:
    totals = Totals()
    totals({"a": (1, exposition(10, "x")), "b": (2, exposition(5, "x"))})
    meanwhile = samples(totals({"a": (1, exposition(11, "x"))}))
    assert (meanwhile["requests_total", "x"], meanwhile["open", ""]) == (16, 11)
    assert samples(totals({"a": (1, exposition(11, "x")), "b": (2, exposition(9, "x"))}))["requests_total", "x"] == 20

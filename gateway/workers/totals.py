"""Several processes' metrics as one exposition: samples of the same name and labels are added up.

Adding is right for counters, histograms, and gauges that count things each process has of its own. A gauge that says
the same thing in every process is combined as :data:`gateway.metrics.SAME_IN_EVERY_PROCESS` has it.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from gateway import metrics

_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Fixed(CollectorRegistry):
    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _add(one: float, other: float) -> float:
    return one + other


def total(expositions: Iterable[str]) -> str:
    """Add up expositions in the text format.

    Raises:
        ValueError: one of them cannot be read.
    """
    families: dict[str, Metric] = {}
    sums: dict[str, dict[_Key, float]] = {}
    for text in expositions:
        for family in text_string_to_metric_families(text):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            added = sums.setdefault(family.name, {})
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue  # a time is nothing to add up
                key = (sample.name, tuple(sorted(sample.labels.items())))
                combine = metrics.SAME_IN_EVERY_PROCESS.get(family.name, _add)
                added[key] = combine(added[key], sample.value) if key in added else sample.value
    for name, family in families.items():
        for (sample_name, labels), value in sums[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return generate_latest(_Fixed(list(families.values()))).decode()

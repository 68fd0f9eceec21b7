"""Several processes' metrics as one exposition: samples of the same name and labels are added up.

Adding is right for counters, histograms, and gauges that count things each process has of its own. A gauge that says
the same thing in every process is combined as :data:`gateway.metrics.SAME_IN_EVERY_PROCESS` has it.

A sum must not fall when a process dies, or is too busy to answer once: Prometheus takes a fall for a restart and counts
everything anew. So what the dead had counted when it was last asked is kept, and whoever does not answer counts with
what it said last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from gateway import metrics

Told = tuple[int, str]
"""A process's ID and its exposition in the text format."""

_Key = tuple[str, tuple[tuple[str, str], ...]]
_Sums = dict[str, dict[_Key, float]]


class Totals:
    """Adds up what processes tell, by their names, time after time."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, list[Metric]]] = {}
        self._dead: _Sums = {}
        self._lock = threading.Lock()

    def __call__(self, told: Mapping[str, Told]) -> str:
        """All processes together, those included that have told something before and nothing now.

        Raises:
            ValueError: an exposition cannot be read.
        """
        now = {name: (pid, list(text_string_to_metric_families(text))) for name, (pid, text) in told.items()}
        with self._lock:
            for name, (pid, _) in now.items():
                if name in self._last and self._last[name][0] != pid:
                    _add_up(self._dead, _counted(self._last[name]))
            silent = [one for name, one in self._last.items() if name not in now]
            self._last.update(now)
            sums = {name: dict(values) for name, values in self._dead.items()}
        families = [family for _, said in now.values() for family in said]
        families += [family for one in silent for family in _counted(one)]
        _add_up(sums, families)
        return _exposition({family.name: family for family in families}, sums)


def _counted(told: tuple[int, list[Metric]]) -> list[Metric]:
    """What only ever grows; gauges of who is silent mean nothing."""
    return [family for family in told[1] if family.type in {"counter", "histogram"}]


def _add_up(sums: _Sums, families: Iterable[Metric]) -> None:
    for family in families:
        added = sums.setdefault(family.name, {})
        combine = metrics.SAME_IN_EVERY_PROCESS.get(family.name, _add)
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue  # a time is nothing to add up
            key = (sample.name, tuple(sorted(sample.labels.items())))
            added[key] = combine(added[key], sample.value) if key in added else sample.value


def _add(one: float, other: float) -> float:
    return one + other


def _exposition(families: Mapping[str, Metric], sums: _Sums) -> str:
    told = []
    for name, family in families.items():
        one = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in sums[name].items():
            one.add_sample(sample_name, dict(labels), value)
        told.append(one)
    return generate_latest(_Fixed(told)).decode()


class _Fixed(CollectorRegistry):
    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families

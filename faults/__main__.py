"""``python -m faults``: every scenario, a table with a figure for each, and a line that sums up."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from pathlib import Path

from faults import callers, downstream, hostile, kills, machine, phases, readers, slowly, upstream
from faults.report import Report
from faults.stopping import stop_on_signals
from faults.world import Outcome, carry_out, world

_WORLD = [
    *upstream.SCENARIOS, *downstream.SCENARIOS, *callers.SCENARIOS, *slowly.SCENARIOS, *hostile.SCENARIOS,
    *phases.SCENARIOS,
]  # fmt: skip


def main() -> int:
    """Run what was asked for; 1 when an invariant is broken."""
    options = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    options.add_argument("--quick", action="store_true", help="the short form")
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options.add_argument("--only", default="", help="scenarios whose name has this text")
    options.add_argument("--workers", type=int, choices=(1, 2), help="only with so many workers")
    chosen = options.parse_args()
    stop_on_signals()
    print(f"seed {chosen.seed}", flush=True)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as name:
        for workers in (2,) if chosen.quick else (1, 2):
            if chosen.workers in {None, workers}:
                _in_a_world(Path(name) / str(workers), workers, chosen, report)
        if chosen.only in "kill -9":
            kills.run(Path(name) / "kills", report, chosen.seed, quick=chosen.quick)
        if chosen.only in "readers":
            _readers(Path(name) / "readers", report, chosen)
        machine.run(Path(name) / "machine", report, chosen.only, quick=chosen.quick)
    report.print()
    return 1 if report.broken or report.lost else 0


def _in_a_world(folder: Path, workers: int, chosen: argparse.Namespace, report: Report) -> None:
    scenarios = [one for one in _WORLD if chosen.only in one.name]
    if not scenarios:
        return
    with world(folder, workers, chosen.seed, quick=chosen.quick) as one:
        for scenario in scenarios:
            report.add(f"{workers} worker{'s' * (workers > 1)}", carry_out(one, scenario))
        report.loads += one.loads
        report.tried += one.tried


def _readers(folder: Path, report: Report, chosen: argparse.Namespace) -> None:
    """Spoilt bytes straight into the readers, without a socket in between."""
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, count, seconds, problems in readers.run(folder, 44_000 if chosen.quick else 440_000, chosen.seed):
            figure = f"{count} inputs, {count / max(seconds, 0.001):.0f} a second"
            report.add("readers", Outcome(f"readers: {name}", figure, seconds, problems=tuple(problems[:3])))
            report.tried += count


if __name__ == "__main__":
    sys.exit(main())

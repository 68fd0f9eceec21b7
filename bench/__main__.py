"""Run the benchmark; ``--quick`` for the short form."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from bench import report
from bench.archives import Archive, dcmqrscp, orthanc, ours, storescp
from bench.data import FULL, QUICK, Sizes, Study, corrected, ct_study, large_instance, pixel_file, small_study_list
from bench.report import Measured
from bench.rows import NAGLE_STUDY, Row, Stage, check_content, rows
from tests.support.tools import find

_OUT = Path(__file__).resolve().parent / "out"


def _say(text: str) -> None:
    print(f"[{monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


@contextmanager
def _stage(folder: Path, sizes: Sizes) -> Iterator[Stage]:
    """Start everything and fill it."""
    pixels = pixel_file(folder)
    cts = ct_study(pixels, sizes.cts)
    with ExitStack() as stack:
        sinks = {
            "SINK": stack.enter_context(storescp(folder / "sink", "SINK", nodelay=True)).port,
            "NAGLE": stack.enter_context(storescp(folder / "nagle", "NAGLE", nodelay=False)).port,
            "KEEP": stack.enter_context(storescp(folder / "keep", "KEEP", nodelay=True, keep=True)).port,
        }
        leading = stack.enter_context(orthanc(folder / "leading", {}, "LEADING"))
        peers = {
            "Orthanc": stack.enter_context(orthanc(folder / "orthanc", sinks)),
            "dcmqrscp": stack.enter_context(dcmqrscp(folder / "dcmqrscp", sinks)),
        }
        mine = {
            "plain": stack.enter_context(ours(folder / "plain", sinks)),
            "leading": stack.enter_context(ours(folder / "coerced", sinks, leading=leading)),
            "unsynced": stack.enter_context(ours(folder / "unsynced", sinks, durable=False)),
        }
        _fill(sizes, pixels, cts, [*peers.values(), mine["plain"], mine["leading"]], leading)
        for archive in (*peers.values(), mine["plain"], mine["leading"]):
            name = "CORRECTED^CARLA" if archive is mine["leading"] else "CTSTUDY^CARL"
            check_content(archive, cts, folder / "keep", name)
        _say("all of them send what they were given, and ours what the leading archive knows")
        large = large_instance(folder, sizes.large)
        yield Stage(sizes, mine, peers, cts, large)


def _fill(sizes: Sizes, pixels: Path, cts: Study, archives: list[Archive], leading: Archive) -> None:
    small = small_study_list(pixels, sizes.studies)
    nagle = ct_study(pixels, min(50, sizes.cts), NAGLE_STUDY)
    few = Study(small.instances[-400:])
    for archive in archives:
        for study in (few if archive.name == "dcmqrscp" else small, cts, nagle):
            archive.fill(study)
        _say(f"{archive.name} is filled")
    leading.fill(small)
    leading.fill(corrected(pixels))
    _say("the leading archive is filled")


def _measure(stage: Stage, row: Row) -> Measured:
    """All rounds of a row, ours and the peers in turn."""
    found = Measured(row, [], {name: [] for name in row.against}, [], {})
    failures: dict[str, str] = {}
    archives = [(name, stage.peers[name], found.peers[name]) for name in row.against]
    archives.append(("ours", stage.ours[row.variant], found.ours))
    for turn in range(row.warm_up, stage.sizes.rounds if row.repeats else 1):
        run = f"{turn + 2}.{sum(map(ord, row.name))}"
        for name, archive, figures in archives:
            if name in failures:
                continue
            try:
                figure = row.measure(stage, archive, run)
            except Exception as error:  # noqa: BLE001 - said in the table; the other rows go on
                failures[name] = f"{type(error).__name__}: {error}"
                continue
            if turn >= 0:  # the round before the first warms up
                figures.append(figure)
        if row.limit and turn >= 0:
            found.limit.append(row.limit(stage))
        if row.synced_limit and turn >= 0:
            found.synced_limit.append(row.synced_limit(stage, run))
    return replace(found, failures=failures)


def main() -> int:
    """Run, write, print; 0 when every row of ours did its work."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="less data and fewer rounds, under three minutes")
    arguments.add_argument("--out", type=Path, default=_OUT / "latest.json")
    arguments.add_argument("--only", default="", help="rows whose name has this in it")
    arguments.add_argument("--folder", type=Path, help="for the archives, instead of the temporary one")
    options = arguments.parse_args()
    if missing := [tool for tool in ("Orthanc", "dcmqrscp", "storescp") if not find(tool)]:
        print(f"error: {', '.join(missing)} not installed: apt-get install dcmtk orthanc", file=sys.stderr)
        return 2
    os.environ.pop("TCP_NODELAY", None)
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(dir=options.folder) as name, _stage(Path(name), sizes) as stage:
        results = []
        for row in rows(sizes):
            if options.only in row.name:
                results.append(report.as_json(_measure(stage, row)))
                _say(f"{row.name}: {results[-1]['ours']} {row.unit}, ratio {results[-1]['ratio']}")
    report.write(options.out, results, quick=options.quick)
    print(report.table(results))
    return 1 if any("ours" in row["failures"] for row in results) else 0


_BEGAN = monotonic()

if __name__ == "__main__":
    sys.exit(main())

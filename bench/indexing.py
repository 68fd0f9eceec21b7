"""The archive by itself at growing sizes: ``python -m bench.indexing 10000 100000 1000000``.

For each size: the time and memory of an import, the cost of one durable store, of a publication, and of queries.
The stores are synced, so they depend on the disk; ``--unsynced`` shows what is left without it.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import filesets
from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.models import Level, Model
from gateway.query.ports import Request
from tests.archive.conftest import instance, send

STORES = 200
ROUNDS = 21


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time of some work."""
    found = []
    for _ in range(rounds):
        started = perf_counter()
        work()
        found.append(perf_counter() - started)
    return median(found) * 1000


def asking(archive: LocalArchive, level: Level, **keys: str) -> Callable[[], int]:
    """A query to be timed; it counts its answers."""
    query = Query(Model.STUDY_ROOT, level, Attributes.of(keys), Negotiated(relational=True))
    return lambda: sum(1 for _ in archive.find(Request(query, Caller("BENCH"))))


def measure(folder: Path, instances: int, durability: Durability) -> None:
    """One size, in a process of its own so that its memory is its own."""
    dicomdir = folder / "DICOMDIR"
    filesets.make(dicomdir, instances)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    archive = LocalArchive(dicomdir, durability=durability)
    started = perf_counter()
    archive.prepare()
    rows = [("import, s", perf_counter() - started)]
    rows.append(("memory above the start, MB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024))
    one = filesets.study_uid(instances // filesets.STUDY_SIZE // 2)
    rows.append(("study by UID, ms", milliseconds(asking(archive, Level.STUDY, StudyInstanceUID=one))))
    rows.append(("name prefix, ms", milliseconds(asking(archive, Level.STUDY, PatientName="ADLER^0000*"))))
    everything = asking(archive, Level.STUDY, StudyInstanceUID="")
    count = everything()
    rows.append((f"all {count} studies, ms", milliseconds(everything, 3)))
    numbers = iter(range(1, STORES + 1))
    rows.append(("store, ms", milliseconds(lambda: send(archive, instance(number=next(numbers))), STORES)))
    rows.append(("publish a batch, ms", milliseconds(archive.sync, 1)))
    rows.append(("compact, ms", milliseconds(archive.compact, 1)))
    archive.close()
    for name, value in rows:
        print(f"{instances:>9} {name:<28} {value:10.2f}", flush=True)


def main() -> int:
    """Measure the sizes named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--unsynced", action="store_true")
    options = parser.parse_args()
    durability = Durability.NONE if options.unsynced else Durability.FULL
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
            folder = Path(name) / "files"
            folder.mkdir()
            child = get_context("spawn").Process(target=measure, args=(folder, size, durability))
            child.start()
            child.join()
            if child.exitcode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

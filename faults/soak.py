"""``python -m faults.soak --minutes n``: every service at once with real peers, for as long as you like.

Orthanc is the leading archive, storescp the viewer; DCMTK's tools and Orthanc are the clients, beside associations of
our own that never rest. A line now and then tells what the gateway holds; the end looks at how that went on, finds
everything that was acknowledged, and verifies the archive.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.table import Table

from faults.jobs import JOBS, RECONCILED, Soak
from faults.kills import opened
from faults.stopping import stop_on_signals
from faults.trend import Trend, trend
from faults.watch import Held, Witness, held
from faults.world import NEW, OLD, STUDY, question, verb
from gateway.dicom.attributes import Attributes
from tests.commitment.nodes import peer_node
from tests.support import dicomfiles
from tests.support.gateways import gateway, peer
from tests.support.peers import orthanc, storescp
from tests.support.waiting import wait_until

_SAMPLES = 200
_LINES = 20


def main() -> int:
    """Soak; 1 when something went wrong or grew."""
    options = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = options.parse_args()
    stop_on_signals()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        problems = _soaked(Path(name), chosen.minutes * 60, chosen.seed)
    for problem, count in Counter(problems).most_common(10):
        print(f"FAILED {count} x {problem}")
    print(f"soak {'FAILED' if problems else 'passed'}: {chosen.minutes:g} minutes, seed {chosen.seed}")
    return 1 if problems else 0


def _soaked(folder: Path, seconds: float, seed: int) -> list[str]:
    local = [*dicomfiles.study("corrected", 4, "CT", **OLD), *dicomfiles.study("other", 1, "US", **OLD)]
    dicomdir = dicomfiles.write_file_set(folder / "local", local)
    corrected = [dicomfiles.instance("corrected", "1", 1, "CT", **NEW)]
    corrected += [dicomfiles.instance(name, "1", 1, "CT", **{**NEW, "PatientID": "NEW-9"}) for name in RECONCILED]
    with ExitStack() as stack:
        viewer = stack.enter_context(storescp(folder / "viewer", "VIEWER"))
        leading = stack.enter_context(orthanc(folder / "leading", "LEADING"))
        modality = stack.enter_context(peer_node())
        leading.store(dicomfiles.write(folder / "new", corrected))
        peers = {
            "LEADING": peer("LEADING", leading.port), "VIEWER": peer("VIEWER", viewer.port),
            "MODALITY": peer("MODALITY", modality.server.port), "WITNESS": peer("WITNESS", 1),
        }  # fmt: skip
        running = stack.enter_context(
            gateway(
                folder / "gw", peers=peers, dicomdir=dicomdir, ae={"title": "GATEWAY", "port": 0, "workers": 2},
                leading={"peer": "LEADING", "callers": ["VIEWER", "LEADING"], "query_cache": {"ttl": "PT2S"}},
                logging={"level": "warning"}, retrieve={"completeness": "off"},
            )
        )  # fmt: skip
        known = json.dumps(["GATEWAY", "127.0.0.1", running.port]).encode()
        url = f"http://127.0.0.1:{leading.http_port}/modalities/GATEWAY"
        urllib.request.urlopen(urllib.request.Request(url, known, method="PUT"), timeout=10).close()
        soak = Soak(folder, running, viewer, leading, modality)
        try:
            grown = _run(soak, seconds, seed)
        finally:
            soak.over.set()  # an interrupted run's jobs end before what they talk to
        return _judged(soak, grown)


def _run(soak: Soak, seconds: float, seed: int) -> Trend:
    """Everything at once; what is held meanwhile."""
    threads = [
        threading.Thread(target=soak.again, args=(work, seed + number, pause), daemon=True)
        for number, (work, pause) in enumerate(JOBS)
    ]
    wanted = Attributes.of({**OLD, "StudyInstanceUID": STUDY})
    with Witness(soak.gateway.port, "WITNESS", question(), wanted) as witness:
        for thread in threads:
            thread.start()
        samples = _sampled(soak, seconds)
        soak.over.set()
        for thread in threads:
            thread.join(120)
    soak.problems += witness.problems
    soak.done["witness"] = witness.served
    return trend(samples, _calm(soak, samples))


def _sampled(soak: Soak, seconds: float) -> list[tuple[float, Held]]:
    """What is held at even intervals; a line for every tenth sample."""
    began, samples = monotonic(), list[tuple[float, Held]]()
    for number in range(1, _SAMPLES + 1):
        soak.over.wait(max(0.0, began + seconds * number / _SAMPLES - monotonic()))
        samples.append((monotonic() - began, held(soak.gateway.process.pid)))
        if number % (_SAMPLES // _LINES) == 0:
            at, now = samples[-1]
            print(
                f"{at:6.0f} s: {now.memory >> 20} MiB, {now.over(samples[0][1])} since the start; "
                f"{sum(soak.done.values())} operations, {len(soak.problems)} problems",
                flush=True,
            )
            for file in soak.viewer.files():
                file.unlink(missing_ok=True)
    return samples


def _calm(soak: Soak, samples: list[tuple[float, Held]]) -> Held:
    """What is held when nobody asks any more."""
    pid = soak.gateway.process.pid
    with suppress(AssertionError):  # the trend itself says what did not return
        wait_until(lambda: not trend(samples, held(pid)).problems, "what is held returns", seconds=20)
    return held(pid)


def _judged(soak: Soak, grown: Trend) -> list[str]:
    """Everything acknowledged is there, every commitment was reported, and the archive is in order."""
    problems = [*soak.problems, *grown.problems]
    try:
        wait_until(lambda: not _owed(soak), "every acknowledged commitment is reported", seconds=60)
    except AssertionError as error:
        problems.append(str(error))
    done = verb(soak.gateway.config, "archive", "verify", "--json", seconds=600)
    if done.returncode != 0:
        problems.append(f"archive verify: {done.stdout[-500:]} {done.stderr[-300:]}")
    lost = soak.stored - _there(soak)
    if lost:
        problems.append(f"{len(lost)} acknowledged instances are not there")
    if "Traceback" in soak.gateway.text:
        problems.append("a traceback in the log")
    rows = {
        "operations": f"{sum(soak.done.values())} in {grown.seconds:.0f} s: "
        + ", ".join(f"{count} {what}" for what, count in soak.done.most_common()),
        "answered otherwise than expected": str(len(soak.problems)),
        "acknowledged instances": f"{len(soak.stored)}, lost {len(lost)}",
        "acknowledged commitments": f"{len(soak.committed)}, not reported {len(_owed(soak))}",
        "archive verify": "FAILED" if done.returncode else "clean",
        "memory": str(grown),
        "held more at the end": str(grown.last.over(grown.first)),
    }
    table = Table("", "figure", box=None, padding=(0, 1))
    for row in rows.items():
        table.add_row(*row)
    Console(width=160).print(table)
    return problems


def _owed(soak: Soak) -> set[str]:
    """Commitments that were acknowledged and are not reported yet."""
    return soak.committed - {result.transaction_uid for result, _ in list(soak.modality.events)}


def _there(soak: Soak) -> set[str]:
    with opened(soak.gateway.config) as archive:
        studies = [line.study_instance_uid for line in archive.listing()]
        return {one.sop_instance_uid for one in archive.instances(study_uids=studies)}


if __name__ == "__main__":
    sys.exit(main())

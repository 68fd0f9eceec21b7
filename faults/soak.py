"""``python -m faults.soak --minutes n``: every service at once with real peers, for as long as you like.

Orthanc is the leading archive, storescp the viewer; DCMTK's tools and Orthanc are the clients, beside associations of
our own that never rest. Every minute prints what the gateway holds; the end compares it with what it held after the
first tenth, stores and finds everything that was acknowledged, and verifies the archive.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from faults.kills import CT, opened, outgoing
from faults.watch import FIND, Held, Witness, held
from faults.world import NEW, OLD, STUDY, question, require, told, verb
from gateway.commitment.messages import PUSH_MODEL, Reference
from gateway.dicom.attributes import Attributes
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT, IMPLICIT
from gateway.errors import UpstreamError
from tests.commitment.nodes import PeerNode, action, peer_node
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import RunningPeer, orthanc, storescp
from tests.support.waiting import wait_until

_LIMITS = Timeouts(10, 10, 60, 60)
_KEPT = 0xB000  # some identical instances stored twice at once are answered so; see docs/faults.md
_GROWTH = Held(memory=48 << 20, descriptors=12, threads=6, databases=150)
"""What two workers may hold more at the end than after the first tenth."""


@dataclass
class Soak:
    """What is running, and what has happened."""

    folder: Path
    gateway: RunningGateway
    viewer: RunningPeer
    leading: RunningPeer
    modality: PeerNode
    over: threading.Event = field(default_factory=threading.Event)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    committed: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def peer(self) -> Peer:
        """The gateway, as clients call it."""
        return Peer("gateway", "GATEWAY", "127.0.0.1", self.gateway.port, _LIMITS)

    def count(self, what: str) -> None:
        """One more of these."""
        with self.lock:
            self.done[what] += 1

    def again(self, work: Callable[[Soak, random.Random], None], seed: int, pause: float) -> None:
        """Do something again and again; what goes wrong is written down."""
        chance = random.Random(seed)
        while not self.over.wait(pause):
            try:
                work(self, chance)
            except (UpstreamError, AssertionError, OSError) as error:
                with self.lock:
                    self.problems.append(f"{work.__name__}: {error}")


def _finds(soak: Soak, chance: random.Random) -> None:
    with connect(soak.peer, "VIEWER", [(FIND, EXPLICIT)]) as association:
        for _ in range(20):
            keys = {"StudyInstanceUID": "", "PatientID": NEW["PatientID"]} if chance.random() < 0.5 else {}
            answer = told(list(association.find(FIND, question(**keys))))
            require(answer == "new", f"answered with {answer}")
            soak.count("find")


def _findscu(soak: Soak, _: random.Random) -> None:
    found = scu.find(soak.gateway.port, "STUDY", {"StudyInstanceUID": STUDY, "PatientID": ""}, aet="VIEWER",
                     aec="GATEWAY")  # fmt: skip
    require([one.PatientID for one in found.answers] == [NEW["PatientID"]], "findscu got another answer")
    soak.count("findscu")


def _movescu(soak: Soak, _: random.Random) -> None:
    moved = scu.move(soak.gateway.port, "STUDY", {"StudyInstanceUID": STUDY}, "VIEWER", aet="VIEWER", aec="GATEWAY")
    require(moved.status == 0, f"movescu: {moved.status}")
    soak.count("movescu")


def _getscu(soak: Soak, chance: random.Random) -> None:
    folder = soak.folder / f"got-{chance.getrandbits(32)}"
    got = scu.get(soak.gateway.port, "STUDY", {"StudyInstanceUID": STUDY}, folder, aet="VIEWER", aec="GATEWAY")
    files = list(folder.iterdir())
    require(got.returncode == 0 and len(files) == 4, f"getscu: {got.returncode}, {len(files)} files")
    for file in files:
        file.unlink()
    folder.rmdir()
    soak.count("getscu")


def _stores(soak: Soak, chance: random.Random) -> None:
    study = f"soak-{chance.randint(1, 40)}"
    with connect(soak.peer, "MODALITY", [(CT, EXPLICIT)]) as association:
        for _ in range(10):
            made = outgoing(soak.folder, study, chance.randint(1, 50), 1)
            status = association.store(made)
            require(status in {0, _KEPT}, f"a store was answered with {status:04X}H")
            Path(made.path).unlink()
            with soak.lock:
                soak.stored.add(made.sop_instance_uid)
            soak.count("store, with warning" if status else "store")


def _dcmsend(soak: Soak, chance: random.Random) -> None:
    files = dicomfiles.write(soak.folder / "sent", dicomfiles.study(f"sent-{chance.randint(1, 20)}", 3, "MR"))
    sent = scu.store(soak.gateway.port, files, aet="MODALITY", aec="GATEWAY")
    require(sent.returncode == 0, "dcmsend failed")
    with soak.lock:
        soak.stored.update(file.stem for file in files)
    soak.count("dcmsend")


def _deletes(soak: Soak, chance: random.Random) -> None:
    study = f"gone-{chance.randint(1, 5)}"
    with connect(soak.peer, "MODALITY", [(CT, EXPLICIT)]) as association:
        for number in (1, 2):
            require(association.store(outgoing(soak.folder, study, number, 1)) == 0, "a store was refused")
    done = verb(soak.gateway.config, "archive", "delete", "--study", dicomfiles.uid(study), "--yes")
    require(done.returncode == 0, f"delete: {done.stderr[-300:]}")
    soak.count("delete")


def _commits(soak: Soak, chance: random.Random) -> None:
    uid = f"2.25.{chance.getrandbits(100)}"
    with connect(soak.peer, "MODALITY", [(PUSH_MODEL, IMPLICIT)]) as association:
        require(association.n_action(action(uid, Reference(CT, "1.2.3.4"))) == 0, "a commitment was refused")
    with soak.lock:
        soak.committed.add(uid)
    soak.count("commit")


def _web(soak: Soak, _: random.Random) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/api/cache", "/modalities"):
        status, body = soak.gateway.http(path)
        require(status == 200, f"{path}: {status} {body[:200]}")
        soak.count("http")


def _orthanc(soak: Soak, _: random.Random) -> None:
    data = json.dumps({"Level": "Study", "Query": {"PatientID": NEW["PatientID"]}}).encode()
    asked = soak.leading.api("/modalities/GATEWAY/query", data)
    answers = soak.leading.api(f"{asked['Path']}/answers")
    require(len(answers) == 1, f"Orthanc got {len(answers)} answers")
    soak.leading.api("/modalities/GATEWAY/echo", b"{}")
    soak.count("orthanc")


_JOBS: list[tuple[Callable[[Soak, random.Random], None], float]] = [
    (_finds, 0.0), (_finds, 0.05), (_findscu, 0.5), (_movescu, 0.5), (_getscu, 0.7), (_stores, 0.1), (_stores, 0.2),
    (_dcmsend, 1.0), (_deletes, 3.0), (_commits, 0.3), (_web, 0.5), (_orthanc, 1.0),
]  # fmt: skip


def main() -> int:
    """Soak; 1 when something went wrong or grew."""
    options = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        problems = _soaked(Path(name), chosen.minutes * 60, chosen.seed)
    for problem, count in Counter(problems).most_common(10):
        print(f"FAILED {count} x {problem}")
    return 1 if problems else 0


def _soaked(folder: Path, seconds: float, seed: int) -> list[str]:
    local = [*dicomfiles.study("corrected", 4, "CT", **OLD), *dicomfiles.study("other", 1, "US", **OLD)]
    dicomdir = dicomfiles.write_file_set(folder / "local", local)
    with ExitStack() as stack:
        viewer = stack.enter_context(storescp(folder / "viewer", "VIEWER"))
        leading = stack.enter_context(orthanc(folder / "leading", "LEADING"))
        modality = stack.enter_context(peer_node())
        leading.store(dicomfiles.write(folder / "new", dicomfiles.study("corrected", 1, "CT", **NEW)))
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
        _run(soak, seconds, seed)
        return _judged(soak)


def _run(soak: Soak, seconds: float, seed: int) -> None:
    """Everything at once; figures now and then."""
    threads = [
        threading.Thread(target=soak.again, args=(work, seed + number, pause), daemon=True)
        for number, (work, pause) in enumerate(_JOBS)
    ]
    wanted = Attributes.of({**OLD, "StudyInstanceUID": STUDY})
    began, baseline = monotonic(), Held(0, 0, 0)
    with Witness(soak.gateway.port, "WITNESS", question(), wanted) as witness:
        for thread in threads:
            thread.start()
        marks = 10
        for mark in range(1, marks + 1):
            soak.over.wait(max(0.0, began + seconds * mark / marks - monotonic()))
            now = held(soak.gateway.process.pid)
            baseline = now if mark == 1 else baseline
            print(f"{monotonic() - began:6.0f} s: {now.memory >> 20} MiB, {now.over(baseline)} since the first; "
                  f"{sum(soak.done.values())} operations", flush=True)  # fmt: skip
            for file in soak.viewer.files():
                file.unlink(missing_ok=True)
        soak.over.set()
        for thread in threads:
            thread.join(120)
    soak.problems += witness.problems
    soak.done["witness"] = witness.served
    try:
        wait_until(lambda: _calm(held(soak.gateway.process.pid).over(baseline)), "what is held returns", seconds=20)
    except AssertionError as error:
        soak.problems.append(f"{error}: {held(soak.gateway.process.pid).over(baseline)}")


def _calm(now: Held) -> bool:
    few = now.descriptors <= _GROWTH.descriptors and now.threads <= _GROWTH.threads
    return few and now.memory <= _GROWTH.memory and now.databases <= _GROWTH.databases


def _judged(soak: Soak) -> list[str]:
    """Everything acknowledged is there, every commitment was reported, and the archive is in order."""
    problems = list(soak.problems)
    try:
        wait_until(
            lambda: soak.committed <= {result.transaction_uid for result, _ in list(soak.modality.events)},
            "every acknowledged commitment is reported",
            seconds=60,
        )
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
    print(f"{dict(soak.done)}; {len(soak.stored)} instances acknowledged, {len(lost)} lost; "
          f"{len(soak.committed)} commitments; verify {'FAILED' if done.returncode else 'clean'}")  # fmt: skip
    return problems


def _there(soak: Soak) -> set[str]:
    with opened(soak.gateway.config) as archive:
        studies = [line.study_instance_uid for line in archive.listing()]
        return {one.sop_instance_uid for one in archive.instances(study_uids=studies)}


if __name__ == "__main__":
    sys.exit(main())

"""What a soak does all the time: every service, by real peers and by associations of our own."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.kills import CT, outgoing
from faults.watch import FIND
from faults.world import NEW, STUDY, question, require, told, verb
from gateway.commitment.messages import PUSH_MODEL, Reference
from gateway.dicom.tags import PatientID
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT, IMPLICIT
from gateway.errors import UpstreamError
from tests.commitment.nodes import PeerNode, action
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway
from tests.support.peers import RunningPeer

_LIMITS = Timeouts(10, 10, 60, 60)
_PATIENCE = 300.0
"""Seconds for a verb, beside everything else, on a machine that may have other work."""
RECONCILED = [f"stale-{number}" for number in range(1, 6)]
"""Studies that the leading archive knows as patient NEW-9's: stored, reconciled and deleted again."""


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
            except (UpstreamError, AssertionError, OSError, subprocess.SubprocessError) as error:
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
            require(status == 0, f"a store was answered with {status:04X}H")
            Path(made.path).unlink()
            with soak.lock:
                soak.stored.add(made.sop_instance_uid)
            soak.count("store")


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
            made = outgoing(soak.folder, study, number, 1)
            require(association.store(made) == 0, "a store was refused")
            Path(made.path).unlink()
    done = verb(soak.gateway.config, "archive", "delete", "--study", dicomfiles.uid(study), "--yes", seconds=_PATIENCE)
    require(done.returncode == 0, f"delete: {done.stderr[-300:]}")
    soak.count("delete")


def _reconciles(soak: Soak, chance: random.Random) -> None:
    """A stale study comes, is written anew with the leading archive's attributes, and goes."""
    name = chance.choice(RECONCILED)
    study = dicomfiles.uid(name)
    with connect(soak.peer, "MODALITY", [(CT, EXPLICIT)]) as association:
        for number in (1, 2, 3):
            made = outgoing(soak.folder, name, number, 1)
            require(association.store(made) == 0, "a store was refused")
            Path(made.path).unlink()
    done = verb(soak.gateway.config, "archive", "reconcile", "--study", study, "--yes", seconds=_PATIENCE)
    require(done.returncode == 0, f"reconcile: {done.stderr[-300:]}")
    with connect(soak.peer, "MODALITY", [(FIND, EXPLICIT)]) as association:
        answers = list(association.find(FIND, question(StudyInstanceUID=study)))
        require([one.text(PatientID) for one in answers] == ["NEW-9"], "a reconciled study is not answered as such")
    done = verb(soak.gateway.config, "archive", "delete", "--study", study, "--yes", seconds=_PATIENCE)
    require(done.returncode == 0, f"delete: {done.stderr[-300:]}")
    soak.count("reconcile")


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


JOBS: list[tuple[Callable[[Soak, random.Random], None], float]] = [
    (_finds, 0.0), (_finds, 0.05), (_findscu, 0.5), (_movescu, 0.5), (_getscu, 0.7), (_stores, 0.1), (_stores, 0.2),
    (_dcmsend, 1.0), (_deletes, 3.0), (_reconciles, 10.0), (_commits, 0.3), (_web, 0.5),
    (_orthanc, 1.0),
]  # fmt: skip
"""What is done again and again, and the seconds between."""

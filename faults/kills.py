"""Kill -9 of one worker and of all, while instances are stored, replaced, deleted, reconciled and committed.

A model knows for every instance what was acknowledged and what may have happened; after each kill the archive is opened
as the next start opens it, and its index and files are compared with the model. Every instance has to be found then: no
verb is run again to end what a killed one had begun.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from time import monotonic

import yaml
from pydicom import Dataset, dcmread

from faults.report import Report
from faults.watch import processes
from faults.world import Broken, Outcome, require, verified
from gateway.archive.exchange import STAGING
from gateway.archive.local import LocalArchive
from gateway.commitment.messages import PUSH_MODEL, Reference
from gateway.config import load
from gateway.daemon.archiving import build_archive
from gateway.dicom.instance import Outgoing
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT, IMPLICIT
from gateway.errors import UpstreamError
from tests.commitment.nodes import PeerNode, action, peer_node
from tests.support import dicomfiles
from tests.support.gateways import RunningGateway, peer, serving
from tests.support.peers import RunningPeer, dcmqrscp
from tests.support.ports import free_port
from tests.support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
_STORERS, _NUMBERS = 3, 12
_LIMITS = Timeouts(5, 5, 10, 10)


@dataclass
class Model:
    """What is known of every instance.

    Attributes:
        acknowledged: the version last acknowledged; absent when a deletion was acknowledged, or nothing yet.
        possible: versions that may be there as well, since nobody said what became of them; 0 is none at all.
        corrected: studies by name that were stored with old attributes, and whether a reconcile was acknowledged.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    possible: dict[str, set[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, uid: str, version: int) -> None:
        """Something is asked for that makes it this version."""
        with self.lock:
            self.possible.setdefault(uid, set()).add(version)

    def ends(self, uid: str, version: int, verb: str) -> None:
        """It was acknowledged."""
        with self.lock:
            self.acknowledged[uid] = version
            self.possible[uid] = {version}
            self.counts[verb] = self.counts.get(verb, 0) + 1

    def reconciled(self, names: list[str]) -> None:
        """It was acknowledged that these studies say what the leading archive says."""
        with self.lock:
            self.corrected |= dict.fromkeys(names, True)
            self.counts["reconcile"] = self.counts.get("reconcile", 0) + 1

    def check(self, found: dict[str, int], patients: dict[str, set[str]]) -> list[str]:
        """What is there otherwise than it may be; what is there becomes what is known.

        Args:
            patients: Patient IDs in the files of each study.
        """
        wrong = [
            f"instances of {name} are of {patients.get(name)}, acknowledged: {acknowledged}"
            for name, acknowledged in self.corrected.items()
            if patients.get(name) not in ([{f"N-{name}"}] if acknowledged else [{f"N-{name}"}, {name}])
        ]
        for uid in {*self.possible, *found}:
            there, may = found.get(uid, 0), self.possible.get(uid, {0}) | {self.acknowledged.get(uid, 0)}
            if there not in may:
                wrong.append(f"instance {uid[-12:]} has version {there}, may have {sorted(may)}")
            self.acknowledged[uid], self.possible[uid] = there, {there}
        return wrong


def outgoing(folder: Path, study: str, number: int, version: int) -> Outgoing:
    """An instance whose Series Description tells its version."""
    dataset = dicomfiles.instance(
        study, "1", number, "CT", PatientName="Kept^Kim", PatientID=study, SeriesDescription=f"version {version}"
    )
    path = folder / f"{study}-{number}-{version}-{threading.get_ident()}.dcm"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    path.write_bytes(data)
    offset = 144 + int.from_bytes(data[140:144], "little")
    return Outgoing(CT, str(dataset.SOPInstanceUID), EXPLICIT, b"", str(path), offset, len(data) - offset)


@dataclass
class Work:
    """All that goes on while the gateway is killed."""

    folder: Path
    port: int
    config: Path
    model: Model
    chance: Random
    modality: PeerNode
    over: threading.Event = field(default_factory=threading.Event)
    committed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)

    def store(self, number: int, seed: int) -> None:
        """Store new instances and replace older ones, as long as somebody answers."""
        chance = Random(seed)
        while not self.over.is_set():
            with contextlib.suppress(UpstreamError, OSError):
                known = Peer("gateway", "GATEWAY", "127.0.0.1", self.port, _LIMITS)
                with connect(known, "MODALITY", [(CT, EXPLICIT)]) as association:
                    while not self.over.is_set():
                        self._store_one(association, f"kept-{number}", chance)
            self.over.wait(0.05)

    def _store_one(self, association: object, study: str, chance: Random) -> None:
        image = chance.randint(1, _NUMBERS)
        uid = dicomfiles.uid(study, "1", image)
        with self.model.lock:
            version = max({self.model.acknowledged.get(uid, 0), *self.model.possible.get(uid, ())}) + 1
        instance = outgoing(self.folder, study, image, version)
        self.model.begins(uid, version)
        status = association.store(instance)  # type: ignore[attr-defined]
        Path(instance.path).unlink()
        if status == 0:
            self.model.ends(uid, version, "replace" if version > 1 else "store")
        else:
            self.problems.append(f"a store was answered with {status:04X}H")

    def delete(self, seed: int) -> None:
        """Store instances of a study of its own, and delete them by the verb, which is killed as well."""
        chance, study = Random(seed), "deleted"
        while not self.over.is_set():
            with contextlib.suppress(UpstreamError, OSError):
                known = Peer("gateway", "GATEWAY", "127.0.0.1", self.port, _LIMITS)
                with connect(known, "MODALITY", [(CT, EXPLICIT)]) as association:
                    for _ in range(4):
                        self._store_one(association, study, chance)
            uids = [dicomfiles.uid(study, "1", chance.randint(1, _NUMBERS)) for _ in range(2)]
            for uid in uids:
                self.model.begins(uid, 0)
            words = [word for uid in uids for word in ("--instance", uid)]
            if self._verb("archive", "delete", *words, "--yes") == 0:
                for uid in uids:
                    self.model.ends(uid, 0, "delete")

    def reconcile(self, seed: int) -> None:
        """Write the leading archive's attributes down, by the verb, which is often killed while it exchanges files."""
        chance, place = Random(seed), self.folder / "files" / STAGING

        def exchanging() -> bool:
            return place.is_dir() and any(place.iterdir()) and chance.random() < 0.1

        while not self.over.is_set():
            names = list(self.model.corrected)
            kill = exchanging if chance.random() < 0.5 else lambda: False
            if self._verb("archive", "reconcile", "--yes", kill=kill) == 0:
                self.model.reconciled(names)
            self.over.wait(0.2)

    def commit(self, seed: int) -> None:
        """Ask for storage commitment again and again."""
        number = 0
        while not self.over.is_set():
            with contextlib.suppress(UpstreamError, OSError):
                known = Peer("gateway", "GATEWAY", "127.0.0.1", self.port, _LIMITS)
                with connect(known, "MODALITY", [(PUSH_MODEL, IMPLICIT)]) as association:
                    while not self.over.wait(0.05):
                        number += 1
                        uid = f"2.25.{seed}{number}"
                        if association.n_action(action(uid, Reference(CT, "1.2.3.4"))) == 0:
                            self.committed.append(uid)
            self.over.wait(0.05)

    def _verb(self, *words: str, kill: Callable[[], bool] = lambda: False) -> int:
        """Run a verb, killed when ``kill`` says so or the round is over; its exit status."""
        command = [sys.executable, "-m", "gateway", *words, "--config", str(self.config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if self.over.wait(0.002) or kill():
                    process.kill()
                    self.killed.append(words[1])
                    break
        return process.returncode


def _configured(folder: Path, leading: RunningPeer, modality: int, port: int) -> Path:
    config = folder / "gateway.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "ae": {"title": "GATEWAY", "port": port, "workers": 2},
                "http": {"port": 0},
                "peers": {"MODALITY": peer("MODALITY", modality), "LEADING": peer(leading.aet, leading.port)},
                "leading": {"peer": "LEADING", "query_cache": {"ttl": "PT0.2S", "empty_ttl": "PT0.2S"}},
                "archive": {"dicomdir": str(folder / "files" / "DICOMDIR"), "create": True, "min_free": 0,
                            "on_conflict": "replace", "publish_delay": "PT0.05S"},
                "commitment": {"retry": {"first": "PT0.2S", "longest": "PT1S"}},
                "logging": {"level": "warning"},
            }
        )
    )  # fmt: skip
    return config


def run(folder: Path, report: Report, seed: int, *, quick: bool) -> None:
    """Rounds of work and kills on one archive."""
    folder.mkdir(parents=True)
    began, chance, model = monotonic(), Random(seed), Model()
    rounds, problems, kills, verbs = 2 if quick else 15, [], [0, 0], Counter[str]()
    with dcmqrscp(folder / "leading") as leading, peer_node() as modality:
        leading.store(dicomfiles.write(folder / "new", _corrections(rounds)))
        config = _configured(folder, leading, modality.server.port, free_port())
        committed: list[str] = []
        for number in range(rounds):
            config.with_suffix(".log").unlink(missing_ok=True)
            with serving(config) as running:
                work = Work(folder, running.port, config, model, chance, modality)
                _store_to_reconcile(work, number)
                _busy(work, running, chance, kills, patience=1 if quick else 3)
                verbs.update(work.killed)
                problems += work.problems
                committed += work.committed
                problems += _tracebacks(running)
            problems += _compared(config, model)
        with serving(config) as running:
            try:
                _reported(committed, modality)
                _reconciled(config, model)
            except (Broken, AssertionError, subprocess.TimeoutExpired) as error:
                problems.append(str(error))
            problems += _tracebacks(running)
    problems += verified(config)
    shutil.rmtree(folder / "files", ignore_errors=True)
    model.counts["commit"] = len(committed)
    lost = [one for one in problems if one.startswith("instance")]
    report.kills += sum(kills) + verbs.total()
    report.acknowledged += sum(model.counts.values())
    report.lost += len(lost)
    said = ", ".join(f"{count} {verb}" for verb, count in sorted(model.counts.items()))
    figure = (
        f"{kills[0]} kills of a worker, {kills[1]} of all, {verbs['reconcile']} of reconciles, {verbs['delete']} of "
        f"deletes; acknowledged: {said}; lost {len(lost)}"
    )
    report.add("2 workers", Outcome("kill -9 in store, replace, delete, reconcile, commit", figure,
                                    monotonic() - began, problems=tuple(problems[:6])))  # fmt: skip


def _tracebacks(running: RunningGateway) -> list[str]:
    text = running.text
    return [text[text.index("Traceback") :][:1500]] if "Traceback" in text else []


def _to_reconcile(number: int) -> list[str]:
    """Names of the studies that a round begins with, and of which the leading archive has corrections."""
    return [f"reconciled-{number}-{one}" for one in range(8)]


def _corrections(rounds: int) -> list[Dataset]:
    names = [name for number in range(rounds) for name in _to_reconcile(number)]
    return [dicomfiles.instance(name, "1", 1, PatientName="New^Nora", PatientID=f"N-{name}") for name in names]


def _store_to_reconcile(work: Work, round_number: int) -> None:
    known = Peer("gateway", "GATEWAY", "127.0.0.1", work.port, _LIMITS)
    with connect(known, "MODALITY", [(CT, EXPLICIT)]) as association:
        for name in _to_reconcile(round_number):
            for number in (1, 2, 3):
                instance = outgoing(work.folder, name, number, 1)
                require(association.store(instance) == 0, "a store failed before anything was killed")
                Path(instance.path).unlink()
                work.model.ends(instance.sop_instance_uid, 1, "store")
            work.model.corrected[name] = False


def _busy(work: Work, running: RunningGateway, chance: Random, kills: list[int], patience: int) -> None:
    """Everything at once; a worker killed in the middle, and everything at the end.

    Args:
        patience: how many times longer than a verb takes at least.
    """
    jobs = [*((work.store, number) for number in range(_STORERS))]
    threads = [threading.Thread(target=job, args=(number, chance.getrandbits(32)), daemon=True) for job, number in jobs]
    threads += [
        threading.Thread(target=job, args=(chance.getrandbits(32),), daemon=True)
        for job in (work.delete, work.reconcile, work.commit)
    ]
    for thread in threads:
        thread.start()
    try:
        work.over.wait(patience * chance.uniform(1.0, 3.0))
        workers = processes(running.process.pid)[1:]
        require(workers, f"there are no workers: {running.process.exit_status}\n{running.text[-3000:]}")
        os.kill(chance.choice(workers), signal.SIGKILL)
        kills[0] += 1
        work.over.wait(patience * chance.uniform(0.5, 3.0))
        require(running.process.exit_status is None, "the gateway ended with its worker")
        running.process.kill()
        kills[1] += 1
    finally:
        work.over.set()
        for thread in threads:
            thread.join(30)
    require(not any(thread.is_alive() for thread in threads), "a client hangs")


def opened(config: Path) -> contextlib.AbstractContextManager[LocalArchive]:
    @contextlib.contextmanager
    def manager() -> Iterator[LocalArchive]:
        archive = build_archive(load(config))
        try:
            archive.open()
            yield archive
        finally:
            archive.close()

    return manager()


def _compared(config: Path, model: Model) -> list[str]:
    """The archive as the next start finds it, against the model; versions and patients are read from the files."""
    names = {dicomfiles.uid(name): name for name in model.corrected}
    found: dict[str, int] = {}
    patients: dict[str, set[str]] = {}
    with opened(config) as archive:
        studies = [line.study_instance_uid for line in archive.listing()]
        for one in archive.instances(study_uids=studies):
            dataset = dcmread(one.path)
            require(str(dataset.SOPInstanceUID) == one.sop_instance_uid, "a file holds another instance")
            require(str(dataset.PatientID) == one.patient_id, "a file is another patient's than the index says")
            found[one.sop_instance_uid] = int(str(dataset.SeriesDescription).rsplit(" ", 1)[1])
            if name := names.get(one.study_instance_uid):
                patients.setdefault(name, set()).add(one.patient_id)
    return model.check(found, patients) + verified(config)


def _reported(committed: list[str], modality: PeerNode) -> None:
    def missing() -> set[str]:
        return set(committed) - {result.transaction_uid for result, _ in list(modality.events)}

    wait_until(lambda: not missing(), f"all of {len(committed)} acknowledged commitments are reported", seconds=60)


def _reconciled(config: Path, model: Model) -> None:
    """A run that nobody kills does what is left; then every file says what the leading archive says."""
    command = [sys.executable, "-m", "gateway", "archive", "reconcile", "--yes", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    require(done.returncode == 0, f"reconcile: {done.stdout[-300:]} {done.stderr[-300:]}")
    model.reconciled(list(model.corrected))
    with opened(config) as archive:
        for name in model.corrected:
            stored = archive.instances(study_uids=[dicomfiles.uid(name)])
            require(len(stored) == 3, f"instance lost by reconcile: {len(stored)} of 3")
            for one in stored:
                told = str(dcmread(one.path, stop_before_pixels=True).PatientID)
                require(told == f"N-{name}", "reconcile left a file as it was")

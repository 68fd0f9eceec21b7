"""Kill -9 at any point of store, publish, delete, purge and compact, again and again, on one archive.

A child works on the archive and says on a pipe what was acknowledged; the parent reads the DICOMDIR all the while,
kills the child at a random moment, opens the archive anew and compares index, DICOMDIR and disk with what the child
said. ``python tests/archive/crash.py FOLDER ROUNDS [SEED]`` runs it by hand; ``make crash`` does so for long.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from gateway.archive import publish
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.dicom.models import Level
from tests.archive.conftest import instance, send

PATIENTS, STUDIES, SERIES, NUMBERS = 4, 2, 2, 12


def opened(folder: Path) -> LocalArchive:
    archive = LocalArchive(folder / "DICOMDIR", publish_delay=0.005, durability=Durability.DATA)
    archive.prepare()
    return archive


def work(folder: Path, pipe: int, seed: int) -> None:
    """The child: random work until it is killed."""
    chance = random.Random(seed)
    publish.SMALL = chance.choice((0, 1 << 23))  # with inactive records that stay, and without
    archive = opened(folder)
    archive.start()
    os.write(pipe, b"ready\n")
    while True:
        key = tuple(chance.randint(1, most) for most in (PATIENTS, STUDIES, SERIES, NUMBERS))
        uid = "1.2.3." + ".".join(map(str, key))
        choice = chance.random()
        if choice < 0.75:
            os.write(pipe, f"storing {uid}\n".encode())
            assert send(archive, instance(*key)) == 0
            os.write(pipe, f"stored {uid}\n".encode())
        elif choice < 0.93:
            depth = chance.choice((4, 5, 6, 7))
            above = ".".join(uid.split(".")[:depth])
            os.write(pipe, f"deleting {above}\n".encode())
            level = {4: Level.PATIENT, 5: Level.STUDY, 6: Level.SERIES, 7: Level.IMAGE}[depth]
            archive.delete(level, f"P{key[0]}" if depth == 4 else above)
            os.write(pipe, f"deleted {above}\n".encode())
        elif choice < 0.96:
            archive.purge()
        else:
            archive.compact()


@dataclass
class Model:
    """What must be there, and what may be."""

    there: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    acknowledged: int = 0

    def hear(self, line: str) -> None:
        verb, _, uid = line.partition(" ")
        self.acknowledged += verb in {"stored", "deleted"}
        if verb == "storing" and uid not in self.there:
            self.unsure.add(uid)
        elif verb == "stored":
            self.unsure.discard(uid)
            self.there.add(uid)
        elif verb == "deleting":
            hit = {one for one in self.there | self.unsure if f"{one}.".startswith(f"{uid}.")}
            self.there -= hit
            self.unsure |= hit
        elif verb == "deleted":
            self.unsure = {one for one in self.unsure if not f"{one}.".startswith(f"{uid}.")}

    def check(self, folder: Path) -> None:
        archive = opened(folder)
        uids = [f"1.2.3.{p}.{s}" for p in range(1, PATIENTS + 1) for s in range(1, STUDIES + 1)]
        found = {one.sop_instance_uid: one for one in archive.instances(study_uids=uids)}
        lost = self.there - set(found)
        assert not lost, f"acknowledged and lost: {lost}"
        back = set(found) - self.there - self.unsure
        assert not back, f"deleted and back: {back}"
        assert read(archive.dicomdir) == set(found), "index and DICOMDIR differ"
        files = {str(one) for one in (folder / "DICOM").rglob("*") if one.is_file()}
        assert files == {one.path for one in found.values()}, "index and disk differ"
        assert list((folder / ".incoming").iterdir()) == []
        for uid, one in found.items():
            data = Path(one.path).read_bytes()[one.dataset_offset :]
            assert data == instance(*map(int, uid.split(".")[3:]))[1], f"{uid} has other bytes"
        archive.close()
        self.there, self.unsure = set(found), set()


def read(dicomdir: Path) -> set[str]:
    """A whole DICOMDIR, or an assertion."""
    with Dicomdir(dicomdir) as source:
        found = {record.sop_instance_uid for _, record in source.records() if record.file_id}
        assert source.quarantined == []
        assert source.appendable
    return found


def round_of(folder: Path, model: Model, chance: random.Random) -> int:
    """One child, one kill, one check; how often the DICOMDIR was read meanwhile."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(folder, writing, chance.getrandbits(32))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(70)
    os.close(writing)
    said = os.read(reading, 6)
    assert said == b"ready\n"
    until, readings = time.monotonic() + chance.uniform(0.0, 0.25), 0
    while time.monotonic() < until:
        read(folder / "DICOMDIR")
        readings += 1
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {os.waitstatus_to_exitcode(status)}"
    with os.fdopen(reading) as heard:
        *lines, _ = heard.read().split("\n")  # a line cut short by the kill was not said
    for line in lines:
        model.hear(line)
    model.check(folder)
    return readings


def main(folder: Path, rounds: int, seed: int) -> None:
    """So many kills; a failed check ends the run with its traceback and the seed."""
    chance, model, readings = random.Random(seed), Model(), 0
    opened(folder).close()
    print(f"seed {seed}", flush=True)  # noqa: T201 - the tool's output
    for _ in range(rounds):
        readings += round_of(folder, model, chance)
    print(f"{rounds} kills, {model.acknowledged} acknowledged, {readings} readings of the DICOMDIR, nothing lost")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32))

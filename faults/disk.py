"""A disk that fails: calls of the gateway's process that return EIO or ENOSPC, by libfiu (fiu-utils).

The calls fail where the C library is entered, so SQLite's and Python's fail alike; what the kernel would do with the
pages of a failed ``fsync`` is not imitated. Sockets are written by other calls.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults.kills import CT, outgoing
from faults.world import require, verified
from gateway.archive.disk import INCOMING
from gateway.config import load
from gateway.daemon.archiving import build_archive
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT
from tests.support.gateways import RunningGateway, gateway, peer, serving
from tests.support.waiting import wait_until

_LIBRARIES = Path("/usr/lib/fiu")
_LIMITS = Timeouts(5, 5, 20, 20)
_CALLS = {
    "fsync": "posix/io/sync/fsync",
    "fdatasync": "posix/io/sync/fdatasync",
    "write": "posix/io/rw/write",
    "writev": "posix/io/rw/writev",
    "pwrite": "posix/io/rw/pwrite",
}
_FAILING = (
    ("fsync", errno.EIO), ("fdatasync", errno.EIO), ("fsync", errno.ENOSPC), ("write", errno.ENOSPC),
    ("writev", errno.ENOSPC), ("writev", errno.EIO), ("pwrite", errno.ENOSPC), ("pwrite", errno.EIO),
)  # fmt: skip


def available() -> bool:
    """Whether the machine has the tool."""
    return shutil.which("fiu-ctrl") is not None and (_LIBRARIES / "fiu_posix_preload.so").exists()


@dataclass
class _Place:
    """A gateway whose calls can be made to fail, and what it has acknowledged."""

    folder: Path
    config: Path
    acknowledged: set[str] = field(default_factory=set)
    number: int = 0

    def store(self, running: RunningGateway) -> int:
        """Store a new instance; its status."""
        self.number += 1
        made = outgoing(self.folder, "failing", self.number, 1)
        known = Peer("gateway", "GATEWAY", "127.0.0.1", running.port, _LIMITS)
        with connect(known, "MODALITY", [(CT, EXPLICIT)]) as association:
            status = association.store(made)
        Path(made.path).unlink()
        if status == 0:
            self.acknowledged.add(made.sop_instance_uid)
        return status

    def require_unchanged(self, what: str) -> None:
        """The index knows what was acknowledged and nothing else, and so does the disk."""
        archive = build_archive(load(self.config))
        try:
            found = archive.instances(study_uids=[line.study_instance_uid for line in archive.listing()])
        finally:
            archive.close()
        require({one.sop_instance_uid for one in found} == self.acknowledged, f"{what}: the index changed")
        files = {str(path) for path in (archive.root / "DICOM").rglob("*") if path.is_file()}
        require(files == {one.path for one in found}, f"{what}: {len(files)} files of {len(found)} instances")
        wait_until(lambda: not _written(archive.root / INCOMING), f"{what}: no temporary file is left")


def failing(folder: Path) -> tuple[str, int]:
    """C-STOREs while the disk fails, and after; a figure, and how many were acknowledged."""
    refused = 0
    with _preloaded(folder) as (running, place):
        for call, number in _FAILING:
            what = f"{call} with {errno.errorcode[number]}"
            require(place.store(running) == 0, f"not stored before {what}")
            with _fails(folder, running, call, number):
                statuses = {place.store(running) for _ in range(3)}
                require(statuses == {0xA700}, f"{what}: answered with {[f'{one:04X}H' for one in statuses]}")
            refused += 3
            place.require_unchanged(what)
            wait_until(lambda: place.store(running) == 0, f"stored again after {what}", seconds=5)
        wait_until(lambda: running.http("/readyz")[0] == 200, "it is ready again by itself", seconds=15)
        require("instance was not stored" in running.text, "the log does not say that the disk fails")
        require("Traceback" not in running.text, "a traceback in the log")
        running.process.kill()
    with serving(place.config):
        place.require_unchanged("after a kill")
    problems = verified(place.config)
    require(not problems, str(problems))
    figure = (
        f"{len(_FAILING)} faults, {refused} stores refused with A700H, nothing left of them, stored again after each; "
        f"{len(place.acknowledged)} acknowledged and there after a kill"
    )
    return figure, len(place.acknowledged)


@contextmanager
def _fails(folder: Path, running: RunningGateway, call: str, number: int) -> Iterator[None]:
    def control(*words: str) -> None:
        command = ["fiu-ctrl", "-f", str(folder / "fiu"), *words, str(running.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        require(done.returncode == 0 and not done.stdout, f"fiu-ctrl: {done.stdout}{done.stderr}")

    control("-c", f"enable name={_CALLS[call]},failinfo={number}")
    try:
        yield
    finally:
        control("-c", f"disable name={_CALLS[call]}")


@contextmanager
def _preloaded(folder: Path) -> Iterator[tuple[RunningGateway, _Place]]:
    """A gateway of one process under libfiu, told by pipes what is to fail."""
    folder.mkdir(parents=True)
    libraries = [str(_LIBRARIES / name) for name in ("fiu_run_preload.so", "fiu_posix_preload.so")]
    preloaded = {"LD_PRELOAD": " ".join(libraries), "FIU_CTRL_FIFO": str(folder / "fiu"), "FIU_ENABLE": ""}
    preloaded["GATEWAY__ARCHIVE__JOURNAL"] = "0"  # through the journal a small instance needs no fsync that could fail
    made = gateway(folder / "gw", peers={"MODALITY": peer("MODALITY", 1)}, logging={"level": "warning"})
    with variables(preloaded):
        running = made.__enter__()
    try:
        yield running, _Place(folder, running.config)
    finally:
        made.__exit__(None, None, None)


@contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what is started in the block."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _written(folder: Path) -> list[str]:
    """Temporary files that hold anything; empty ones are ready for the next instances."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.name != "DICOMDIR" and path.stat().st_size:
                found.append(path.name)
    return found

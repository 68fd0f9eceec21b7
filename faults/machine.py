"""A disk that is full, a clock that jumps, rule files that are broken: each with a gateway of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic

from faults import disk
from faults.disk import variables
from faults.kills import outgoing
from faults.report import Report
from faults.watch import FIND
from faults.world import NEW, OLD, Broken, Outcome, question, require, told, verified
from gateway.archive.durability import Durability
from gateway.dicom.attributes import Attributes
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT
from gateway.errors import UpstreamError
from tests.archive.power_cut import WORKS, Unavailable, cut
from tests.support import dicomfiles
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import dcmqrscp
from tests.support.processes import Running
from tests.support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
_LIMITS = Timeouts(5, 5, 10, 10)
_FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Skipped(Exception):
    """The machine has not what the scenario needs."""


@dataclass
class Place:
    """Where a scenario works."""

    folder: Path
    report: Report
    quick: bool


def _status(running: RunningGateway, number: int, folder: Path, study: str = "s") -> int:
    """Store an instance of 100 KB; its status."""
    known = Peer("gateway", "GATEWAY", "127.0.0.1", running.port, _LIMITS)
    with connect(known, "MODALITY", [(CT, EXPLICIT)]) as association:
        return association.store(outgoing(folder, study, number, 1))


def _find(running: RunningGateway, aet: str = "MODALITY") -> list[Attributes]:
    known = Peer("gateway", "GATEWAY", "127.0.0.1", running.port, _LIMITS)
    with connect(known, aet, [(FIND, EXPLICIT)]) as association:
        return list(association.find(FIND, question()))


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise Skipped("tmpfs may not be mounted here")
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


def disk_full(place: Place) -> str:
    """C-STOREs until the disk is full, and after it has room again."""
    with _small_disk(place.folder / "small") as small:
        archive = {"dicomdir": str(small / "files" / "DICOMDIR"), "create": True, "min_free": "1MiB"}
        ae = {"title": "GATEWAY", "port": 0, "workers": 2}
        peers = {"MODALITY": peer("MODALITY", 1)}
        with gateway(place.folder / "gw", peers=peers, archive=archive, ae=ae) as running:
            kept, refused, numbers, attempts = 0, set[int](), count(1), count(1)
            ready = running.http("/readyz")
            while ready[0] == 200:  # a publication takes up room for a moment, and gives it back
                status = _status(running, next(numbers), place.folder)
                kept += status == 0
                refused |= {status} - {0}
                require(next(attempts) < 1000, "the disk is never full")
                ready = running.http("/readyz") if status else ready
            require(refused == {0xA700}, f"refused with {[f'{one:04X}H' for one in refused]}")
            require(ready[0] == 503 and "archive" in ready[1], f"ready on a full disk: {ready}")
            for _ in range(50):
                require(_status(running, next(numbers), place.folder) in {0, 0xA700}, "another status on a full disk")
            _find(running)
            place.report.acknowledged += kept
            subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
            began = monotonic()
            wait_until(lambda: running.http("/readyz")[0] == 200, "it is ready again by itself", seconds=15)
            took = monotonic() - began
            require(_status(running, next(numbers), place.folder) == 0, "not stored although there is room")
            problems = verified(running.config)
            require(not problems, str(problems))
            require("Traceback" not in running.text, "a traceback in the log")
    return f"{kept} kept, then A700H and not ready; ready {took:.2f} s after there was room, verify clean"


def clock_jumps(place: Place) -> str:
    """The wall clock goes a year ahead and two back while the gateway works."""
    if not _FAKETIME:
        raise Skipped("needs faketime: apt-get install faketime")
    clock = place.folder / "clock"
    place.folder.mkdir(parents=True, exist_ok=True)

    def jump(offset: str) -> None:
        clock.with_suffix(".new").write_text(offset)
        clock.with_suffix(".new").rename(clock)

    jump("+0")
    environment = {
        "LD_PRELOAD": str(_FAKETIME[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    with dcmqrscp(place.folder / "leading") as leading:
        leading.store(dicomfiles.write(place.folder / "new", dicomfiles.study("corrected", 1, "CT", **NEW)))
        dicomdir = dicomfiles.write_file_set(place.folder / "local", dicomfiles.study("corrected", 2, "CT", **OLD))
        with _under(place.folder / "gw", environment, dicomdir, leading.port) as running:
            for number, offset in enumerate(("+0", "+365d", "-365d", "+10y", "+0"), 1):
                jump(offset)
                began = monotonic()
                require(told(_find(running)) == "new", f"a wrong answer at {offset}")
                require(_status(running, number, place.folder) == 0, f"not stored at {offset}")
                require(running.http("/readyz")[0] == 200, f"not ready at {offset}")
                # A wait by the wall clock would be days; the first stores wait seconds for the journal to be made.
                require(monotonic() - began < 20, f"slow at {offset}")
            leading.stop()
            jump("+20y")
            require(told(_find(running)) == "new", "a remembered answer was forgotten with the clock")
            problems = verified(running.config)
            require(not problems, str(problems))
            require("Traceback" not in running.text, "a traceback in the log")
    return "+1, -1, +10 and +20 years: answers right, remembered ones kept, stores kept, verify clean"


@contextmanager
def _under(folder: Path, environment: dict[str, str], dicomdir: Path, leading: int) -> Iterator[RunningGateway]:
    """A gateway in another environment than ours."""
    made = gateway(
        folder, peers={"MODALITY": peer("MODALITY", 1), "LEADING": peer("QRSCP", leading)}, dicomdir=dicomdir,
        leading={"peer": "LEADING", "query_cache": {"ttl": "PT10M"}},
    )  # fmt: skip
    with variables(environment):
        running = made.__enter__()
    try:
        yield running
    finally:
        made.__exit__(None, None, None)


def failing_disk(place: Place) -> str:
    """C-STOREs while calls that write and sync fail, and after."""
    if not disk.available():
        raise Skipped("needs fiu-run: apt-get install fiu-utils")
    figure, acknowledged = disk.failing(place.folder)
    place.report.acknowledged += acknowledged
    return figure


def bad_reload(place: Place) -> str:
    """Rule files that are broken in many ways: the good ones stay in force."""
    place.folder.mkdir(parents=True, exist_ok=True)
    rules = place.folder / "coercion.yaml"
    broken = [b"", b"rules: [", b"\xff\xfe\x00", b"rules: 7", b"rules: [{name: x}]", b"- " * 5000, b"{" * 3000,
              b"rules: &a [*a]", b"rules: [{name: y, where: answer, then: [set: {NoSuchKeyword: x}]}]"]  # fmt: skip
    rules.write_text("rules: []\n")
    dicomdir = dicomfiles.write_file_set(place.folder / "local", dicomfiles.study("corrected", 2, "CT", **OLD))
    with gateway(
        place.folder / "gw", peers={"MODALITY": peer("MODALITY", 1)}, dicomdir=dicomdir,
        ae={"title": "GATEWAY", "port": 0, "workers": 2}, coercion={"rules": str(rules)},
    ) as running:  # fmt: skip
        for data in broken:
            before = _reloads(running)
            _put(rules, data)
            what = f"the change to {data[:20]!r} is noticed"
            wait_until(lambda before=before: _reloads(running) > before, what)  # type: ignore[misc]
            require(told(_find(running)) == "old", f"a wrong answer with {data[:20]!r}")
        require(running.process.exit_status is None, "the gateway ended")
        require("Traceback" not in running.text, "a traceback in the log")
        before = _reloads(running)
        _put(rules, b"rules: []\n")
        wait_until(lambda: _reloads(running) > before, "the good file is noticed")
        wait_until(lambda: running.metric("coercion_rules_last_reload_successful") == 1, "the good file is in force")
    return f"{len(broken)} broken rule files; answers right all the while, the next good one taken"


def _reloads(running: RunningGateway) -> float:
    return running.metric("coercion_rules_reloads_total")


def _put(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


def _power_cut(what: str, most: int) -> Callable[[Place], str]:
    """A power cut in the middle of ``most`` and more of these, and the same without syncing, to see it matter."""

    def scenario(place: Place) -> str:
        place.folder.mkdir(parents=True)
        durable, careless = place.folder / "full", place.folder / "none"
        durable.mkdir()
        careless.mkdir()
        try:
            found = cut(durable, WORKS[what], Durability.FULL, most)
            other = cut(careless, WORKS[what], Durability.NONE, most)
        except Unavailable as error:
            raise Skipped(str(error)) from error
        place.report.acknowledged += found.acknowledged
        place.report.lost += found.lost
        require(not found.lost, f"{found.lost} of {found.acknowledged} acknowledged are lost")
        require(not found.problems, str(found.problems[:5]))
        require(other.lost, "nothing is lost without syncing either: it was no power cut")
        return (
            f"{found.acknowledged} acknowledged, {found.lost} lost, verify clean "
            f"(with durability none {other.lost} of {other.acknowledged} lost)"
        )

    return scenario


_LONG: dict[str, Callable[[Place], str]] = {
    f"power cut in {what}": _power_cut(what, most)
    for what, most in {"store": 600, "delete": 300, "replace": 300, "reconcile": 100, "store and reconcile": 60}.items()
}
_SCENARIOS: dict[str, Callable[[Place], str]] = {
    "disk full": disk_full,
    "disk fails": failing_disk,
    "clock jumps": clock_jumps,
    "broken rule files": bad_reload,
}
_TESTS = {
    "kill -9 between commitment request and report (tests/commitment/test_kill.py)": "tests/commitment/test_kill.py",
}


def run(folder: Path, report: Report, only: str, *, quick: bool) -> None:
    """Each scenario with a gateway of its own, and the rooms' own tests of the same."""
    for name, scenario in (_SCENARIOS if quick else _SCENARIOS | _LONG).items():
        if only in name:
            place = Place(folder / name.replace(" ", "-"), report, quick)
            _outcome(name, lambda scenario=scenario, place=place: scenario(place), report)  # type: ignore[misc]
    for name, test in _TESTS.items():
        if only in name and not quick:
            _outcome(name, lambda test=test: _tested(test, folder), report)  # type: ignore[misc]


def _outcome(name: str, work: Callable[[], str], report: Report) -> None:
    began, figure, problems = monotonic(), "", list[str]()
    try:
        figure = work()
    except Skipped as error:
        figure = f"skipped: {error}"
        report.skipped += 1
    except (Broken, AssertionError, UpstreamError, OSError, subprocess.SubprocessError) as error:
        problems.append(f"{type(error).__name__}: {error}")
    report.add("own", Outcome(name, figure, monotonic() - began, problems=tuple(problems)))


def _tested(test: str, folder: Path) -> str:
    """Run a room's own tests; the line that sums them up."""
    log = folder / "pytest.log"
    with Running([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test], log) as process:
        status = process.wait(300)
        summary = process.text.strip().splitlines()[-1]
        require(status == 0, process.text[-2000:])
    return summary

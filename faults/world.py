"""A gateway between a leading archive, a destination and clients, each behind a fault proxy; and the invariants."""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

from faults.proxy import Proxy
from faults.watch import FIND, MOVE, Held, Witness, held
from gateway.archive.verify import counts
from gateway.config import load
from gateway.daemon.archiving import build_archive
from gateway.dicom.attributes import Attributes
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import RetrieveProgress, connect
from gateway.dimse.sopclasses import EXPLICIT
from gateway.errors import UpstreamError
from tests.support import dicomfiles
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import RunningPeer, dcmqrscp, storescp
from tests.support.waiting import wait_until

OLD = {"PatientName": "Smith^Jon", "PatientID": "OLD-7", "AccessionNumber": "A-OLD"}
NEW = {"PatientName": "Smythe^Jorg", "PatientID": "NEW-7", "AccessionNumber": "A-NEW"}
STUDY = dicomfiles.uid("corrected")
IMAGES = 6
DEADLINE = 1.0
"""Seconds, for everything the gateway waits for in these worlds."""
BOUND = 8.0
"""Seconds within which any request has to be answered: several deadlines in a row, on a busy machine."""
MOST = 20_000
"""Answers of the leading archive that are listened to."""
CALM = Held(memory=24 << 20, descriptors=6, threads=3, databases=90)
"""What a gateway may hold more after a scenario than before, for each worker process."""


class Broken(AssertionError):
    """An invariant does not hold."""


def require(holds: object, what: str) -> None:
    """Say what is broken when something does not hold."""
    if not holds:
        raise Broken(what)


@dataclass
class World:
    """A running gateway and what is around it.

    Attributes:
        leading: the archive with the corrections; the gateway reaches it through ``upstream``.
        viewer: the destination; the gateway reaches it through ``downstream``.
        entry: a proxy before the gateway, for clients.
        loads: figures of loads held, for the summary.
        tried: bad inputs so far.
    """

    gateway: RunningGateway
    workers: int
    leading: RunningPeer
    viewer: RunningPeer
    upstream: Proxy
    downstream: Proxy
    entry: Proxy
    seed: int
    quick: bool
    folder: Path
    loads: list[str] = field(default_factory=list)
    tried: int = 0
    chance: Random = field(default_factory=Random)

    def peer(self, port: int = 0, patience: float = BOUND) -> Peer:
        """The gateway as a client calls it, straight or through a proxy's port."""
        limits = Timeouts(5, patience, patience, patience)
        return Peer("gateway", "GATEWAY", "127.0.0.1", port or self.gateway.port, limits)

    def find(self, aet: str = "VIEWER", port: int = 0, patience: float = BOUND) -> list[Attributes]:
        """Ask for the corrected study.

        Raises:
            UpstreamError: the gateway answers with a failure, or not.
        """
        with connect(self.peer(port, patience), aet, [(FIND, EXPLICIT)]) as association:
            return list(association.find(FIND, question()))

    def move(self, aet: str = "VIEWER", destination: str = "VIEWER", port: int = 0) -> RetrieveProgress:
        """Move the corrected study; the final response."""
        asked = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": STUDY})
        with connect(self.peer(port, 3 * BOUND), aet, [(MOVE, EXPLICIT)]) as association:
            return list(association.move(MOVE, asked, destination))[-1]

    def forget(self) -> None:
        """Empty the caches, so that the next query asks the leading archive."""
        url = f"http://127.0.0.1:{self.gateway.http_port}/api/cache?all=true"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()

    def corrected(self) -> bool:
        """Whether the leading archive's attributes are answered, which ends a fault of it."""
        self.forget()
        try:
            return [one.text(tag) for one in self.find() for tag in _TAGS] == list(NEW.values())
        except UpstreamError:
            return False


_KEYS = ("PatientName", "PatientID", "AccessionNumber")
_TAGS = [next(iter(Attributes.of({key: "1"}))) for key in _KEYS]


def question(**keys: str) -> Attributes:
    """A query for the corrected study."""
    values = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": STUDY, **dict.fromkeys(_KEYS, ""), **keys}
    return Attributes.of(values)


def told(answers: Sequence[Attributes]) -> str:
    """Which attributes an answer has: ``new``, ``old``, or what it is instead."""
    if len(answers) != 1:
        return f"{len(answers)} answers"
    values = [answers[0].text(tag) for tag in _TAGS]
    return {tuple(NEW.values()): "new", tuple(OLD.values()): "old"}.get(tuple(values), "a mixture")


def settings(upstream: int, downstream: int, **changes: object) -> dict[str, object]:
    """Peers and limits of a gateway whose deadlines are short."""
    brief = {"connect": "PT1S", "acse": "PT1S", "dimse": "PT1S", "network": "PT1S"}
    callers = {name: peer(name, 1) for name in ("FLOOD", "WITNESS", "SPOILER")}
    base: dict[str, object] = {
        "peers": {
            "LEADING": {**peer("QRSCP", upstream), "timeouts": brief},
            "VIEWER": {**peer("VIEWER", downstream), "timeouts": brief},
            "READER": peer("READER", 1, "echo", "find"),
            "NOBODY": {"aet": "NOBODY", "host": "127.0.0.1", "port": 1},
            "ELSEWHERE": {**peer("ELSEWHERE", 1), "addresses": ["192.0.2.0/24"]},
            **callers,
        },
        "ae": {
            "title": "GATEWAY", "port": 0, "workers": 1, "max_associations": 260, "max_associations_per_peer": 240,
            "max_negotiations_per_address": 240,
            "timeouts": {"acse": "PT1S", "network": "PT1S", "idle": "PT10S"},
        },
        "leading": {
            "peer": "LEADING", "callers": ["VIEWER", "FLOOD"], "idle": "PT0.05S", "associations": 4,
            "max_answers": MOST,
            "query_cache": {"failure_ttl": "PT0S"}, "breaker": {"failures": 1000000, "retry_after": "PT0.2S"},
        },
        "http": {"port": 0, "timeout": "PT1S"},
        "retrieve": {"completeness": "off"},
        "logging": {"level": "warning"},
    }  # fmt: skip
    for section, value in changes.items():
        before = base.get(section)
        base[section] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return base


@contextmanager
def world(folder: Path, workers: int, seed: int, *, quick: bool) -> Iterator[World]:
    """Start everything, warm it up, and stop it at the end."""
    local = [*dicomfiles.study("corrected", IMAGES, "CT", **OLD), *dicomfiles.study("other", 1, "US", **OLD)]
    dicomdir = dicomfiles.write_file_set(folder / "local", local)
    with ExitStack() as stack:
        leading = stack.enter_context(dcmqrscp(folder / "leading"))
        viewer = stack.enter_context(storescp(folder / "viewer", "VIEWER"))
        leading.store(dicomfiles.write(folder / "corrected", dicomfiles.study("corrected", 1, "CT", **NEW)))
        upstream, downstream, entry = Proxy(leading.port), Proxy(viewer.port), Proxy(1)
        for proxy in (upstream, downstream, entry):
            stack.callback(proxy.close)
        sections = settings(upstream.port, downstream.port, ae={"workers": workers})
        peers = sections.pop("peers")
        assert isinstance(peers, dict)
        running = stack.enter_context(gateway(folder / "gw", peers=peers, dicomdir=dicomdir, **sections))
        entry.retarget(running.port)
        made = World(
            running, workers, leading, viewer, upstream, downstream, entry, seed, quick, folder
        )  # fmt: skip
        for _ in range(6 * workers):
            require(made.corrected(), "the gateway does not answer with the leading archive's attributes")
            require(made.move().status == 0, "the gateway does not deliver")
        _warm_up(made)
        yield made


def _warm_up(world: World) -> None:
    """As many associations at once as are allowed, since memory once needed stays with the allocator."""
    count = 235
    barrier = threading.Barrier(count)

    def ask(_: int) -> None:
        with connect(world.peer(patience=40), "FLOOD", [(FIND, EXPLICIT)]) as association:
            barrier.wait(60)
            list(association.find(FIND, question()))
            barrier.wait(60)

    before = held(world.gateway.process.pid)
    for _ in range(2):
        together(count, ask)
    wait_until(
        lambda: held(world.gateway.process.pid).threads <= before.threads + 2 * world.workers,
        "the threads of released associations end",
    )


Run = Callable[[World], str]


@dataclass(frozen=True)
class Scenario:
    """Something that goes wrong.

    Attributes:
        run: makes it happen and returns a figure; raises when an answer is wrong or late.
        faults: how many it makes happen, when the figure does not say.
    """

    name: str
    run: Run


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        problems: broken invariants; empty when all hold.
    """

    name: str
    figure: str
    seconds: float
    witness: str = ""
    left: str = ""
    problems: tuple[str, ...] = ()


def carry_out(world: World, scenario: Scenario) -> Outcome:
    """Run a scenario and look at the invariants."""
    world.chance = Random(f"{world.seed}/{scenario.name}")  # of its own, so that it can be repeated alone
    before, began, figure = held(world.gateway.process.pid), monotonic(), ""
    problems: list[str] = []
    wanted = Attributes.of({**OLD, "StudyInstanceUID": STUDY})
    with Witness(world.gateway.port, "WITNESS", question(), wanted) as witness:
        try:
            figure = scenario.run(world)
        except (AssertionError, UpstreamError, OSError, subprocess.SubprocessError) as error:
            problems.append(f"{type(error).__name__}: {error}")
    problems += sorted(set(witness.problems))[:3]
    if witness.slowest > BOUND:
        problems.append(f"the witness waited {witness.slowest:.1f} s")
    if not witness.served:
        problems.append("the witness was never served")
    problems += _recovered(world)
    left = _left(world, before, problems)
    problems += verified(world.gateway.config)
    problems += _log_problems(world)
    said = f"{witness.served} served, longest {witness.slowest * 1000:.0f} ms"
    return Outcome(scenario.name, figure, monotonic() - began, said, left, tuple(problems))


def _recovered(world: World) -> list[str]:
    """Whether everything works again without anybody's help."""
    if world.gateway.process.exit_status is not None:
        return [f"the gateway ended:\n{world.gateway.text[-2000:]}"]
    try:
        wait_until(world.corrected, "the leading archive's attributes are answered again", seconds=15, every=0.1)
        require(world.move().status == 0, "a move is not carried out again")
    except (AssertionError, UpstreamError, OSError) as error:
        return [str(error)]
    return []


def _left(world: World, before: Held, problems: list[str]) -> str:
    """What is held more than before once it is calm; too much is a problem."""
    share = world.workers

    def over() -> Held:
        return held(world.gateway.process.pid).over(before)

    def calm() -> bool:
        now = over()
        few = now.descriptors <= CALM.descriptors * share and now.threads <= CALM.threads * share
        return few and now.memory <= CALM.memory * share and now.databases <= CALM.databases * share

    try:
        wait_until(calm, "memory, descriptors and threads return to where they were", seconds=20, every=0.2)
    except AssertionError as error:
        problems.append(f"{error}: {over()}")
    return str(over())


def verified(config: Path) -> list[str]:
    """What ``archive verify`` says is wrong, here without the start of a process."""
    archive = build_archive(load(config))
    try:
        archive.open()
        left = counts(archive.verify())
    finally:
        archive.close()
    return [f"archive verify: {count} x {kind}" for kind, count in left.items()]


def verb(config: Path, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a verb of the gateway to its end."""
    command = [sys.executable, "-m", "gateway", *words, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


_LEAKS = (*NEW.values(), *OLD.values())
_seen: dict[int, int] = {}


def _log_problems(world: World) -> list[str]:
    """Tracebacks and patients' names in what was logged since the last scenario."""
    pid = world.gateway.process.pid
    text = world.gateway.text[_seen.get(pid, 0) :]
    _seen[pid] = _seen.get(pid, 0) + len(text)
    problems = []
    if "Traceback" in text:
        at = text.index("Traceback")
        problems.append(f"a traceback in the log: {text[at : at + 3000].strip()}")
    if "Invalid value for VR" in text:
        problems.append("the text of a library's warning in the log, which quotes values")
    if leaked := [value for value in _LEAKS if value in text]:
        problems.append(f"patient data in the log: {leaked}")
    return problems


def together(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(0)`` … in threads at once and wait for all; raises what the first one raised."""
    errors: list[Exception] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except (AssertionError, UpstreamError, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    require(not any(thread.is_alive() for thread in threads), "threads of clients hang")
    if errors:
        raise errors[0]

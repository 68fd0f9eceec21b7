"""Processes on one port: shared fairly, replaced when one dies, gone together."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import Association, connect
from gateway.errors import UpstreamError
from gateway.workers.control import ask_all
from tests.support.processes import Running
from tests.support.waiting import wait_until

FIND, EXPLICIT = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2.1"
QUERY = Attributes.of({"QueryRetrieveLevel": "STUDY", "PatientID": ""})


@dataclass
class Service:
    process: Running
    folder: Path
    port: int

    @property
    def peer(self) -> Peer:
        return Peer("service", "GATEWAY", "127.0.0.1", self.port, Timeouts(5, 5, 5, 5))

    def open(self, aet: str = "ME") -> Association:
        return connect(self.peer, aet, [(FIND, EXPLICIT)])

    def pids(self) -> set[int]:
        return set(ask_all(self.folder, "pid").values())

    def answers(self) -> bool:
        try:
            with self.open() as association:
                return answered_by(association) > 0
        except UpstreamError:
            return False


def answered_by(association: Association) -> int:
    (answer,) = association.find(FIND, QUERY)
    return int(answer.text(0x00100020))


@contextmanager
def service(folder: Path, count: int) -> Iterator[Service]:
    script = Path(__file__).with_name("service.py")
    root = script.parents[2]
    with Running([sys.executable, script, folder, str(count)], folder / "out", {"PYTHONPATH": str(root)}) as process:
        wait_until(lambda: "\n" in process.text, "it says its port")
        started = Service(process, folder, int(process.text.split()[0]))
        wait_until(lambda: len(started.pids()) == count, "all processes are up")
        yield started


def spread(one: Service, stack: ExitStack, count: int, aet: str = "ME") -> list[Association]:
    """Associations that both processes have as many of: one that gets no CPU for a while takes none in that time."""
    for _ in range(20):
        with ExitStack() as tried:
            open_ones = [tried.enter_context(one.open(aet)) for _ in range(count)]
            served = [answered_by(association) for association in open_ones]
            if all(served.count(pid) == count // 2 for pid in one.pids()):
                stack.push(tried.pop_all())
                return open_ones
        wait_until(one.answers, "what was released is free again")
    raise AssertionError("one of the processes takes nothing")


def test_associations_are_shared_evenly(tmp_path: Path) -> None:
    with service(tmp_path, 2) as one, ExitStack() as stack:
        spread(one, stack, 4)
        with pytest.raises(UpstreamError, match="2/3/2"):  # four is the limit of both together
            one.open()


def test_a_process_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with service(tmp_path, 2) as one, one.open() as first, ExitStack() as others:
        victim = answered_by(first)
        second = next(other for _ in range(3) if answered_by(other := others.enter_context(one.open())) != victim)
        survivor = answered_by(second)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(UpstreamError):
            list(first.find(FIND, QUERY))
        assert answered_by(second) == survivor
        wait_until(lambda: len(one.pids() - {victim}) == 2, "it is replaced")
        with ExitStack() as stack:  # the dead one's associations are not counted any more
            for _ in range(3):
                stack.enter_context(one.open())


def test_a_peer_has_no_more_associations_with_two_processes_than_with_one(tmp_path: Path) -> None:
    with service(tmp_path, 2) as one, ExitStack() as stack:
        first, _ = spread(one, stack, 2, "FEW")
        for _ in range(4):
            with pytest.raises(UpstreamError, match="2/3/2"):
                one.open("FEW")
        wait_until(one.answers, "others have room, once those who were turned away have gone")
        victim = answered_by(first)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(one.pids() - {victim}) == 2, "it is replaced")
        stack.enter_context(one.open("FEW"))  # the dead one's is not counted any more
        with pytest.raises(UpstreamError, match="2/3/2"):
            one.open("FEW")


def test_a_stop_ends_every_process(tmp_path: Path) -> None:
    with service(tmp_path, 2) as one:
        pids = one.pids()
        os.kill(one.process.pid, signal.SIGTERM)
        assert one.process.wait() == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_processes_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    with service(tmp_path, 2) as one:
        pids = one.pids()
        os.kill(one.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}/stat").exists() and _runs(pid) for pid in pids), "they are gone")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

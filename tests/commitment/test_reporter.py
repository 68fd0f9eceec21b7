"""Requests in, reports out, over a wire that does what a test says."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.commitment.database import Database
from gateway.commitment.decision import Decider
from gateway.commitment.job import Event, Retry, State
from gateway.commitment.jobs import LEASE, JobLedger
from gateway.commitment.messages import (
    PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentRequest,
    CommitmentResult,
    Reason,
    Reference,
    read_result,
    write_request,
)
from gateway.commitment.records import Bounds
from gateway.commitment.reporter import Reporter
from gateway.commitment.routes import Route, Routes
from gateway.commitment.scp import CommitmentSCP
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse.ports import ActionRequest, EventReport, Peer
from gateway.errors import Refused, UpstreamError, UpstreamKind
from tests.support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")
MODALITY = Caller("MODALITY", "127.0.0.1", "ct1", "GATEWAY")
PEERS = [Peer("ct1", "MODALITY", "127.0.0.1", 104), Peer("ct2", "OTHER", "127.0.0.1", 104)]
DOWN = UpstreamError("connection refused", UpstreamKind.UNREACHABLE)


@dataclass
class ScriptedWire:
    """Answers each report with the next of its answers; the last one stays."""

    answers: list[int | UpstreamError] = field(default_factory=lambda: [0])
    reports: list[tuple[str, str, CommitmentResult]] = field(default_factory=list)
    before: Callable[[Peer], object] = lambda peer: None  # noqa: ARG005

    def report(self, peer: Peer, event: EventReport, calling: str) -> int:
        self.before(peer)
        self.reports.append((peer.aet, calling, read_result(event.information)))
        assert event.event_type == self.reports[-1][2].event_type
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UpstreamError):
            raise answer
        return answer


def only_a(references: Sequence[Reference], requester: Caller) -> Iterator[int]:  # noqa: ARG001
    for one in references:
        yield 0 if one == A else Reason.NO_SUCH_OBJECT_INSTANCE


@dataclass
class Node:
    """The SCP with its ledger, wire and reporter."""

    jobs: JobLedger
    wire: ScriptedWire
    reporter: Reporter
    scp: CommitmentSCP

    def ask(self, uid: str = "2.25.1", caller: Caller = MODALITY, *references: Reference) -> None:
        self.scp(action(uid, *references), caller)

    def reaches(self, state: State, uid: str = "2.25.1") -> None:
        wait_until(lambda: self.jobs.job(uid).state is state, f"{uid} is {state.value}")


def action(uid: str, *references: Reference) -> ActionRequest:
    information = write_request(CommitmentRequest(uid, references or (A, B)))
    return ActionRequest(PUSH_MODEL, WELL_KNOWN_INSTANCE, 1, information)


Build = Callable[..., Node]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Build]:
    stops: list[Callable[[], None]] = []

    def build(*answers: int | UpstreamError, decider: Decider = only_a, same: bool = False, attempts: int = 5) -> Node:
        database = Database(tmp_path / "commitment.sqlite")
        jobs = JobLedger(database, Bounds(), Retry(first=0.01, longest=0.02, attempts=attempts))
        wire = ScriptedWire(list(answers) or [0])
        routes = Routes([Route(one, same) for one in PEERS])
        reporter = Reporter(jobs, decider, wire, routes, poll=0.01)
        reporter.start()
        stops.extend([database.close, reporter.stop])
        return Node(jobs, wire, reporter, CommitmentSCP(jobs, reporter, routes))

    yield build
    while stops:
        stops.pop()()


def test_a_request_is_reported_to_who_asked_by_the_title_it_called(node: Build) -> None:
    here = node()
    here.ask()
    here.reaches(State.REPORTED)
    assert here.wire.reports == [("MODALITY", "GATEWAY", CommitmentResult("2.25.1", (A,), {B: 0x0112}))]
    assert here.jobs.job("2.25.1").answer == 0


def test_a_report_is_repeated_until_somebody_answers(node: Build) -> None:
    here = node(DOWN, DOWN, Status.RESOURCE_LIMITATION, 0)
    here.ask()
    here.reaches(State.REPORTED)
    assert len(here.wire.reports) == 4


def test_a_report_nobody_answers_is_given_up_and_can_be_resumed(node: Build) -> None:
    here = node(DOWN, attempts=3)
    here.ask()
    here.reaches(State.ABANDONED)
    assert (len(here.wire.reports), here.jobs.job("2.25.1").note) == (3, "connection refused")
    here.wire.answers = [0]
    here.jobs.apply("2.25.1", Event.RESUME, time.time())
    here.reaches(State.REPORTED)


def test_a_failure_status_is_an_answer(node: Build) -> None:
    here = node(Status.PROCESSING_FAILURE)
    here.ask()
    here.reaches(State.REJECTED)
    assert (len(here.wire.reports), here.jobs.job("2.25.1").answer) == (1, 0x0110)


def test_a_peer_that_hangs_keeps_nobody_else_waiting(node: Build) -> None:
    here = node()
    let_go = threading.Event()
    here.wire.before = lambda peer: peer.name == "ct1" and let_go.wait(30)
    here.ask("2.25.1")
    here.ask("2.25.2", Caller("OTHER", peer="ct2"))
    here.reaches(State.REPORTED, "2.25.2")
    assert here.jobs.job("2.25.1").state is State.REPORTING
    let_go.set()
    here.reaches(State.REPORTED, "2.25.1")


@pytest.mark.parametrize(("event", "state"), [(Event.PAUSE, State.PAUSED), (Event.CANCEL, State.CANCELLED)])
def test_an_operator_holds_a_job_that_is_being_decided(node: Build, event: Event, state: State) -> None:
    deciding, go_on = threading.Event(), threading.Event()
    drawn: list[int] = []

    def slow(references: Sequence[Reference], requester: Caller) -> Iterator[int]:  # noqa: ARG001
        for number, _ in enumerate(references):
            deciding.set()
            assert go_on.wait(30)
            drawn.append(number)
            yield 0

    here = node(decider=slow)
    here.ask("2.25.1", MODALITY, *[Reference(CT, f"1.2.{i}") for i in range(1000)])
    assert deciding.wait(30)
    here.jobs.apply("2.25.1", event, time.time())
    go_on.set()
    here.ask("2.25.2", MODALITY, A)
    here.reaches(State.REPORTED, "2.25.2")
    assert here.jobs.job("2.25.1").state is state
    assert len([one for one in here.wire.reports if one[2].transaction_uid == "2.25.1"]) == 0
    if state is State.PAUSED:
        here.jobs.apply("2.25.1", Event.RESUME, time.time())
        here.reaches(State.REPORTED)


def test_a_decider_that_fails_is_asked_again(node: Build) -> None:
    calls: list[int] = []

    def flaky(references: Sequence[Reference], requester: Caller) -> Iterator[int]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a plug-in's own trouble")
        if len(calls) == 2:
            return iter([0])  # too few
        return only_a(references, requester)

    here = node(decider=flaky)
    here.ask()
    here.reaches(State.REPORTED)
    assert len(calls) == 3


def test_what_cannot_be_written_down_is_left_to_the_lease(node: Build, tmp_path: Path) -> None:
    here = node()
    path = tmp_path / "commitment.sqlite"
    damaged = threading.Event()

    def damage(peer: Peer) -> None:  # noqa: ARG001
        with sqlite3.connect(path) as other:
            other.execute("ALTER TABLE commitment RENAME TO away")
        damaged.set()

    here.wire.before = damage
    here.ask()
    assert damaged.wait(30)
    wait_until(lambda: not here.reporter._held, "the work on it ends")
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE away RENAME TO commitment")
    here.wire.before = lambda peer: None  # noqa: ARG005
    assert here.jobs.job("2.25.1").state is State.REPORTING
    here.jobs.recover()  # as the next start does, or the end of the lease
    here.reaches(State.REPORTED)


def test_what_was_accepted_before_a_crash_is_reported_after_the_restart(tmp_path: Path, node: Build) -> None:
    before = JobLedger(Database(tmp_path / "commitment.sqlite"), Bounds(), Retry())
    for uid in ("2.25.1", "2.25.2"):
        before.accept(CommitmentRequest(uid, (A, B)), MODALITY, 10.0)
    before.claim("died", 10.0)
    before.decide("2.25.2", [0, 0], 10.0)
    before.recover()
    here = node()
    here.reaches(State.REPORTED, "2.25.1")
    here.reaches(State.REPORTED, "2.25.2")
    assert {one[2].transaction_uid: len(one[2].failed) for one in here.wire.reports} == {"2.25.1": 1, "2.25.2": 0}


def test_stopping_waits_for_the_report_on_its_way(node: Build) -> None:
    here = node()
    sending, go_on = threading.Event(), threading.Event()

    def hold(peer: Peer) -> None:  # noqa: ARG001
        sending.set()
        assert go_on.wait(30)

    here.wire.before = hold
    here.ask()
    assert sending.wait(30)
    stopping = threading.Thread(target=here.reporter.stop)
    stopping.start()
    go_on.set()
    stopping.join(30)
    assert here.jobs.job("2.25.1").state is State.REPORTED


def test_a_peer_that_hangs_does_not_hold_up_the_end(node: Build) -> None:
    here = node()
    sending, go_on = threading.Event(), threading.Event()

    def hang(peer: Peer) -> None:  # noqa: ARG001
        sending.set()
        go_on.wait(30)

    here.wire.before = hang
    here.ask()
    assert sending.wait(30)
    here.reporter.stop(grace=0.05)
    assert here.jobs.job("2.25.1").state is State.REPORTING
    go_on.set()


@dataclass
class Association:
    """The requestor's own association, while it lasts."""

    answer: int | UpstreamError = 0
    events: list[EventReport] = field(default_factory=list)

    def report(self, event: EventReport) -> int:
        self.events.append(event)
        if isinstance(self.answer, UpstreamError):
            raise self.answer
        return self.answer


def test_a_report_goes_out_on_the_same_association_where_that_is_wanted(node: Build) -> None:
    here = node(same=True)
    after = here.scp(action("2.25.1"), MODALITY)
    assert after is not None
    association = Association()
    after(association)
    assert here.jobs.job("2.25.1").state is State.REPORTED
    assert len(association.events) == 1
    assert here.wire.reports == []


def test_an_association_that_ends_before_its_report_leaves_it_to_the_lease(node: Build, tmp_path: Path) -> None:
    here = node(same=True)
    here.scp(action("2.25.1"), MODALITY)  # and what is to be done after the response never is
    ledger = JobLedger(Database(tmp_path / "commitment.sqlite"), Bounds(), Retry())
    assert ledger.claim("somebody", time.time() + LEASE / 2) is None
    assert ledger.claim("somebody", time.time() + LEASE + 1) is not None


def test_a_released_association_leaves_the_report_to_a_new_one(node: Build) -> None:
    here = node(same=True)
    after = here.scp(action("2.25.1"), MODALITY)
    assert after is not None
    after(Association(UpstreamError("released", UpstreamKind.ABORTED)))
    here.reaches(State.REPORTED)
    assert len(here.wire.reports) == 1


@pytest.mark.parametrize(
    ("request_", "caller", "status"),
    [
        (ActionRequest("1.2.3", WELL_KNOWN_INSTANCE, 1, Attributes()), MODALITY, Status.NO_SUCH_SOP_CLASS),
        (ActionRequest(PUSH_MODEL, "1.2.3", 1, Attributes()), MODALITY, Status.NO_SUCH_OBJECT_INSTANCE),
        (ActionRequest(PUSH_MODEL, WELL_KNOWN_INSTANCE, 2, Attributes()), MODALITY, Status.NO_SUCH_ACTION_TYPE),
        (ActionRequest(PUSH_MODEL, WELL_KNOWN_INSTANCE, 1, Attributes()), MODALITY, Status.INVALID_ARGUMENT_VALUE),
        (action("2.25.1"), Caller("STRANGER"), Status.PROCESSING_FAILURE),
    ],
)
def test_what_cannot_be_promised_is_refused(
    node: Build, request_: ActionRequest, caller: Caller, status: Status
) -> None:
    here = node()
    with pytest.raises(Refused) as refused:
        here.scp(request_, caller)
    assert refused.value.status == status
    assert here.jobs.jobs() == []


def test_a_transaction_uid_is_taken_once(node: Build) -> None:
    here = node()
    here.ask()
    with pytest.raises(Refused) as refused:
        here.ask()
    assert refused.value.status == Status.DUPLICATE_TRANSACTION_UID


def test_a_disk_that_comes_back_is_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "unmounted"
    database = Database(folder / "commitment.sqlite")
    jobs = JobLedger(database, Bounds(), Retry())
    routes = Routes([Route(PEERS[0])])
    looked = threading.Semaphore(0)

    def clock() -> float:
        looked.release()
        return time.time()

    reporter = Reporter(jobs, only_a, ScriptedWire(), routes, clock=clock, poll=0.01)
    reporter.start()
    try:
        for _ in range(40):
            assert looked.acquire(timeout=30)  # it looks again and again, in vain
        folder.mkdir()
        CommitmentSCP(jobs, reporter, routes)(action("2.25.1"), MODALITY)
        wait_until(lambda: jobs.job("2.25.1").state is State.REPORTED, "it is reported")
    finally:
        reporter.stop()
        database.close()


def test_a_ledger_that_cannot_be_written_is_a_resource_limitation(tmp_path: Path) -> None:
    jobs = JobLedger(Database(tmp_path / "missing" / "x"), Bounds(), Retry())
    routes = Routes([Route(PEERS[0])])
    scp = CommitmentSCP(jobs, Reporter(jobs, only_a, ScriptedWire(), routes), routes)
    with pytest.raises(Refused) as refused:
        scp(action("2.25.1"), MODALITY)
    assert refused.value.status == Status.RESOURCE_LIMITATION

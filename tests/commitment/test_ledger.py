"""The ledger on a real file: what it promises, keeps, forgets, and hands to one worker only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from gateway.commitment import inquiry, job
from gateway.commitment.database import Database
from gateway.commitment.digests import Digest, DigestLedger
from gateway.commitment.inquiries import InquiryLedger
from gateway.commitment.jobs import LEASE, JobLedger
from gateway.commitment.messages import CommitmentRequest, CommitmentResult, Reason, Reference
from gateway.commitment.records import Bounds, UnknownTransaction
from gateway.commitment.sweep import Sweep
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Status
from gateway.errors import Refused, StorageError

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")
ASKER = Caller("MODALITY", "127.0.0.1", "ct1", "GATEWAY")
ARCHIVE = Caller("VNA", peer="vna")
BOUNDS = Bounds(transactions=3, age=1000.0, instances=2)
RETRY = job.Retry(first=5, longest=60, attempts=3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "commitment.sqlite")
    yield found
    found.close()


@pytest.fixture
def jobs(database: Database) -> JobLedger:
    return JobLedger(database, BOUNDS, RETRY)


@pytest.fixture
def inquiries(database: Database) -> InquiryLedger:
    return InquiryLedger(database, BOUNDS)


def asked(uid: str, *references: Reference) -> CommitmentRequest:
    return CommitmentRequest(uid, references or (A, B))


def test_a_job_comes_back_as_it_was_written(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    found = jobs.job("2.25.1")
    assert (found.requester, found.state, found.instances) == (ASKER, job.State.ACCEPTED, 2)
    assert [(one.reference, one.reason) for one in jobs.instances("2.25.1")] == [(A, None), (B, None)]


def test_a_transaction_uid_is_used_once(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    with pytest.raises(Refused) as refused:
        jobs.accept(asked("2.25.1", A), Caller("OTHER"), 11.0)
    assert refused.value.status == Status.DUPLICATE_TRANSACTION_UID
    assert jobs.job("2.25.1").instances == 2


def test_the_result_follows_the_decision(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    assert jobs.decide("2.25.1", [0, Reason.NO_SUCH_OBJECT_INSTANCE], 11.0).state is job.State.REPORTING
    assert jobs.result("2.25.1") == CommitmentResult("2.25.1", (A,), {B: 0x0112})


def test_one_worker_only_holds_a_job_until_it_is_released(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    held = jobs.claim("one", 10.0)
    assert held is not None
    assert jobs.claim("two", 10.0) is None
    jobs.release("2.25.1", "two")  # not its to release
    assert jobs.claim("two", 10.0) is None
    jobs.release("2.25.1", "one")
    assert jobs.claim("two", 10.0) is not None


def test_the_lease_of_a_dead_worker_runs_out(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    jobs.claim("dead", 10.0)
    jobs.renew("dead", ["2.25.1"], 50.0)
    jobs.renew("other", ["2.25.1"], 70.0)  # not its to renew
    assert jobs.claim("two", 50.0 + LEASE) is None
    assert jobs.claim("two", 51.0 + LEASE) is not None


def test_a_start_frees_what_the_run_before_held(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    jobs.claim("dead", 10.0)
    assert jobs.recover() == 1
    assert jobs.claim("two", 10.0) is not None


def test_a_failed_report_is_due_after_its_pause_and_then_free(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    jobs.claim("one", 10.0)
    jobs.decide("2.25.1", [0, 0], 10.0)
    jobs.apply("2.25.1", job.Event.FAILED, 10.0, note="unreachable")
    assert jobs.claim("one", 14.9) is None
    found = jobs.claim("one", 15.0)
    assert found is not None
    assert found.note == "unreachable"


def test_a_clock_that_was_set_back_delays_nothing(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 1_000_000.0)
    assert jobs.claim("one", 10.0) is not None


def test_ended_jobs_make_room_and_unfinished_ones_never_do(jobs: JobLedger) -> None:
    for number in range(3):
        jobs.accept(asked(f"2.25.{number}"), ASKER, 10.0 + number)
    with pytest.raises(Refused) as refused:
        jobs.accept(asked("2.25.9"), ASKER, 20.0)
    assert refused.value.status == Status.RESOURCE_LIMITATION
    jobs.apply("2.25.1", job.Event.CANCEL, 21.0)
    jobs.accept(asked("2.25.9"), ASKER, 22.0)
    assert {one.transaction_uid for one in jobs.jobs()} == {"2.25.0", "2.25.2", "2.25.9"}
    assert jobs.instances("2.25.1") == []


def test_old_ended_jobs_are_forgotten(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    jobs.apply("2.25.1", job.Event.CANCEL, 20.0)
    jobs.accept(asked("2.25.2"), ASKER, 1021.0)
    with pytest.raises(UnknownTransaction):
        jobs.job("2.25.1")


def test_too_many_instances_are_refused(jobs: JobLedger) -> None:
    with pytest.raises(Refused) as refused:
        jobs.accept(asked("2.25.1", A, B, Reference(CT, "1.2.3.3")), ASKER, 10.0)
    assert refused.value.status == Status.RESOURCE_LIMITATION


def test_jobs_are_counted_by_state(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    jobs.accept(asked("2.25.2"), ASKER, 10.0)
    jobs.apply("2.25.2", job.Event.PAUSE, 11.0)
    assert {state: number for state, number in jobs.counts().items() if number} == {
        job.State.ACCEPTED: 1,
        job.State.PAUSED: 1,
    }


def test_a_report_decides_what_was_asked_and_nothing_else(inquiries: InquiryLedger) -> None:
    inquiries.begin(asked("2.25.1"), ARCHIVE, 10.0, timeout=60.0)
    found, news = inquiries.report(CommitmentResult("2.25.1", (A, Reference(CT, "9.9")), {}), 12.0)
    assert (found.state, news) == (inquiry.State.FAILURE, True)  # B is not spoken of
    assert [one.reason for one in inquiries.instances("2.25.1")] == [0, Reason.PROCESSING_FAILURE]


def test_a_report_for_an_unknown_transaction_is_not_written(inquiries: InquiryLedger) -> None:
    with pytest.raises(UnknownTransaction):
        inquiries.report(CommitmentResult("2.25.7", (A,), {}), 12.0)


def test_an_inquiry_expires_once_and_a_late_report_is_taken(inquiries: InquiryLedger) -> None:
    inquiries.begin(asked("2.25.1"), ARCHIVE, 10.0, timeout=60.0)
    inquiries.apply("2.25.1", inquiry.Event.TAKEN, 11.0)
    assert inquiries.expire(69.9) == []
    assert [one.state for one in inquiries.expire(70.0)] == [inquiry.State.EXPIRED]
    assert inquiries.expire(71.0) == []
    assert inquiries.report(CommitmentResult("2.25.1", (A, B), {}), 99.0)[0].state is inquiry.State.SUCCESS


def test_evidence_outlives_the_inquiry_and_ends_with_the_instance(inquiries: InquiryLedger, database: Database) -> None:
    inquiries.begin(asked("2.25.1"), ARCHIVE, 10.0, timeout=60.0)
    assert not inquiries.committed_elsewhere([A.sop_instance_uid])
    inquiries.report(CommitmentResult("2.25.1", (A, B), {}), 12.0)
    inquiries.begin(asked("2.25.2"), ARCHIVE, 2000.0, timeout=60.0)  # forgets the first, by age
    assert inquiries.inquiries()[0].transaction_uid == "2.25.2"
    assert inquiries.committed_elsewhere([A.sop_instance_uid, B.sop_instance_uid])
    assert not inquiries.committed_elsewhere([A.sop_instance_uid, "9.9"])
    assert not inquiries.committed_elsewhere([])
    here = StoredInstance("P", "1", "1.0", B.sop_instance_uid, CT, "1.2.840.10008.1.2", "/missing", 1, 0)
    assert Sweep(database, lambda *, sop_uids: [here]).page() == 1  # noqa: ARG005
    assert inquiries.committed_elsewhere([B.sop_instance_uid])
    assert not inquiries.committed_elsewhere([A.sop_instance_uid, B.sop_instance_uid])


def test_a_sweep_goes_round_in_pages(database: Database) -> None:
    digests = DigestLedger(database)
    digests.remember({f"1.{i:04}": Digest("1 2 3", "00") for i in range(1200)})
    asked: list[int] = []

    def nothing(*, sop_uids: Sequence[str]) -> list[StoredInstance]:
        asked.append(len(sop_uids))
        return []

    sweep = Sweep(database, nothing)
    assert [sweep.page() for _ in range(4)] == [500, 500, 200, 0]
    assert asked == [500, 500, 200]
    digests.remember({"1.1": Digest("1 2 3", "00")})
    assert sweep.page() == 1


def test_a_second_report_takes_evidence_back(inquiries: InquiryLedger) -> None:
    inquiries.begin(asked("2.25.1"), ARCHIVE, 10.0, timeout=60.0)
    inquiries.report(CommitmentResult("2.25.1", (A, B), {}), 12.0)
    assert inquiries.report(CommitmentResult("2.25.1", (A,), {B: 0x0112}), 13.0)[1]
    assert inquiries.committed_elsewhere([A.sop_instance_uid])
    assert not inquiries.committed_elsewhere([B.sop_instance_uid])


def test_a_ledger_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        JobLedger(Database(tmp_path / "missing" / "x.sqlite"), BOUNDS, RETRY).accept(asked("2.25.1"), ASKER, 1.0)


def test_threads_get_each_job_once(database: Database) -> None:
    jobs = JobLedger(database, Bounds(), RETRY)
    for number in range(40):
        jobs.accept(asked(f"2.25.{number}"), ASKER, 10.0)
    got: list[str] = []

    def work(owner: str) -> None:
        while (held := jobs.claim(owner, 10.0)) is not None:
            got.append(held.transaction_uid)
            jobs.decide(held.transaction_uid, [0, 0], 10.0)
            jobs.apply(held.transaction_uid, job.Event.DELIVERED, 10.0)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 40


def _accept_until_killed(path: str, written: str) -> None:
    jobs = JobLedger(Database(Path(path)), Bounds(), RETRY)
    with Path(written).open("a", buffering=1) as log:
        number = 0
        while True:
            jobs.accept(asked(f"2.25.{number}"), ASKER, 10.0)
            log.write(f"{number}\n")
            number += 1


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    database, log = tmp_path / "commitment.sqlite", tmp_path / "log"
    log.touch()
    process = multiprocessing.get_context("spawn").Process(target=_accept_until_killed, args=(str(database), str(log)))
    process.start()
    deadline = threading.Event()
    while log.read_text().count("\n") < 20:
        assert process.is_alive()
        deadline.wait(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = {one.transaction_uid for one in JobLedger(Database(database), Bounds(), RETRY).jobs(limit=100_000)}
    assert {f"2.25.{line}" for line in log.read_text().split()} <= found


def test_a_forked_worker_opens_its_own_connection(jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    child = in_a_fork(lambda: jobs.accept(asked("2.25.2"), ASKER, 11.0))
    assert os.waitpid(child, 0)[1] == 0
    assert {one.transaction_uid for one in jobs.jobs()} == {"2.25.1", "2.25.2"}


def test_a_ledger_of_a_newer_program_is_not_touched(database: Database, jobs: JobLedger) -> None:
    jobs.accept(asked("2.25.1"), ASKER, 10.0)
    with database.writing() as connection:
        connection.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StorageError, match="version 99"):
        jobs.jobs()


def in_a_fork(work: Callable[[], object]) -> int:
    """Do something in a forked process; its process ID."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def test_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    path = tmp_path / "commitment.sqlite"

    def accept(number: int) -> None:
        JobLedger(Database(path), Bounds(), RETRY).accept(asked(f"2.25.{number}"), ASKER, 10.0)

    children = [in_a_fork(partial(accept, number)) for number in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(JobLedger(Database(path), Bounds(), RETRY).jobs()) == 4

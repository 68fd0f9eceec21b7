"""The reporter: decides jobs and sends their reports until somebody answers (PS3.4 J.3.3).

Every worker runs one: a thread that looks for due jobs, and a few that work on them, so that one peer that is down does
not keep the others waiting. A job is claimed in the ledger, decided once, and reported; each of these steps is in the
ledger before the next, so a kill between any two costs a repetition at most, never a report.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from gateway import metrics
from gateway.commitment.decision import Decider
from gateway.commitment.job import Event, NotPossible, State
from gateway.commitment.jobs import LEASE, Job, JobLedger
from gateway.commitment.messages import PUSH_MODEL, WELL_KNOWN_INSTANCE, write_result
from gateway.commitment.ports import EventSender
from gateway.commitment.records import UnknownTransaction
from gateway.commitment.routes import Routes
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import EventChannel, EventReport
from gateway.errors import GatewayError, UpstreamError
from gateway.logs import get_logger

_POLL = 1.0
_CHECK_EVERY = 64
_log = get_logger("commitment")

Send = Callable[[EventReport], int]


class Reporter:
    """Works on open jobs until it is stopped.

    Args:
        clock: seconds since the epoch.
        tick: called at each look at the ledger, for what else has to be looked at now and then.
        poll: how often the ledger is looked at for jobs that other processes wrote or resumed, in seconds.
        workers: how many jobs are worked on at once.
    """

    def __init__(
        self,
        jobs: JobLedger,
        decider: Decider,
        wire: EventSender,
        routes: Routes,
        *,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], object] = lambda: None,
        poll: float = _POLL,
        workers: int = 4,
    ) -> None:
        self._jobs = jobs
        self._decider = decider
        self._wire = wire
        self._routes = routes
        self._clock = clock
        self._tick = tick
        self._poll = poll
        self._workers = workers
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._slots = threading.Semaphore(workers)
        self._held: set[str] = set()
        self._thread: threading.Thread | None = None

    @property
    def _owner(self) -> str:
        return f"{os.getpid()}.{id(self)}"

    @property
    def association_owner(self) -> str:
        """Who holds a job that is to be reported on its own association.

        Its lease is not renewed: where the association ends before the report, it runs out and the job is taken up.
        """
        return f"{self._owner}.association"

    def start(self) -> None:
        """Start working, in this process."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="commitment-reporter")
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Stop, and give the reports on their way some seconds; what is not answered is repeated after the next start.

        Args:
            grace: in seconds. A peer that hangs does not hold up the end of the process.
        """
        self._stopped.set()
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        limit = time.monotonic() + grace
        taken = [self._slots.acquire(timeout=max(0.0, limit - time.monotonic())) for _ in range(self._workers)]
        if not all(taken):
            _log.warning("commitment reports were left behind", jobs=taken.count(False))
        for _ in range(taken.count(True)):
            self._slots.release()

    def wake(self) -> None:
        """Look for due jobs now."""
        self._wake.set()

    def report_now(self, uid: str, channel: EventChannel) -> None:
        """Decide and report a job that was accepted for :attr:`association_owner`, in the calling thread."""
        self._work(self._jobs.job(uid), channel.report, self.association_owner)
        self.wake()

    def _run(self) -> None:
        renewed = self._clock()
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                if abs(self._clock() - renewed) > LEASE / 4:
                    renewed = self._clock()
                    self._jobs.renew(self._owner, sorted(self._held), renewed)
                self._hand_out()
                self._tick()
            except GatewayError as error:  # the disk; it may come back
                _log.error("the commitment ledger cannot be used", error=error)
            except Exception:  # noqa: BLE001 - the root of this thread, which must not end
                _log.exception("looking for commitment jobs failed")
            self._wake.wait(self._poll)

    def _hand_out(self) -> None:
        """Start work on what is due, a daemon thread for each job, within the number of workers."""
        while not self._stopped.is_set() and self._slots.acquire(blocking=False):
            job = None
            try:
                job = self._jobs.claim(self._owner, self._clock())
            finally:
                if job is None:
                    self._slots.release()
            if job is None:
                return
            self._held.add(job.transaction_uid)
            threading.Thread(target=self._finish, args=(job,), name="commitment-report", daemon=True).start()

    def _finish(self, job: Job) -> None:
        try:
            self._work(job, self._on_new_association(job), self._owner)
        finally:
            self._held.discard(job.transaction_uid)
            self._slots.release()
            self._wake.set()

    def _on_new_association(self, job: Job) -> Send:
        def send(event: EventReport) -> int:
            peer = self._routes.peer(job.requester)
            if peer is None:
                raise GatewayError("the requestor is no longer a configured peer")
            return self._wire.report(peer, event, job.requester.called)

        return send

    def _work(self, job: Job, send: Send, owner: str) -> None:
        """Bring one held job as far as it goes now; where even that cannot be written down, its lease runs out."""
        uid = job.transaction_uid
        try:
            self._advance(job, send, owner)
        except (NotPossible, UnknownTransaction) as error:
            _log.info("commitment job was taken away", transaction=uid, why=str(error))
        except GatewayError as error:
            _log.error("commitment job is left to its lease", transaction=uid, error=error)

    def _advance(self, job: Job, send: Send, owner: str) -> None:
        uid = job.transaction_uid
        try:
            if job.state is State.ACCEPTED:
                job = self._decide(job)
            if job.state is State.REPORTING and not self._stopped.is_set():
                self._report(job, send)
            else:
                self._jobs.release(uid, owner)
        except (NotPossible, UnknownTransaction):  # ended or forgotten by somebody else meanwhile
            self._jobs.release(uid, owner)
            raise
        except GatewayError as error:
            self._failed(uid, error.message)
        except Exception:  # noqa: BLE001 - the root of this work, and the decider may be anybody's
            _log.exception("commitment job failed", transaction=uid)
            self._failed(uid, "internal error")

    def _decide(self, job: Job) -> Job:
        uid = job.transaction_uid
        references = [one.reference for one in self._jobs.instances(uid)]
        began = time.monotonic()
        reasons: list[int] = []
        for _, reason in zip(references, self._decider(references, job.requester), strict=False):
            reasons.append(reason)
            if not self._is_wanted(uid, len(reasons)):
                return self._jobs.job(uid)
        if len(reasons) < len(references):
            raise GatewayError(f"the decider gave {len(reasons)} decisions for {len(references)} instances")
        failed = sum(map(bool, reasons))
        metrics.COMMITMENT_INSTANCES.labels("committed").inc(len(reasons) - failed)
        metrics.COMMITMENT_INSTANCES.labels("failed").inc(failed)
        _log.info("commitment decided", transaction=uid, instances=len(reasons), failed=failed,
                  seconds=round(time.monotonic() - began, 3))  # fmt: skip
        return self._jobs.decide(uid, reasons, self._clock())

    def _is_wanted(self, uid: str, decided: int) -> bool:
        """Whether to go on deciding; the ledger is asked now and then, since an operator may have held the job."""
        if self._stopped.is_set():
            return False
        return decided % _CHECK_EVERY != 0 or self._jobs.job(uid).state is State.ACCEPTED

    def _report(self, job: Job, send: Send) -> None:
        uid = job.transaction_uid
        result = self._jobs.result(uid)
        event = EventReport(
            PUSH_MODEL,
            WELL_KNOWN_INSTANCE,
            result.event_type,
            write_result(result, retrieve_aet=job.requester.called),
        )
        try:
            status = send(event)
        except UpstreamError as error:
            self._failed(uid, error.message)
            return
        if status == Status.RESOURCE_LIMITATION:  # it may have room later
            self._failed(uid, "the requestor has no resources for the report (0213H)")
            return
        taken = kind(status) is not Kind.FAILURE
        self._jobs.apply(uid, Event.DELIVERED if taken else Event.REJECTED, self._clock(), answer=status)
        metrics.COMMITMENT_REPORTS.labels("answered" if taken else "rejected").inc()
        _log.info("commitment reported", transaction=uid, status=f"{status:04X}H", failed=len(result.failed))

    def _failed(self, uid: str, why: str) -> None:
        metrics.COMMITMENT_REPORTS.labels("unanswered").inc()
        job = self._jobs.apply(uid, Event.FAILED, self._clock(), note=why)
        given_up = job.state is State.ABANDONED
        (_log.error if given_up else _log.warning)(
            "commitment report given up" if given_up else "commitment report to be repeated",
            transaction=uid, attempts=job.progress.attempts, why=why,
        )  # fmt: skip

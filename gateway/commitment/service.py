"""Storage commitment as the rooms above use it: handlers for the wire, both ledgers, and a start and a stop.

The names of the parts are the package docstring's. Nothing is opened by constructing it; :meth:`Commitment.prepare` is
called once before workers are forked, :meth:`Commitment.start` and :meth:`Commitment.stop` in each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from gateway import metrics
from gateway.commitment.database import Database
from gateway.commitment.decision import Decider
from gateway.commitment.digests import DigestLedger
from gateway.commitment.inquiries import Inquiry, InquiryLedger
from gateway.commitment.inquiry import State
from gateway.commitment.job import Retry
from gateway.commitment.jobs import JobLedger
from gateway.commitment.messages import Reference
from gateway.commitment.notes import RejectionLedger
from gateway.commitment.ports import ActionSender, EventSender
from gateway.commitment.records import Bounds
from gateway.commitment.reporter import Reporter
from gateway.commitment.routes import Route, Routes
from gateway.commitment.scp import CommitmentSCP
from gateway.commitment.scu import CommitmentSCU
from gateway.commitment.sweep import Sweep
from gateway.errors import StorageError
from gateway.logs import get_logger

_SWEEP_SECONDS = 10.0
_log = get_logger("commitment")


class Wire(ActionSender, EventSender, Protocol):
    """Associations in both roles."""


@dataclass(frozen=True)
class Settings:
    """How commitment behaves.

    Attributes:
        ledger: the ledger's file; its folder is made when it is missing.
        timeout: seconds until an inquiry without a report expires.
        linger: seconds to keep a request's association open for a report on it, for peers that report so.
        poll: seconds between two looks at the ledger for what other processes did.
    """

    ledger: Path
    bounds: Bounds = field(default_factory=Bounds)
    retry: Retry = field(default_factory=Retry)
    timeout: float = 86400.0
    linger: float = 10.0
    poll: float = 1.0


class Ledgers:
    """The ledgers alone: enough to look and to pause, resume and cancel, beside a running gateway or without one."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings.ledger)
        self.jobs = JobLedger(self.database, settings.bounds, settings.retry)
        self.inquiries = InquiryLedger(self.database, settings.bounds)
        self.digests = DigestLedger(self.database)
        self.rejections = RejectionLedger(self.database)

    def prepare(self) -> None:
        """Make the folder of the ledger.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.database.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder of the commitment ledger cannot be made: {error.strerror}") from error

    def close(self) -> None:
        """Close the file in this process."""
        self.database.close()


class Commitment:
    """Both roles of storage commitment.

    Args:
        sweep: forgets what is known about instances that are no longer here.

    Attributes:
        action: takes N-ACTION requests.
        event: takes N-EVENT-REPORT requests.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        ledgers: Ledgers,
        decider: Decider,
        wire: Wire,
        routes: Iterable[Route],
        clock: Callable[[], float] = time.time,
        *,
        sweep: Sweep | None = None,
    ) -> None:
        self.clock = clock
        self.ledgers = ledgers
        self.routes = Routes(routes)
        self._linger = settings.linger
        self._counting = False
        self._sweep = sweep
        self._swept = time.monotonic()
        self._scu = CommitmentSCU(ledgers.inquiries, wire, timeout=settings.timeout, clock=clock)
        self._reporter = Reporter(
            ledgers.jobs, decider, wire, self.routes, clock=clock, tick=self._look, poll=settings.poll
        )
        self.action = CommitmentSCP(ledgers.jobs, self._reporter, self.routes, clock)
        self.event = self._scu.on_event

    def prepare(self) -> None:
        """Take over what an earlier run left, before any worker runs.

        Raises:
            StorageError: the ledger cannot be used.
        """
        self.ledgers.prepare()
        if waiting := self.ledgers.jobs.recover():
            _log.info("commitment reports are still owed", jobs=waiting)

    def start(self, *, counting: bool = True) -> None:
        """Begin to report, in this process.

        Args:
            counting: keep the gauge of transactions by state, and forget what is known about instances that are gone;
                in one process of several only, since all see the same.
        """
        self._counting = counting
        self._reporter.start()

    def _look(self) -> None:
        """What the reporter's thread has to look at now and then."""
        self._scu.expire()
        if self._counting:
            for state, number in self.ledgers.jobs.counts().items():
                metrics.COMMITMENT_TRANSACTIONS.labels("scp", state.value).set(number)
            for asked, number in self.ledgers.inquiries.counts().items():
                metrics.COMMITMENT_TRANSACTIONS.labels("scu", asked.value).set(number)
            if self._sweep and time.monotonic() - self._swept > _SWEEP_SECONDS:
                self._swept = time.monotonic()
                self._sweep.page()

    def stop(self) -> None:
        """Stop reporting; what is owed is in the ledger."""
        self._reporter.stop()
        self.ledgers.close()

    def wake(self) -> None:
        """Look for due jobs now, after one was resumed."""
        self._reporter.wake()

    def request(self, peer: str, references: Sequence[Reference], *, answer_within: float | None = None) -> Inquiry:
        """Ask a configured peer, by name, to commit to instances; see :meth:`CommitmentSCU.request`.

        Args:
            answer_within: seconds for the response, in place of the peer's configured ones.

        Raises:
            KeyError: there is no such peer.
        """
        known = self.routes.named(peer)
        if known is None:
            raise KeyError(peer)
        if not self.routes.can_hear_from(peer):
            _log.warning("a report of this peer will be rejected: it lacks the permission commit", peer=peer)
        if answer_within is not None:
            known = replace(known, timeouts=replace(known.timeouts, dimse=answer_within))
        same = self.routes.wants_same_association(peer)
        inquiry = self._scu.request(known, references, linger=self._linger if same else 0.0)
        if inquiry.state is State.REFUSED:
            _log.warning("commitment refused", transaction=inquiry.transaction_uid, peer=peer, why=inquiry.note)
        return inquiry

    def expire(self) -> None:
        """End inquiries whose time is over now, before somebody looks at them."""
        self._scu.expire()

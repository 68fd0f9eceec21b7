"""Responses to C-MOVE and C-GET: pending ones now and then, and the final one (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from gateway.dicom.attributes import Attributes
from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Status
from gateway.dimse.exchange import Message
from gateway.dimse.serving import Outcome, final, guarded
from gateway.dimse.session import Session, closing
from gateway.dimse.sopclasses import IMPLICIT

_PENDING_SECONDS = 1.0


def run_retrieve(
    session: Session,
    message: Message,
    begin: Callable[[], Iterator[SubOperations]],
    cancelled: Callable[[], bool],
) -> int:
    """Carry out a C-MOVE or C-GET: pending responses now and then, and the final one."""
    last = SubOperations(0)
    told = monotonic()

    def run() -> Outcome:
        nonlocal last, told
        with closing(begin()) as stream:
            for last in stream:
                if last.remaining and monotonic() - told >= _PENDING_SECONDS:
                    told = monotonic()
                    _send_counters(session, message, Outcome(Status.PENDING), last)
        return Outcome(Status.CANCEL if last.remaining and cancelled() else last.final)

    outcome = guarded(run, Status.UNABLE_TO_PROCESS)
    _send_counters(session, message, outcome, last)
    session.counts.update(completed=last.completed, failed=last.failed, warning=last.warning)
    return outcome.status


def _send_counters(session: Session, message: Message, outcome: Outcome, counters: SubOperations) -> None:
    # Remaining only while there is a rest: pending and cancel (PS3.4 C.4.2.1.6). The list of what failed stands in
    # final responses alone (C.4.2.1.3).
    command = final(message, outcome)
    unfinished = outcome.status in {Status.PENDING, Status.CANCEL}
    command.remaining = counters.remaining if unfinished else None
    command.completed, command.failed, command.warning = counters.completed, counters.failed, counters.warning
    dataset = None
    if counters.failed_uids and outcome.status not in {Status.PENDING, Status.SUCCESS}:
        identifier = Attributes.of({"FailedSOPInstanceUIDList": counters.failed_uids})
        dataset = identifier.encode(implicit=message.context.transfer_syntax == IMPLICIT)
    session.exchange.send(message.context.id, command, dataset)

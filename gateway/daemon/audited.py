"""Handlers and policy with the audit trail around them: an operation is told when it has ended, with how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.audit.messages import Outcome
from gateway.daemon.auditing import Auditor
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.models import Level
from gateway.dicom.status import Kind, kind
from gateway.dimse.negotiation import AssociateReject, UserIdentity
from gateway.dimse.ports import (
    Admission,
    Cancelled,
    FindHandler,
    GetHandler,
    Incoming,
    MoveHandler,
    Originator,
    Policy,
    Receiver,
    StoreChannel,
    StoreRequest,
)
from gateway.dimse.services import Handlers
from gateway.errors import GatewayError


def audited(handlers: Handlers, auditor: Auditor) -> Handlers:
    """The same handlers, and the trail hears of what they do."""
    return replace(
        handlers,
        find=AuditedFind(handlers.find, auditor) if handlers.find else None,
        move=AuditedMove(handlers.move, auditor) if handlers.move else None,
        get=AuditedGet(handlers.get, auditor) if handlers.get else None,
        store=AuditedReceiver(handlers.store, auditor) if handlers.store else None,
    )


@dataclass(frozen=True)
class AuditedPolicy:
    """Tells of callers that are turned away."""

    inner: Policy
    auditor: Auditor

    def admit(
        self, calling: str, called: str, address: str, identity: UserIdentity | None
    ) -> Admission | AssociateReject:
        """See :class:`gateway.dimse.ports.Policy`."""
        answer = self.inner.admit(calling, called, address, identity)
        if isinstance(answer, AssociateReject):
            self.auditor.rejected(calling, called, address)
        return answer


@dataclass(frozen=True)
class AuditedFind:
    """Tells of queries."""

    inner: FindHandler
    auditor: Auditor

    def __call__(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        """See :class:`gateway.dimse.ports.FindHandler`."""
        outcome = Outcome.SERIOUS_FAILURE
        try:
            yield from self.inner(query, caller, cancelled)
            outcome = Outcome.SUCCESS
        except GeneratorExit:
            outcome = Outcome.SUCCESS  # cancelled: what was answered so far was answered
            raise
        finally:
            self.auditor.queried(query, caller, outcome)


@dataclass(frozen=True)
class AuditedMove:
    """Tells of what was sent to a move destination."""

    inner: MoveHandler
    auditor: Auditor

    def __call__(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """See :class:`gateway.dimse.ports.MoveHandler`."""
        counters = self.inner(retrieve, destination, caller, originator, cancelled)
        return _watched(counters, self.auditor, retrieve, caller, destination)


@dataclass(frozen=True)
class AuditedGet:
    """Tells of what was sent to a C-GET requestor."""

    inner: GetHandler
    auditor: Auditor

    def __call__(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """See :class:`gateway.dimse.ports.GetHandler`."""
        counters = self.inner(retrieve, channel, caller, cancelled)
        return _watched(counters, self.auditor, retrieve, caller, caller.aet)


def _watched(
    counters: Iterator[SubOperations], auditor: Auditor, retrieve: Retrieve, caller: Caller, destination: str
) -> Iterator[SubOperations]:
    last: SubOperations | None = None
    try:
        for last in counters:
            yield last
    finally:
        failed = last is None or bool(last.failed or last.remaining)
        sent = last is not None and bool(last.completed or last.warning)
        outcome = Outcome.SUCCESS if not failed else Outcome.MINOR_FAILURE if sent else Outcome.SERIOUS_FAILURE
        auditor.transferred(retrieve.uids.get(Level.STUDY, ()), caller, destination, outcome)


@dataclass(frozen=True)
class AuditedReceiver:
    """Tells of stored instances."""

    inner: Receiver
    auditor: Auditor

    def begin(self, request: StoreRequest) -> Incoming:
        """See :class:`gateway.dimse.ports.Receiver`."""
        try:
            return _AuditedIncoming(self.inner.begin(request), request, self.auditor)
        except GatewayError:
            self.auditor.received(request, Outcome.SERIOUS_FAILURE)
            raise


@dataclass(frozen=True)
class _AuditedIncoming:
    inner: Incoming
    request: StoreRequest
    auditor: Auditor

    @property
    def fd(self) -> int:
        return self.inner.fd

    def commit(self) -> int:
        outcome = Outcome.SERIOUS_FAILURE
        try:
            status = self.inner.commit()
            outcome = Outcome.SERIOUS_FAILURE if kind(status) is Kind.FAILURE else Outcome.SUCCESS
            return status
        finally:
            self.auditor.received(self.request, outcome)

    def abort(self) -> None:
        self.inner.abort()
        self.auditor.received(self.request, Outcome.SERIOUS_FAILURE)

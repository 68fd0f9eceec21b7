"""The SCU: asks peers to commit, and takes their reports whenever and on whatever association they come."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from gateway import metrics
from gateway.commitment.inquiries import Inquiry, InquiryLedger
from gateway.commitment.inquiry import Event, State
from gateway.commitment.messages import (
    PUSH_MODEL,
    REQUEST_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentRequest,
    Reference,
    read_result,
    write_request,
)
from gateway.commitment.ports import ActionSender
from gateway.commitment.records import UnknownTransaction
from gateway.dicom.attributes import MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import ActionRequest, EventReport, Peer
from gateway.errors import Refused, StorageError, UpstreamError
from gateway.logs import get_logger

_log = get_logger("commitment")


def new_transaction_uid() -> str:
    """A Transaction UID nobody else will make (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


class CommitmentSCU:
    """Asks peers for commitment.

    Args:
        timeout: seconds until an inquiry without a report is expired.
        linger: seconds to keep the association of a request open for a report on it; 0 releases it at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        inquiries: InquiryLedger,
        wire: ActionSender,
        *,
        timeout: float = 86400.0,
        linger: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.inquiries = inquiries
        self._wire = wire
        self._timeout = timeout
        self._linger = linger
        self._clock = clock

    def request(self, peer: Peer, references: Sequence[Reference], *, linger: float | None = None) -> Inquiry:
        """Ask a peer to commit to instances.

        Returns:
            The inquiry: pending, refused when the peer could not be reached or did not take the request, or already
            decided when the report came on the same association.

        Raises:
            ValueError: no instances.
            Refused: 0213H, more than the ledger takes.
            StorageError: the ledger cannot be written; nothing was sent.
        """
        if not references:
            raise ValueError("there are no instances to ask for")
        asked = CommitmentRequest(new_transaction_uid(), tuple(dict.fromkeys(references)))
        uid = asked.transaction_uid
        self.inquiries.begin(asked, Caller(peer.aet, peer.host, peer.name), self._clock(), self._timeout)
        action = ActionRequest(PUSH_MODEL, WELL_KNOWN_INSTANCE, REQUEST_COMMITMENT, write_request(asked))
        try:
            status = self._wire.action(peer, action, self.on_event, self._linger if linger is None else linger)
        except UpstreamError as error:
            return self._refused(uid, error.message)
        if kind(status) is Kind.FAILURE:
            return self._refused(uid, f"the peer answered {status:04X}H")
        _log.info("commitment asked for", transaction=uid, peer=peer.name, instances=len(asked.references))
        return self.inquiries.apply(uid, Event.TAKEN, self._clock())

    def _refused(self, uid: str, why: str) -> Inquiry:
        inquiry = self.inquiries.apply(uid, Event.REFUSED, self._clock(), why)
        if inquiry.state is State.REFUSED:
            metrics.COMMITMENT_INQUIRIES.labels("refused").inc()
        return inquiry

    def on_event(self, event: EventReport, caller: Caller) -> None:
        """Take a report; an :class:`~gateway.dimse.ports.EventHandler`.

        The sequences say what was committed; an Event Type ID that contradicts them is not believed.

        Raises:
            Refused: 0112H, 0118H or 0113H, not an event of this service; 0115H, not understood, for a transaction we
                do not know, or from somebody we did not ask; 0213H, it could not be written down.
        """
        try:
            inquiry, news = self._take(event, caller)
        except Refused as refused:
            metrics.COMMITMENT_EVENTS.labels("refused").inc()
            _log.warning("commitment report refused", status=f"{refused.status:04X}H", why=refused.message)
            raise
        metrics.COMMITMENT_EVENTS.labels("taken" if news else "repeated").inc()
        if news:
            metrics.COMMITMENT_INQUIRIES.labels(inquiry.state.value).inc()
        _log.info("commitment report", transaction=inquiry.transaction_uid, state=inquiry.state.value, news=news)

    def _take(self, event: EventReport, caller: Caller) -> tuple[Inquiry, bool]:
        _check(event)
        try:
            result = read_result(event.information)
        except MalformedDataset as error:
            raise Refused(error.reason, Status.INVALID_ARGUMENT_VALUE) from error
        try:
            asked = self.inquiries.inquiry(result.transaction_uid)
            if caller.aet != asked.aet and not (caller.peer and caller.peer == asked.peer):
                raise Refused("the report is not from the peer that was asked", Status.INVALID_ARGUMENT_VALUE)
            return self.inquiries.report(result, self._clock())
        except UnknownTransaction as error:
            raise Refused("unknown Transaction UID", Status.INVALID_ARGUMENT_VALUE) from error
        except StorageError as error:
            raise Refused("the ledger cannot be written", Status.RESOURCE_LIMITATION) from error

    def expire(self) -> None:
        """End inquiries whose time is over."""
        for inquiry in self.inquiries.expire(self._clock()):
            metrics.COMMITMENT_INQUIRIES.labels("expired").inc()
            _log.warning("commitment not reported in time", transaction=inquiry.transaction_uid, peer=inquiry.peer)


def _check(event: EventReport) -> None:
    if event.sop_class_uid != PUSH_MODEL:
        raise Refused("not the Push Model", Status.NO_SUCH_SOP_CLASS)
    if event.sop_instance_uid != WELL_KNOWN_INSTANCE:
        raise Refused("not the well-known instance", Status.NO_SUCH_OBJECT_INSTANCE)
    if event.event_type not in {1, 2}:
        raise Refused("not a commitment report", Status.NO_SUCH_EVENT_TYPE)

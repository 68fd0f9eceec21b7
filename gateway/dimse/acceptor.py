"""The life of an association that a peer requested, in its own thread (PS3.8 section 9.2, acceptor's states).

TLS handshake and A-ASSOCIATE-RQ within one absolute deadline (ARTIM), then negotiation, then requests one at a time
until release, abort, silence or the server's wish to stop.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from gateway import metrics
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS
from gateway.dimse import acse, pdu
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.negotiation import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNISED,
    CALLING_AE_NOT_RECOGNISED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    negotiated,
    preflight,
)
from gateway.dimse.pacing import Pace
from gateway.dimse.pdu import Control, ProtocolError
from gateway.dimse.ports import Admission, Policy
from gateway.dimse.reception import Reception
from gateway.dimse.services import Dispatcher
from gateway.dimse.session import Session
from gateway.dimse.slots import Full, Slot
from gateway.dimse.wire import Channel, Lost, unexpected
from gateway.errors import UpstreamKind
from gateway.logs import bound, get_logger
from gateway.rates import Buckets

_log = get_logger("dimse")
_numbers = itertools.count(1)
"""Numbers the associations of a process on its log lines."""
_REASONS = {
    CALLING_AE_NOT_RECOGNISED: "calling_aet",
    CALLED_AE_NOT_RECOGNISED: "called_aet",
    APPLICATION_CONTEXT_NOT_SUPPORTED: "application_context",
    PROTOCOL_VERSION_NOT_SUPPORTED: "protocol_version",
}


@dataclass(frozen=True)
class Deadlines:
    """How long an acceptor waits, in seconds."""

    setup: float = 10.0
    """From the first byte to the whole A-ASSOCIATE-RQ, TLS handshake included."""
    idle: float = 300.0
    """From the end of a request to the next."""
    dimse: float = 60.0
    """For the response to a C-STORE sub-operation of a C-GET."""
    network: float = 30.0
    """For one PDU to be read or written whole."""
    turn: float = 10.0
    """For a request over its peer's rate to get its turn; callers wait 30 s and more for a response."""
    linger: float = 5.0
    """For the peer to close after A-RELEASE-RP, A-ASSOCIATE-RJ or A-ABORT (Sta13)."""


@dataclass(frozen=True)
class Acceptor:
    """What all associations of a server share."""

    reception: Reception
    dispatcher: Dispatcher
    policy: Policy
    deadlines: Deadlines
    max_length: int
    tls: ssl.SSLContext | None
    untrusted: Callable[[str], None]
    buckets: Buckets


class AcceptedAssociation:
    """One association from its first byte to its last.

    Attributes:
        idle: no operation is running, so a stopping server need not wait for it.
    """

    def __init__(
        self, acceptor: Acceptor, sock: socket.socket, address: str, slot: Slot, stopping: threading.Event
    ) -> None:
        self._acceptor = acceptor
        self._sock = sock
        self._address = address
        self._slot = slot
        self._stopping = stopping
        self._channel: Channel | None = None
        self.idle = True

    def run(self) -> None:
        """Serve the association to its end; raises nothing."""
        with bound(association=f"{os.getpid()}-{next(_numbers)}", address=self._address):
            self._run_guarded()

    def _run_guarded(self) -> None:
        try:
            self._run()
        except Lost as error:
            self._ended(error)
            _forget_frames(error)
        except ProtocolError as error:
            _log.warning("association aborted", reason=error.message)
            self._abort(error.reason)
            _forget_frames(error)
        except OSError as error:  # the TLS handshake, or a socket that died before it was set up
            _log.info("connection failed", error=error)
        except Exception:  # noqa: BLE001 - the root of the thread
            _log.exception("association failed")
            self._abort(pdu.AbortReason.NOT_SPECIFIED)
        finally:
            self._sock.close()

    def wake(self) -> None:
        """Make an idle association notice that the server stops."""
        with contextlib.suppress(OSError):  # it has just ended by itself
            self._sock.shutdown(socket.SHUT_RD)

    def _abort(self, reason: int | None) -> None:
        if self._channel:
            self._channel.abort(reason)

    def _ended(self, error: Lost) -> None:
        if self._stopping.is_set() or error.kind is UpstreamKind.TIMEOUT:
            self._abort(pdu.AbortReason.NOT_SPECIFIED)
        if not self._stopping.is_set():
            _log.info("association ended", reason=error.message)

    def _run(self) -> None:
        deadlines = self._acceptor.deadlines
        limit = monotonic() + deadlines.setup
        if self._acceptor.tls:
            self._sock.settimeout(deadlines.setup)
            self._sock = self._shake_hands(self._acceptor.tls)
        channel = Channel(self._sock, network=deadlines.network, max_length=self._acceptor.max_length)
        self._channel = channel
        first = channel.event(limit)
        if not isinstance(first, Control) or first.type != pdu.ASSOCIATE_RQ:
            if isinstance(first, Control) and first.type == pdu.ABORT:
                raise Lost("aborted before it began", UpstreamKind.ABORTED)
            raise unexpected(first)
        request = self._acceptor.reception.read(first.data)
        answer = preflight(request) or self._acceptor.policy.admit(
            request.calling, request.called, self._address, request.identity
        )
        if isinstance(answer, AssociateReject):
            self._reject(channel, request, answer, _REASONS.get(answer, "other"))
            return
        if not self._slot.admit(answer.peer, answer.allowance.associations):
            self._reject(channel, request, Full.PEER.reject, Full.PEER.value)
            return
        settled = self._acceptor.reception.answer(first.data, request, answer.verbs)
        channel.send(settled.pdu)
        caller = Caller(request.calling, self._address, answer.peer, request.called)
        session = Session(
            Exchange(channel, settled.contexts, request.max_length),
            caller,
            answer,
            _settled(settled.accept),
            deadlines.dimse,
            self._pace(answer),
        )
        with bound(peer=answer.peer or "unknown", calling=request.calling):
            metrics.ASSOCIATIONS_ACCEPTED.labels(answer.peer or "unknown").inc()
            self._serve(session)

    def _shake_hands(self, tls: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return tls.wrap_socket(self._sock, server_side=True)
        except OSError as error:
            metrics.ASSOCIATIONS_REJECTED.labels("tls").inc()
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):  # that one just went away
                self._acceptor.untrusted(self._address)
            raise

    def _pace(self, admission: Admission) -> Pace | None:
        acceptor, rate = self._acceptor, admission.allowance.requests
        if rate is None:
            return None
        return Pace(admission.peer, rate, acceptor.buckets, acceptor.deadlines.turn, self._stopping)

    def _reject(self, channel: Channel, request: AssociateRequest, reject: AssociateReject, reason: str) -> None:
        metrics.ASSOCIATIONS_REJECTED.labels(reason).inc()
        _log.warning(
            "association rejected",
            calling=request.calling,
            called=request.called,
            reject=f"{reject.result}/{reject.source}/{reject.reason}",
        )
        channel.send(acse.encode_reject(reject))
        channel.linger(self._acceptor.deadlines.linger)

    def _serve(self, session: Session) -> None:
        deadlines = self._acceptor.deadlines
        while not self._stopping.is_set():
            message = self._next(session.exchange, deadlines.idle)
            if message is None:
                return
            self.idle = False
            self._acceptor.dispatcher.serve(session, message)
            self.idle = True
        # Whoever has just got its last answer is about to release, and would take an abort for a failure.
        if self._next(session.exchange, deadlines.linger) is not None:
            raise Lost("the server stops", UpstreamKind.ABORTED)

    def _next(self, exchange: Exchange, seconds: float) -> Message | None:
        """The next request; None when the association was released instead."""
        message = exchange.receive(monotonic() + seconds)
        if message is None:
            exchange.channel.send(pdu.RELEASE_REPLY)
            exchange.channel.linger(self._acceptor.deadlines.linger)
        return message


def _forget_frames(error: BaseException | None) -> None:
    """The exchange keeps what ended it, whose frames keep the exchange: its buffers would wait for the collector."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _settled(accept: AssociateAccept) -> dict[str, Negotiated]:
    """What extended negotiation settled, by SOP class."""
    classes = {*FIND_MODELS, *MOVE_MODELS, *GET_MODELS}
    return {uid: negotiated(answered) for uid, answered in accept.extended.items() if uid in classes}

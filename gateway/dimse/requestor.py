"""Associations that we request: connect, negotiate, ask, release (PS3.8 9.2 requestor's states, PS3.4 C, J).

Whatever goes wrong with the peer, from DNS to a truncated answer, is an :class:`~gateway.errors.UpstreamError` of
the right kind. :meth:`Association.find` ends normally only on a final 0000H: nothing else is an answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self

from gateway import metrics
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated
from gateway.dicom.instance import Outgoing
from gateway.dicom.models import VERIFICATION
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse import acse, pdu
from gateway.dimse.command import Command, Field, cancel, response
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.negotiation import (
    Accepted,
    AssociateRequest,
    Role,
    UserIdentity,
    negotiated,
    propose,
    usable_contexts,
)
from gateway.dimse.pdu import Control, ProtocolError
from gateway.dimse.ports import ActionRequest, EventHandler, EventReport, Originator, Peer, Receiver
from gateway.dimse.ports import Cancelled as CancelSignal
from gateway.dimse.sender import Sender
from gateway.dimse.services import (
    await_status,
    event_command,
    read_attributes,
    receive_instance,
    require_response,
    take_event,
)
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Channel, Lost, unexpected
from gateway.errors import Cancelled, UpstreamError, UpstreamKind

_MEDIUM = 0
_CANCEL_SECONDS = 5.0
"""How long a cancelled operation may take to say that it has ended, before the association is aborted."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class RetrieveProgress:
    """A response to C-MOVE or C-GET: counters, and on the final one its status.

    Attributes:
        status: FF00H on pending responses.
        failed_uids: Failed SOP Instance UID List of the final response.
    """

    status: int
    remaining: int | None
    completed: int
    failed: int
    warning: int
    failed_uids: tuple[str, ...] = ()
    comment: str = ""


def connect(
    peer: Peer,
    calling_aet: str,
    contexts: Iterable[tuple[str, str]],
    *,
    roles: Mapping[str, Role] | None = None,
    extended: Mapping[str, bytes] | None = None,
    identity: UserIdentity | None = None,
    max_length: int = pdu.MAX_PDU,
) -> Association:
    """Open an association.

    Args:
        contexts: (SOP class, transfer syntax) pairs; each becomes a presentation context of its own.
        roles: SOP classes for which we propose other roles than SCU.
        extended: Service Class Application Information by SOP class.

    Raises:
        UpstreamError: the peer cannot be reached, rejects, or does not answer in time.
        ValueError: more than 128 contexts.
    """
    request = AssociateRequest(
        calling_aet,
        peer.aet,
        propose(contexts),
        max_length,
        roles=roles or {},
        extended=extended or {},
        identity=identity,
    )
    sock = _dial(peer)
    try:
        return _associate(peer, sock, request)
    except BaseException:
        sock.close()
        raise


def _dial(peer: Peer) -> socket.socket:
    limit = monotonic() + peer.timeouts.connect
    try:
        sock = socket.create_connection((peer.host, peer.port), peer.timeouts.connect)
    except TimeoutError as error:
        raise UpstreamError(f"{peer.name}: connection timed out", UpstreamKind.TIMEOUT) from error
    except OSError as error:
        raise UpstreamError(f"{peer.name}: cannot connect", UpstreamKind.UNREACHABLE) from error
    if peer.tls is None:
        return sock
    try:
        sock.settimeout(max(0.001, limit - monotonic()))
        return peer.tls.wrap_socket(sock, server_hostname=peer.host)
    except TimeoutError as error:
        sock.close()
        raise UpstreamError(f"{peer.name}: TLS handshake timed out", UpstreamKind.TIMEOUT) from error
    except (ssl.SSLError, OSError) as error:
        sock.close()
        raise UpstreamError(f"{peer.name}: TLS handshake failed", UpstreamKind.UNREACHABLE) from error


def _associate(peer: Peer, sock: socket.socket, request: AssociateRequest) -> Association:
    channel = Channel(sock, network=peer.timeouts.network, max_length=request.max_length)
    try:
        channel.send(acse.encode_request(request))
        answer = channel.event(monotonic() + peer.timeouts.acse)
        if not isinstance(answer, Control) or answer.type not in {pdu.ASSOCIATE_AC, pdu.ASSOCIATE_RJ, pdu.ABORT}:
            raise unexpected(answer)
        if answer.type == pdu.ABORT:
            raise Lost("association aborted by the peer", UpstreamKind.ABORTED)
        if answer.type == pdu.ASSOCIATE_RJ:
            channel.close()
            reject = acse.decode_reject(answer.data)
            what = f"{reject.result}/{reject.source}/{reject.reason}"
            raise UpstreamError(f"{peer.name}: association rejected ({what})", UpstreamKind.REJECTED)
        accept = acse.decode_accept(answer.data)
    except (Lost, ProtocolError) as error:
        channel.abort(error.reason if isinstance(error, ProtocolError) else 0)
        raise _translated(peer, error) from error
    extended = {uid: negotiated(answered) for uid, answered in accept.extended.items()}
    return Association(peer, Exchange(channel, usable_contexts(request, accept), accept.max_length), extended)


def _translated(peer: Peer, error: UpstreamError) -> UpstreamError:
    # A plain UpstreamError: a Lost that crossed into another association's operation would be taken for its own.
    return UpstreamError(f"{peer.name}: {error.message}", error.kind, upstream_status=error.upstream_status)


class Association:
    """An open association with a peer; as a context manager it is released at the end, or aborted on an error.

    Not safe for use by several threads at once.

    Attributes:
        negotiated: what extended negotiation settled, by SOP class.
    """

    def __init__(self, peer: Peer, exchange: Exchange, extended: Mapping[str, Negotiated]) -> None:
        self.peer = peer
        self.negotiated = extended
        self._exchange = exchange
        self._last_id = 0
        self._open = True
        self._sender = Sender(exchange, self._next_id, peer.timeouts.dimse)
        metrics.ASSOCIATIONS.labels("requestor").inc()

    @property
    def contexts(self) -> tuple[Accepted, ...]:
        """The presentation contexts the peer accepted."""
        return tuple(self._exchange.contexts.values())

    @property
    def is_open(self) -> bool:
        """Whether requests can still be sent, as far as is known."""
        return self._open

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether instances of a SOP class can be sent in a transfer syntax."""
        return self._sender.accepts(sop_class_uid, transfer_syntax_uid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind_ is None:
            self.release()
        else:
            self.abort()

    def release(self) -> None:
        """Release the association; a peer that does not answer is left (PS3.8 7.2)."""
        if not self._open:
            return
        channel = self._exchange.channel
        limit = monotonic() + self.peer.timeouts.acse
        try:
            channel.send(pdu.RELEASE_REQUEST)
            while True:
                piece = channel.event(limit)
                if isinstance(piece, Control) and piece.type in {pdu.RELEASE_RP, pdu.ABORT}:
                    break
                if isinstance(piece, Control) and piece.type == pdu.RELEASE_RQ:
                    # Release collision: the requestor answers first, then waits for its own answer (PS3.8 Sta9, Sta11).
                    channel.send(pdu.RELEASE_REPLY)
        except (Lost, ProtocolError):
            channel.abort()
        self._close()

    def abort(self) -> None:
        """End the association at once."""
        if self._open:
            self._exchange.channel.abort()
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._exchange.channel.close()
            metrics.ASSOCIATIONS.labels("requestor").dec()

    def _next_id(self) -> int:
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _context(self, sop_class: str) -> Accepted:
        for context in self._exchange.contexts.values():
            if context.abstract_syntax == sop_class and context.as_scu:
                return context
        raise UpstreamError(f"{self.peer.name}: presentation context not accepted", UpstreamKind.REJECTED)

    @contextlib.contextmanager
    def _conversing(self) -> Iterator[None]:
        """Translate what the wire raises; whatever it was, the association is over."""
        if not self._open:
            raise UpstreamError(f"{self.peer.name}: association is closed", UpstreamKind.ABORTED)
        try:
            yield
        except (Lost, ProtocolError) as error:
            self._exchange.channel.abort(error.reason if isinstance(error, ProtocolError) else 0)
            self._close()
            raise _translated(self.peer, error) from error

    def _ask(self, context: Accepted, command: Command, dataset: Attributes | None) -> None:
        body = dataset.encode(implicit=context.transfer_syntax == IMPLICIT) if dataset is not None else None
        self._exchange.send(context.id, command, body)

    def _attributes(self, message: Message) -> Attributes:
        try:
            return read_attributes(self._exchange, message)
        except MalformedDataset as error:
            raise ProtocolError("a data set that cannot be read") from error

    def echo(self) -> int:
        """C-ECHO; returns the status.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            context = self._context(VERIFICATION)
            command = Command(Field.C_ECHO, message_id=self._next_id(), sop_class=VERIFICATION)
            return self._simple(context, command, None)

    def _simple(self, context: Accepted, command: Command, dataset: Attributes | None) -> int:
        """A request with one response: its status."""
        self._ask(context, command, dataset)
        return await_status(self._exchange, command, self.peer.timeouts.dimse)

    def find(self, sop_class: str, identifier: Attributes, cancelled: CancelSignal = _never) -> Iterator[Attributes]:
        """C-FIND; yields the answers as they arrive.

        Closing the iterator early cancels the operation at the peer.

        Raises:
            UpstreamError: a final status other than 0000H, abort, silence or garbage.
            Cancelled: ``cancelled()`` became true; the peer was told with C-CANCEL.
        """
        with self._conversing():
            context = self._context(sop_class)
            command = Command(Field.C_FIND, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM)
            self._ask(context, command, identifier)
            ended = False
            try:
                while True:
                    message = self._next(command, None, cancelled)
                    ended = kind(message.command.status or 0) is not Kind.PENDING
                    answer = self._attributes(message)
                    if ended:
                        break
                    if not message.command.has_dataset:
                        raise ProtocolError("pending response without identifier")
                    yield answer
            finally:
                if not ended and self._open:
                    self._cancel(context, command, None)
            self._require_success(message.command)

    def _require_success(self, final: Command) -> None:
        if final.status != Status.SUCCESS:
            raise UpstreamError(
                f"{self.peer.name}: status {final.status:04X}H", UpstreamKind.STATUS, upstream_status=final.status
            )

    def store(self, outgoing: Outgoing, originator: Originator | None = None) -> int:
        """C-STORE one instance; the status of the response, as :class:`~gateway.dimse.ports.StoreChannel` says.

        Raises:
            UpstreamError: the association broke.
            BadInstance: the instance's file cannot be read; nothing was sent.
        """
        with self._conversing():
            return self._sender.store(outgoing, originator)

    def move(
        self, sop_class: str, identifier: Attributes, destination: str, cancelled: CancelSignal = _never
    ) -> Iterator[RetrieveProgress]:
        """C-MOVE; yields the responses, the final one last.

        Raises:
            UpstreamError: the association broke; a failure status is not an error but the final response's.
            Cancelled: as for :meth:`find`.
        """
        command = Command(
            Field.C_MOVE, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM, destination=destination
        )
        yield from self._retrieve(command, identifier, None, cancelled)

    def get(
        self, sop_class: str, identifier: Attributes, receiver: Receiver, cancelled: CancelSignal = _never
    ) -> Iterator[RetrieveProgress]:
        """C-GET; instances go to ``receiver``, the responses are yielded as by :meth:`move`.

        Their storage SOP classes have to be proposed with the SCP role.
        """
        command = Command(Field.C_GET, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM)
        yield from self._retrieve(command, identifier, receiver, cancelled)

    def _retrieve(
        self, command: Command, identifier: Attributes, receiver: Receiver | None, cancelled: CancelSignal
    ) -> Iterator[RetrieveProgress]:
        with self._conversing():
            context = self._context(command.sop_class or "")
            self._ask(context, command, identifier)
            ended = False
            try:
                while not ended:
                    message = self._next(command, receiver, cancelled)
                    ended = kind(message.command.status or 0) is not Kind.PENDING
                    yield _progress(message.command, self._attributes(message))
            finally:
                if not ended and self._open:
                    self._cancel(context, command, receiver)

    def _next(self, command: Command, receiver: Receiver | None, cancelled: CancelSignal) -> Message:
        """The next response, while nobody cancels; the C-STORE sub-operations of a C-GET on the way are received."""

        def look() -> None:
            if cancelled():
                raise Cancelled("cancelled by the caller")

        while True:
            look()
            message = self._exchange.receive(monotonic() + self.peer.timeouts.dimse, look)
            if message is None:
                raise ProtocolError("released in the middle of an operation")
            if message.command.field == Field.C_STORE and message.context.as_scp and receiver:
                self._receive(message, receiver)
                continue
            require_response(message, command)
            return message

    def _receive(self, message: Message, receiver: Receiver) -> None:
        caller = Caller(self.peer.aet, self.peer.host, self.peer.name)
        outcome = receive_instance(receiver, self._exchange, message, caller)
        answer = response(message.command, outcome.status, comment=outcome.comment, offending=outcome.offending)
        self._exchange.send(message.context.id, answer)

    def _cancel(self, context: Accepted, command: Command, receiver: Receiver | None) -> None:
        """Tell the peer to stop and wait for its final response, so that the association can be used again."""
        limit = monotonic() + _CANCEL_SECONDS
        try:
            self._exchange.send(context.id, cancel(command.message_id or 0))
            while monotonic() < limit:
                message = self._next(command, receiver, _never)
                self._exchange.discard(message)
                if kind(message.command.status or 0) is not Kind.PENDING:
                    return
            raise Lost("cancelled, but it goes on", UpstreamKind.TIMEOUT)
        except (Lost, ProtocolError):
            self.abort()

    def n_action(self, request: ActionRequest, on_event: EventHandler | None = None) -> int:
        """N-ACTION; returns the status.

        Args:
            on_event: takes the N-EVENT-REPORTs that come before the response.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            command = Command(
                Field.N_ACTION,
                message_id=self._next_id(),
                sop_class=request.sop_class_uid,
                sop_instance=request.sop_instance_uid,
                action_type=request.action_type,
            )
            self._ask(self._context(request.sop_class_uid), command, request.information)
            limit = monotonic() + self.peer.timeouts.dimse
            while True:
                message = self._exchange.receive(limit)
                if message is None:
                    raise ProtocolError("released in the middle of an operation")
                if on_event is None or message.command.field != Field.N_EVENT_REPORT:
                    break
                self._take_event(message, on_event)
            status = require_response(message, command)
            self._exchange.discard(message)
            return status

    def await_event(self, on_event: EventHandler, seconds: float) -> bool:
        """Wait for one N-EVENT-REPORT on this association; whether one came.

        After a wait in vain the association can only be released.

        Raises:
            UpstreamError: the association ended meanwhile, or something else came.
        """
        with self._conversing():
            try:
                message = self._exchange.receive(monotonic() + seconds)
            except Lost as error:
                if error.kind is UpstreamKind.TIMEOUT:
                    return False
                raise
            if message is None or message.command.field != Field.N_EVENT_REPORT:
                raise ProtocolError("N-EVENT-REPORT expected")
            self._take_event(message, on_event)
            return True

    def _take_event(self, message: Message, on_event: EventHandler) -> None:
        caller = Caller(self.peer.aet, self.peer.host, self.peer.name)
        outcome = take_event(on_event, self._exchange, message, caller)
        answer = response(message.command, outcome.status, comment=outcome.comment, offending=outcome.offending)
        self._exchange.send(message.context.id, answer)

    def n_event_report(self, event: EventReport) -> int:
        """N-EVENT-REPORT, for a SOP class proposed with the SCP role; returns the status.

        A peer that accepts the presentation context and leaves the role out of its answer is reported to all the same:
        it has asked for it, and there are many of its kind.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            contexts = [one for one in self.contexts if one.abstract_syntax == event.sop_class_uid]
            if not contexts:
                raise UpstreamError(f"{self.peer.name}: presentation context not accepted", UpstreamKind.REJECTED)
            context = next((one for one in contexts if one.as_scp), contexts[0])
            return self._simple(context, event_command(self._next_id(), event), event.information)


def _progress(command: Command, identifier: Attributes) -> RetrieveProgress:
    assert command.status is not None
    return RetrieveProgress(
        command.status,
        command.remaining,
        command.completed or 0,
        command.failed or 0,
        command.warning or 0,
        identifier.texts(0x00080058),
        command.comment or "",
    )

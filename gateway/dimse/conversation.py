"""What every request on an association of ours has in common: numbering, waiting, cancelling, and how it ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from time import monotonic
from types import TracebackType
from typing import Self

from gateway import metrics
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.status import Kind, kind
from gateway.dimse import pdu
from gateway.dimse.command import Command, Field, cancel
from gateway.dimse.dialing import translated
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.negotiation import Accepted
from gateway.dimse.pdu import Control, ProtocolError
from gateway.dimse.ports import Cancelled as CancelSignal
from gateway.dimse.ports import EventHandler, Peer, Receiver
from gateway.dimse.serving import answer, read_attributes, receive_instance, require_response, take_event
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Lost
from gateway.errors import Cancelled, UpstreamError, UpstreamKind

_CANCEL_SECONDS = 5.0
"""How long a cancelled operation may take to say that it has ended, before the association is aborted."""


def never() -> bool:
    """A cancel signal that is never given."""
    return False


class Conversation:
    """An association that we requested; as a context manager it is released at the end, or aborted on an error.

    For one thread at a time, but for :meth:`abort`, which ends another thread's wait.
    """

    def __init__(self, peer: Peer, exchange: Exchange) -> None:
        self.peer = peer
        self._exchange = exchange
        self._last_id = 0
        self._open = True
        self._lock = threading.Lock()
        metrics.ASSOCIATIONS.labels("requestor").inc()

    @property
    def contexts(self) -> tuple[Accepted, ...]:
        """The presentation contexts the peer accepted."""
        return tuple(self._exchange.contexts.values())

    @property
    def is_open(self) -> bool:
        """Whether requests can still be sent, as far as is known."""
        return self._open

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
        with self._lock:
            was_open, self._open = self._open, False
        if was_open:
            self._exchange.channel.close()
            metrics.ASSOCIATIONS.labels("requestor").dec()

    def _next_id(self) -> int:
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _context(self, sop_class: str, *, as_scp: bool = False) -> Accepted:
        for context in self._exchange.contexts.values():
            if context.abstract_syntax == sop_class and (context.as_scp if as_scp else context.as_scu):
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
            raise translated(self.peer, error) from error

    def _ask(self, context: Accepted, command: Command, dataset: Attributes | None) -> None:
        body = dataset.encode(implicit=context.transfer_syntax == IMPLICIT) if dataset is not None else None
        self._exchange.send(context.id, command, body)

    def _attributes(self, message: Message) -> Attributes:
        try:
            return read_attributes(self._exchange, message)
        except MalformedDataset as error:
            raise ProtocolError("a data set that cannot be read") from error

    def _wait(
        self,
        command: Command,
        cancelled: CancelSignal = never,
        *,
        receiver: Receiver | None = None,
        on_event: EventHandler | None = None,
    ) -> Message:
        """The next response to a request of ours.

        Requests of the peer that belong to it are served meanwhile: the C-STORE sub-operations of a C-GET, and an
        N-EVENT-REPORT that overtakes the response to its N-ACTION.

        Raises:
            Lost: it did not come in time, or the association ended.
            ProtocolError: something else came.
            Cancelled: ``cancelled()`` became true.
        """

        def look() -> None:
            if cancelled():
                raise Cancelled("cancelled by the caller")

        while True:
            look()
            message = self._exchange.receive(monotonic() + self.peer.timeouts.dimse, look)
            if message is None:
                raise ProtocolError("released in the middle of an operation")
            if not self._served(message, receiver, on_event):
                require_response(message, command)
                return message

    def _served(self, message: Message, receiver: Receiver | None, on_event: EventHandler | None) -> bool:
        caller = Caller(self.peer.aet, self.peer.host, self.peer.name)
        if message.command.field == Field.C_STORE and message.context.as_scp and receiver:
            answer(self._exchange, message, receive_instance(receiver, self._exchange, message, caller))
            return True
        if message.command.field == Field.N_EVENT_REPORT and on_event:
            answer(self._exchange, message, take_event(on_event, self._exchange, message, caller))
            return True
        return False

    def _cancel(self, context: Accepted, command: Command, receiver: Receiver | None = None) -> None:
        """Tell the peer to stop and wait for its final response, so that the association can be used again."""
        limit = monotonic() + _CANCEL_SECONDS
        try:
            self._exchange.send(context.id, cancel(command.message_id or 0))
            while monotonic() < limit:
                message = self._wait(command, receiver=receiver)
                self._exchange.discard(message)
                if kind(message.command.status or 0) is not Kind.PENDING:
                    return
            raise Lost("cancelled, but it goes on", UpstreamKind.TIMEOUT)
        except (Lost, ProtocolError):
            self.abort()

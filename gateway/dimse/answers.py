"""C-FIND responses on their way out: one command set for all, gathered into sends of some 60 KB."""

from __future__ import annotations

from time import monotonic

from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.dimse import pdu
from gateway.dimse.command import plain_response
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.pdu import Buffer
from gateway.dimse.serving import Outcome, final
from gateway.dimse.sopclasses import IMPLICIT

_BATCH = 60_000
_FLUSH_SECONDS = 0.05


class Answers:
    """Gathers C-FIND responses and sends them some 60 KB at a time.

    All pending responses of an operation have the same command set, so it is encoded once.
    """

    def __init__(self, exchange: Exchange, message: Message) -> None:
        self._exchange = exchange
        self._message = message
        self._context_id = message.context.id
        self._room = exchange.max_length - 6
        self._implicit = message.context.transfer_syntax == IMPLICIT
        self._parts: list[Buffer] = []
        self._size = 0
        self._since = monotonic()
        self._prefix = b""
        self.pending = Status.PENDING
        self.count = 0

    def add(self, answer: Attributes) -> bool:
        """Add an answer; true when the gathered ones were sent, a good moment to look for C-CANCEL."""
        self.count += 1
        if not self._prefix:
            command = plain_response(self._message.command, self.pending, has_dataset=True)
            self._prefix = pdu.message(self._context_id, command, None, self._exchange.max_length)
        body = answer.encode(implicit=self._implicit)
        if len(body) <= self._room:
            self._parts += (self._prefix, pdu.last_header(self._context_id, len(body)), body)
        else:
            self._parts.append(self._prefix)
            self._parts.extend(pdu.cut(self._context_id, body, self._exchange.max_length, command=False))
        self._size += len(body) + len(self._prefix)
        if self._size < _BATCH and monotonic() - self._since < _FLUSH_SECONDS:
            return False
        self._flush()
        return True

    def pause(self) -> None:
        """Send what waits for company in vain: the next answer is not there yet."""
        if self._parts and monotonic() - self._since >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._exchange.channel.send(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        self._since = monotonic()

    def finish(self, outcome: Outcome) -> None:
        """Send what is left and the final response in one go."""
        if outcome.comment or outcome.offending:
            command = final(self._message, outcome).encode()
        else:
            command = plain_response(self._message.command, outcome.status)
        self._parts.append(pdu.message(self._message.context.id, command, None, self._exchange.max_length))
        self._flush()

"""C-STORE out: from a file to the wire in constant memory (PS3.7 9.1.1).

Ranges of the file are read into one reused buffer, cut into views of the peer's maximum PDU and handed to a single
``sendmsg`` together with their headers; the data set is never assembled. While the peer works on an instance the buffer
is free, and the beginning of the next one is read into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from gateway import metrics
from gateway.dicom.instance import Outgoing
from gateway.dicom.status import Status
from gateway.dimse import pdu
from gateway.dimse.command import Command, Field
from gateway.dimse.exchange import Exchange
from gateway.dimse.negotiation import Accepted
from gateway.dimse.pdu import ProtocolError
from gateway.dimse.ports import Following, Originator
from gateway.dimse.wire import Lost
from gateway.errors import BadInstance, UpstreamKind

_READ = 1 << 20
_MEDIUM = 0


class Sender:
    """Sends instances on an association on which we are the SCU of their SOP classes.

    Args:
        next_message_id: numbers the requests of the association.
        dimse: seconds from a request to its response.
    """

    def __init__(self, exchange: Exchange, next_message_id: Callable[[], int], dimse: float) -> None:
        self._exchange = exchange
        self._next_message_id = next_message_id
        self._dimse = dimse
        self._contexts = {
            (context.abstract_syntax, context.transfer_syntax): context
            for context in exchange.contexts.values()
            if context.as_scu
        }
        self._buffer = memoryview(b"")
        self._ahead: tuple[Outgoing, int] | None = None  # what is in the buffer already, and how much of it

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether a presentation context was accepted for this pair."""
        return (sop_class_uid, transfer_syntax_uid) in self._contexts

    def store(
        self, outgoing: Outgoing, originator: Originator | None = None, following: Following | None = None
    ) -> int:
        """Send one instance and return the status of its response; see :class:`~gateway.dimse.ports.StoreChannel`.

        An instance without a fitting presentation context is not begun: 0122H.

        Raises:
            Lost: the association ended.
            BadInstance: its file cannot be opened or is shorter than it should be; nothing was sent.
            ProtocolError: the response was none.
        """
        context = self._contexts.get((outgoing.sop_class_uid, outgoing.transfer_syntax_uid))
        if context is None:
            return Status.SOP_CLASS_NOT_SUPPORTED
        ahead, self._ahead = self._ahead, None
        count = ahead[1] if ahead and ahead[0] is outgoing else 0
        message_id = self._next_message_id()
        command = _request(message_id, outgoing, originator)
        if count and count == outgoing.length:
            self._send(context, command, outgoing, -1, count)
        else:
            with _opened(outgoing) as fd:
                self._send(context, command, outgoing, fd, count)
        metrics.SENT_BYTES.inc(len(outgoing.head) + outgoing.length)
        try:
            if following is not None:
                self._read_ahead(following())
        finally:
            status = self._status(message_id)  # or the next request would be answered by this one's response
        return status

    def _send(self, context: Accepted, command: Command, outgoing: Outgoing, fd: int, count: int) -> None:
        """Send the request; the first ``count`` bytes of its range are in the buffer already."""
        exchange = self._exchange
        parts = list(pdu.cut(context.id, command.encode(), exchange.max_length, command=True))
        if outgoing.head:
            last = not outgoing.length
            parts += pdu.cut(context.id, outgoing.head, exchange.max_length, command=False, last=last)
        pos, end = outgoing.offset, outgoing.offset + outgoing.length
        while pos < end:
            count = count or self._read(fd, pos, end)
            pos += count
            parts += pdu.cut(context.id, self._buffer[:count], exchange.max_length, command=False, last=pos == end)
            exchange.channel.send_parts(parts)
            parts, count = [], 0
        if parts:
            exchange.channel.send_parts(parts)

    def _read(self, fd: int, pos: int, end: int) -> int:
        try:
            count = self._fill(fd, pos, end)
        except OSError as error:
            self._exchange.channel.abort()
            raise Lost("aborted by us: an instance could not be read to its end", UpstreamKind.ABORTED) from error
        if not count:
            self._exchange.channel.abort()
            raise Lost("aborted by us: an instance was shortened while it was sent", UpstreamKind.ABORTED)
        return count

    def _fill(self, fd: int, pos: int, end: int) -> int:
        if not self._buffer:
            self._buffer = memoryview(bytearray(_READ))
        return os.preadv(fd, [self._buffer[: min(_READ, end - pos)]], pos)

    def _read_ahead(self, outgoing: Outgoing | None) -> None:
        """Have the beginning of the next instance in the buffer; what is wrong with it is told when it is sent."""
        if outgoing is None or not outgoing.length:
            return
        with suppress(OSError, BadInstance), _opened(outgoing) as fd:
            count = self._fill(fd, outgoing.offset, outgoing.offset + outgoing.length)
            self._ahead = outgoing, count

    def _status(self, message_id: int) -> int:
        message = self._exchange.receive(monotonic() + self._dimse)
        if message is None:
            raise Lost("released in the middle of an operation", UpstreamKind.PROTOCOL)
        command = message.command
        if command.field != Field.C_STORE | 0x8000 or command.responding_to != message_id or command.status is None:
            raise ProtocolError("no response to the C-STORE request")
        self._exchange.discard(message)
        return command.status


@contextmanager
def _opened(outgoing: Outgoing) -> Iterator[int]:
    """The file of an instance that is as long as it has to be.

    Raises:
        BadInstance: it is not, or cannot be opened.
    """
    try:
        fd = os.open(outgoing.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInstance(f"instance cannot be opened (errno {error.errno})") from error
    try:
        if os.fstat(fd).st_size < outgoing.offset + outgoing.length:
            raise BadInstance("instance file is too short")
        yield fd
    finally:
        os.close(fd)


def _request(message_id: int, outgoing: Outgoing, originator: Originator | None) -> Command:
    return Command(
        Field.C_STORE,
        message_id=message_id,
        has_dataset=True,
        sop_class=outgoing.sop_class_uid,
        sop_instance=outgoing.sop_instance_uid,
        priority=_MEDIUM,
        originator_aet=originator.aet if originator else None,
        originator_id=originator.message_id if originator else None,
    )

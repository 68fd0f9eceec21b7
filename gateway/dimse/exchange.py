"""DIMSE messages over a channel, the same for both ends of an association (PS3.7 section 6, PS3.8 Annex E).

A message's command set is gathered; its data set is then read whole by :meth:`Exchange.dataset`, or streamed to a
file by :meth:`Exchange.stream`. A C-CANCEL is never handed out as a message: whoever reads notes it, and
:meth:`Exchange.cancelled` tells, looking at what has arrived without waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple

from gateway import metrics
from gateway.dimse import pdu
from gateway.dimse.command import MAX_COMMAND, Command, Field, decode
from gateway.dimse.negotiation import Accepted
from gateway.dimse.pdu import AbortReason, Buffer, Control, Fragment, ProtocolError
from gateway.dimse.wire import FLOOR, Channel, Lost, unexpected
from gateway.errors import UpstreamError, UpstreamKind

MAX_DATASET = 1 << 25
"""Longest data set read into memory: an identifier, or the references of a storage commitment."""

_PARTS = 256
_MAX_CANCELS = 64


class Message(NamedTuple):
    """A command set and the presentation context it came on; its data set, if any, is still to be read."""

    context: Accepted
    command: Command


class Exchange:
    """Sends and receives messages on an established association.

    Args:
        contexts: the accepted presentation contexts by ID.
        max_length: the peer's maximum PDU length; 0 means it has none.
    """

    def __init__(self, channel: Channel, contexts: Mapping[int, Accepted], max_length: int) -> None:
        self.channel = channel
        self.contexts = contexts
        self.max_length = max_length if 0 < max_length <= pdu.MAX_PDU else pdu.MAX_PDU
        self.released = False
        self._command = bytearray()
        self._command_context: int | None = None
        self._kept: Message | None = None
        self._gone: UpstreamError | None = None
        self._cancels: set[int] = set()

    def send(self, context_id: int, command: Command, dataset: Buffer | None = None) -> None:
        """Send one message; ``command.has_dataset`` is set here."""
        command.has_dataset = dataset is not None
        self.channel.send(pdu.message(context_id, command.encode(), dataset, self.max_length))

    def receive(self, limit: float, tick: Callable[[], None] | None = None) -> Message | None:
        """The next message; ``None`` when the peer asks for a release.

        Raises:
            Lost: the association ended or ``limit`` on the monotonic clock has passed.
            ProtocolError: the peer broke the protocol.
        """
        if self._gone:
            raise self._gone
        try:
            return self._receive(limit, tick)
        except (Lost, ProtocolError) as error:
            self._gone = error
            raise

    def _receive(self, limit: float, tick: Callable[[], None] | None) -> Message | None:
        message, self._kept = self._kept, None
        while message is None and not self.released:
            message = self._gather(self.channel.event(limit, tick))
            if self._command_context is not None:  # a command set has begun: it has to end soon
                limit = min(limit, monotonic() + self.channel.network)
        return message

    def _gather(self, piece: Control | Fragment) -> Message | None:
        if isinstance(piece, Control):
            self._control(piece)
            return None
        if not piece.is_command or self._command_context not in {None, piece.context_id}:
            raise unexpected(piece)
        if len(self._command) + len(piece.data) > MAX_COMMAND:
            raise ProtocolError("command set too long", AbortReason.INVALID_PARAMETER)
        self._command_context = piece.context_id
        self._command += piece.data
        if not piece.is_last:
            return None
        data, self._command, self._command_context = bytes(self._command), bytearray(), None
        command = decode(data)
        context = self.contexts.get(piece.context_id)
        if context is None:
            raise ProtocolError("presentation context was not accepted", AbortReason.INVALID_PARAMETER)
        if command.field == Field.C_CANCEL:
            self._note_cancel(command)
            return None
        return Message(context, command)

    def _control(self, control: Control) -> None:
        if control.type == pdu.RELEASE_RQ and self._command_context is None:
            self.released = True
        elif control.type == pdu.ABORT:
            raise Lost("association aborted by the peer", UpstreamKind.ABORTED)
        else:
            raise unexpected(control)

    def _note_cancel(self, command: Command) -> None:
        if command.responding_to is not None and len(self._cancels) < _MAX_CANCELS:
            self._cancels.add(command.responding_to)

    def dataset(self, message: Message, limit: int = MAX_DATASET) -> bytes:
        """The data set of the message just received.

        Raises:
            ProtocolError: longer than ``limit`` bytes, or other than promised.
            Lost: as for :meth:`receive`.
        """
        gathered = bytearray()

        def keep(parts: list[memoryview]) -> None:
            for part in parts:
                gathered.extend(part)
            if len(gathered) > limit:
                raise ProtocolError("data set too long", AbortReason.INVALID_PARAMETER)

        self._data_set(message, keep)
        return bytes(gathered)

    def stream(self, message: Message, fd: int) -> None:
        """Write the data set of the message just received to a file, in constant memory.

        Raises:
            OSError: the file could not be written; the rest of the data set was received and dropped.
        """
        failed: OSError | None = None

        def write(parts: list[memoryview]) -> None:
            nonlocal failed
            if failed:
                return
            metrics.RECEIVED_BYTES.inc(sum(map(len, parts)))
            try:
                _write_all(fd, parts)
            except OSError as error:
                failed = error

        self._data_set(message, write)
        if failed:
            raise failed

    def discard(self, message: Message) -> None:
        """Receive and drop the data set of the message just received, if it has one."""
        if message.command.has_dataset:
            self._data_set(message, lambda parts: None)  # noqa: ARG005

    def _data_set(self, message: Message, sink: Callable[[list[memoryview]], None]) -> None:
        parts: list[memoryview] = []
        limit, passed = monotonic() + self.channel.network, 0
        while True:
            piece = self.channel.buffered()
            if piece is None:
                sink(parts)
                parts = []
                if passed >= FLOOR:
                    limit, passed = monotonic() + self.channel.network, 0
                self.channel.fill(limit)
                if passed < FLOOR and monotonic() >= limit:
                    raise Lost("a data set comes too slowly", UpstreamKind.TIMEOUT)
                continue
            if isinstance(piece, Control):
                self._control_inside(piece)
            elif piece.is_command or piece.context_id != message.context.id:
                raise unexpected(piece)
            else:
                parts.append(piece.data)
                passed += len(piece.data)
                if piece.is_last or len(parts) >= _PARTS:
                    sink(parts)
                    parts = []
                if piece.is_last:
                    return

    def _control_inside(self, control: Control) -> None:
        if control.type == pdu.ABORT:
            raise Lost("association aborted by the peer", UpstreamKind.ABORTED)
        raise unexpected(control)

    def cancelled(self, message_id: int) -> bool:
        """Whether the operation was cancelled by C-CANCEL, or the association is over."""
        try:
            while self._kept is None and self._gone is None and not self.released:
                piece = self.channel.ready()
                if piece is None:
                    break
                self._kept = self._gather(piece)
        except (Lost, ProtocolError) as error:
            self._gone = error
        return message_id in self._cancels or self._gone is not None or self.released

    def forget_cancels(self) -> None:
        """An operation has ended: C-CANCELs that came for it, or too late, mean nothing any more."""
        self._cancels.clear()


def _write_all(fd: int, parts: list[memoryview]) -> None:
    total = sum(map(len, parts))
    written = os.writev(fd, parts) if parts else 0
    if written < total:
        rest = memoryview(b"".join(parts))[written:]
        while len(rest):
            rest = rest[os.write(fd, rest) :]

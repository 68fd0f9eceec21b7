"""One connection in blocking I/O: bytes to PDU pieces, with deadlines that a slow peer cannot stretch.

The socket blocks, with SO_RCVTIMEO and SO_SNDTIMEO as a tick; at each tick the absolute deadlines are looked at. That
is one system call a receive, where Python's own time-outs take two. TCP_QUICKACK is armed again before each wait for
the rest of something: a peer with Nagle's algorithm on, DCMTK's default, holds that back for 40 ms, until a delayed
acknowledgement, otherwise. An answer acknowledges what it answers, and needs no packet of its own for that.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from time import monotonic

from gateway.dimse.pdu import AbortReason, Buffer, Control, Fragment, PduReader, ProtocolError, abort
from gateway.errors import UpstreamError, UpstreamKind

TICK = 0.5
"""Seconds between two looks at the deadlines while nothing arrives."""

FLOOR = 4096
"""Bytes that must pass within each network time-out; a peer below that is holding a thread, not transferring."""

_IOV_MAX = 1024


class Lost(UpstreamError):
    """This association is over without a release: aborted, closed or silent."""


class Channel:
    """A connected socket as a stream of PDU pieces.

    Args:
        network: seconds within which one PDU has to be read whole, and :data:`FLOOR` bytes have to pass.
        max_length: the maximum PDU length we announce.
    """

    def __init__(self, sock: socket.socket, *, network: float, max_length: int) -> None:
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._network = network
        self._reader = PduReader(max_length)
        self._mark = (0, False)
        self._owes_ack = False
        self._pdu_limit = float("inf")
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            sock.settimeout(TICK)
        else:
            tick = struct.pack("ll", 0, int(TICK * 1e6))
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, tick)

    @property
    def network(self) -> float:
        """The network time-out in seconds."""
        return self._network

    def buffered(self) -> Control | Fragment | None:
        """The next piece among the bytes that have already arrived."""
        return self._reader.next()

    def event(self, limit: float, tick: Callable[[], None] | None = None) -> Control | Fragment:
        """The next piece, waiting for it until ``limit`` on the monotonic clock.

        Args:
            tick: called now and then while nothing arrives; may raise.

        Raises:
            Lost: time is up, or the connection ended.
            ProtocolError: the bytes are no PDU.
        """
        while (piece := self._reader.next()) is None:
            self.fill(limit, tick)
        return piece

    def fill(self, limit: float, tick: Callable[[], None] | None = None) -> None:
        """Receive more bytes, waiting until ``limit``; raises as :meth:`event` does."""
        mark = self._reader.mark
        if mark != self._mark:
            self._mark = mark
            self._pdu_limit = monotonic() + self._network if self._reader.mid_pdu else float("inf")
        limit = min(limit, self._pdu_limit)
        while not self._receive(0):
            if monotonic() >= limit:
                raise Lost("nothing arrived in time", UpstreamKind.TIMEOUT)
            if tick:
                tick()
        if monotonic() >= self._pdu_limit:
            raise Lost("a PDU took too long", UpstreamKind.TIMEOUT)

    def ready(self) -> Control | Fragment | None:
        """The next piece if it can be had without waiting."""
        while (piece := self._reader.next()) is None:
            if not (self._tls and self._tls.pending()) and not self._poll.poll(0):
                return None
            if not self._receive(socket.MSG_DONTWAIT):
                return None
        return piece

    def _receive(self, flags: int) -> bool:
        try:
            if self._owes_ack:
                self._owes_ack = False
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if self._tls:
                count = self._tls.recv_into(self._reader.space)
            else:
                count = self._sock.recv_into(self._reader.space, 0, flags)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError as error:
            raise Lost("connection broken", UpstreamKind.ABORTED) from error
        if not count:
            raise Lost("connection closed", UpstreamKind.ABORTED)
        self._reader.received(count)
        self._owes_ack = True
        return True

    def send(self, data: Buffer) -> None:
        """Send one buffer whole.

        Raises:
            Lost: the peer does not take it in time, or the connection ended.
        """
        self._send_rest(memoryview(data))

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send buffers one behind the other, raising as :meth:`send` does."""
        if self._tls:
            self.send(b"".join(parts))
            return
        for at in range(0, len(parts), _IOV_MAX):
            group = parts[at : at + _IOV_MAX]
            self._owes_ack = False
            try:
                sent = self._sock.sendmsg(group)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise Lost("connection broken", UpstreamKind.ABORTED) from error
            if sent < sum(map(len, group)):
                self._send_rest(memoryview(b"".join(group))[sent:])

    def _send_rest(self, view: memoryview) -> None:
        limit, passed = monotonic() + self._network, 0
        self._owes_ack = False
        while len(view):
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, TimeoutError):
                sent = 0
            except OSError as error:
                raise Lost("connection broken", UpstreamKind.ABORTED) from error
            view = view[sent:]
            passed += sent
            now = monotonic()
            if passed >= FLOOR:
                limit, passed = now + self._network, 0
            elif len(view) and now >= limit:
                raise Lost("the peer takes nothing", UpstreamKind.TIMEOUT)

    def abort(self, reason: int | None = None) -> None:
        """Send A-ABORT if the socket takes it, and close."""
        with contextlib.suppress(OSError, ValueError):  # the peer is gone or does not read
            self._sock.settimeout(0)
            self._sock.send(abort(reason))
            self._sock.shutdown(socket.SHUT_RDWR)  # ends the wait of a thread that is reading
        self.close()

    def linger(self, seconds: float) -> None:
        """Let the peer close first, as an acceptor does after A-RELEASE-RP or A-ASSOCIATE-RJ (PS3.8 Sta13)."""
        limit = monotonic() + seconds
        with contextlib.suppress(Lost, ProtocolError):  # whatever comes now ends the connection
            while monotonic() < limit:
                self.event(limit)
        self.close()

    def close(self) -> None:
        """Close the socket; harmless when it is closed."""
        self._sock.close()


def unexpected(piece: Control | Fragment) -> ProtocolError:
    """The error for a PDU that has no place in the current state."""
    what = f"PDU type {piece.type}" if isinstance(piece, Control) else "P-DATA-TF"
    return ProtocolError(f"unexpected {what}", AbortReason.UNEXPECTED_PDU)

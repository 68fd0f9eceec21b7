"""A TCP proxy that understands as much of DICOM as it takes to break a connection at a chosen phase."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from gateway.dimse import pdu

_RESET = struct.pack("ii", 1, 0)


class Phase(Enum):
    """Where in the life of an association it happens."""

    CONNECT = "connect"
    ASSOCIATE = "association request"
    ACCEPT = "accept"
    REQUEST = "request"
    DATA = "data"
    RESPONSE = "response"
    RELEASE = "release"


class Fault(Enum):
    """What happens."""

    CUT = "cut"
    HALF_CLOSE = "half-close"
    STALL = "stall"
    DELAY = "delay"
    TRICKLE = "trickle"


class Trouble(NamedTuple):
    """A fault at a phase.

    Attributes:
        seconds: how long a delay is.
        pause: between two bytes of a trickle, in seconds.
    """

    phase: Phase
    fault: Fault
    seconds: float = 0.3
    pause: float = 0.1


class Proxy:
    """Listens on a port of its own and passes everything on to another, but for what is armed.

    Attributes:
        fired: how often a fault was carried out.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.fired = 0
        self._lock = threading.Lock()
        self._open: set[_Link] = set()
        self._trouble: Trouble | None = None
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def retarget(self, port: int) -> None:
        """Pass new connections on to another port."""
        self._target = port

    @contextlib.contextmanager
    def trouble(self, trouble: Trouble) -> Iterator[None]:
        """Break every connection that begins inside the block; end them all afterwards."""
        self.drop()
        self._trouble = trouble
        try:
            yield
        finally:
            self._trouble = None
            self.drop()

    def drop(self) -> None:
        """End every connection that is open."""
        with self._lock:
            links = list(self._open)
        for link in links:
            link.close()

    def close(self) -> None:
        """Stop listening and end everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        link = _Link(client, self._trouble, self._fire)
        with self._lock:
            self._open.add(link)
        try:
            link.run(self._target)
        finally:
            link.close()
            with self._lock:
                self._open.discard(link)

    def _fire(self) -> None:
        with self._lock:
            self.fired += 1


class _Link:
    """One connection and its continuation."""

    def __init__(self, client: socket.socket, trouble: Trouble | None, fire: Callable[[], None]) -> None:
        self._client = client
        self._server: socket.socket | None = None
        self._trouble = trouble
        self._fire = fire
        self._ended = threading.Event()
        self._struck = False

    def run(self, target: int) -> None:
        trickled = False
        if self._trouble and self._trouble.phase is Phase.CONNECT:
            self._fire()
            self._struck = True
            if not self._at_connect(self._trouble):
                return
            trickled = self._trouble.fault is Fault.TRICKLE
        try:
            self._server = socket.create_connection(("127.0.0.1", target), 5)
        except OSError:
            self.reset()
            return
        self._server.settimeout(None)
        back = threading.Thread(
            target=_Pump(self, self._server, self._client, forth=False, trickled=trickled).run, daemon=True
        )
        back.start()
        _Pump(self, self._client, self._server, forth=True, trickled=trickled).run()
        back.join()

    def _at_connect(self, trouble: Trouble) -> bool:
        """Whether the connection goes on."""
        if trouble.fault is Fault.CUT:
            self.reset()
        elif trouble.fault is Fault.HALF_CLOSE:
            self._client.shutdown(socket.SHUT_WR)
            self._ended.wait(30)
        elif trouble.fault is Fault.STALL:
            self._ended.wait(30)
        elif trouble.fault is Fault.DELAY:
            self._ended.wait(trouble.seconds)
        return trouble.fault in {Fault.DELAY, Fault.TRICKLE}

    def strikes(self, phase: Phase | None) -> Trouble | None:
        """The trouble to be made now; once on a connection."""
        if self._trouble and not self._struck and phase is self._trouble.phase:
            self._struck = True
            self._fire()
            return self._trouble
        return None

    @property
    def pause(self) -> float:
        """Between two bytes of a trickle, in seconds."""
        return self._trouble.pause if self._trouble else 0.0

    def wait(self, seconds: float) -> bool:
        """Whether the connection was ended meanwhile."""
        return self._ended.wait(seconds)

    def reset(self) -> None:
        """End both sides with RST."""
        for sock in self._sides():
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """End both sides."""
        self._ended.set()
        for sock in self._sides():
            with contextlib.suppress(OSError):
                reset = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)[0]
                sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)  # wakes the thread that reads from it
            sock.close()

    def _sides(self) -> list[socket.socket]:
        return [sock for sock in (self._client, self._server) if sock is not None]


class _Pump:
    """One direction of a link: frames PDUs only as far as to know which phase begins."""

    def __init__(self, link: _Link, source: socket.socket, sink: socket.socket, *, forth: bool, trickled: bool) -> None:
        self._link = link
        self._source = source
        self._sink = sink
        self._forth = forth
        self._trickle = trickled
        self._pending = b""
        self._left = 0

    def run(self) -> None:
        """Pass everything on until one side ends."""
        try:
            while data := self._source.recv(65536):
                if not self._pass(data):
                    break
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._link.close()

    def _pass(self, data: bytes) -> bool:
        self._pending += data
        while self._pending:
            if self._left:
                part, self._pending = self._pending[: self._left], self._pending[self._left :]
                self._left -= len(part)
                self._send(part)
                continue
            if len(self._pending) < 12 and not (len(self._pending) >= 6 and self._pending[0] != pdu.P_DATA):
                return True
            phase, self._left = self._phase(), 6 + int.from_bytes(self._pending[2:6], "big")
            if (trouble := self._link.strikes(phase)) and not self._strike(trouble):
                return False
        return True

    def _phase(self) -> Phase | None:
        kind = self._pending[0]
        if kind == pdu.P_DATA:
            if not self._pending[11] & 1:
                return Phase.DATA
            return Phase.REQUEST if self._forth else Phase.RESPONSE
        return {
            pdu.ASSOCIATE_RQ: Phase.ASSOCIATE, pdu.ASSOCIATE_AC: Phase.ACCEPT, pdu.RELEASE_RQ: Phase.RELEASE
        }.get(kind)  # fmt: skip

    def _strike(self, trouble: Trouble) -> bool:
        """Carry the fault out in the middle of the PDU that begins; whether the direction goes on."""
        if trouble.fault is Fault.DELAY:
            return not self._link.wait(trouble.seconds)
        if trouble.fault is Fault.TRICKLE:
            self._trickle = True
            return True
        self._sink.sendall(self._pending[: max(1, min(self._left, len(self._pending)) // 2)])
        if trouble.fault is Fault.CUT:
            self._link.reset()
        elif trouble.fault is Fault.HALF_CLOSE:
            self._sink.shutdown(socket.SHUT_WR)
            while self._source.recv(65536):
                pass
        else:
            self._link.wait(30)
        return False

    def _send(self, data: bytes) -> None:
        if not self._trickle:
            self._sink.sendall(data)
            return
        for at in range(len(data)):
            self._sink.sendall(data[at : at + 1])
            if self._link.wait(self._link.pause):
                return

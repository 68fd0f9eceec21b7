"""The listening side: an accept loop that never blocks on a peer, and a thread for each association.

A connection costs nothing until its first byte arrives: it waits in the accept loop's poll, bounded in number and in
time, so a load balancer's bare TCP checks take no thread and no association slot. What is over the limits is told so
with A-ASSOCIATE-RJ and let go.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Self

from gateway import metrics
from gateway.dimse import acse
from gateway.dimse.acceptor import AcceptedAssociation, Acceptor, Deadlines
from gateway.dimse.ports import Policy
from gateway.dimse.reception import Reception
from gateway.dimse.services import Dispatcher, Handlers
from gateway.dimse.slots import Full, Limits, Slot, Slots
from gateway.dimse.sopclasses import Offering
from gateway.logs import get_logger
from gateway.workers.board import Board, Place

_BACKLOG = 512
_YIELD_SECONDS = 0.001
"""How long a process that is ahead of another leaves a new connection to it."""
_log = get_logger("dimse")


def _nobody(_address: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        port: 0 takes a free one; :attr:`Server.port` tells which.
        listener: a socket that listens already, such as one shared with other processes; ``bind`` and ``port`` then
            mean nothing.
        untrusted: told the address of a client whose TLS handshake failed, as without a certificate it has to have.
    """

    bind: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    untrusted: Callable[[str], None] = _nobody
    listener: socket.socket | None = None


def listen(bind: str, port: int) -> socket.socket:
    """Open a listening socket, to be handed to an :class:`Endpoint`.

    Raises:
        OSError: the address is in use or not of this machine.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    return socket.create_server((bind, port), family=family, backlog=_BACKLOG, dualstack_ipv6=bind == "::")


@dataclass
class _Waiting:
    sock: socket.socket
    address: str
    until: float
    refused: bool = field(default=False)


class Server:
    """Listens on a port and serves associations until it is stopped.

    Args:
        endpoint: where to listen; a free port of 127.0.0.1 unless told otherwise.
        place: this process among others on the same port.

    Raises:
        OSError: from :meth:`start`, when the address cannot be bound.
    """

    def __init__(
        self,
        handlers: Handlers,
        policy: Policy,
        endpoint: Endpoint | None = None,
        *,
        deadlines: Deadlines | None = None,
        limits: Limits | None = None,
        place: Place | None = None,
    ) -> None:
        self._endpoint = endpoint or Endpoint()
        self._deadlines = deadlines or Deadlines()
        self._limits = limits or Limits()
        self._place = place or Board().place()
        self._slots = Slots(self._limits, self._place)
        offering = Offering(handlers.verbs, handlers.event is not None, handlers.negotiated, handlers.extra_storage)
        self._acceptor = Acceptor(
            Reception(offering, self._limits.max_pdu),
            Dispatcher(handlers),
            policy,
            self._deadlines,
            self._limits.max_pdu,
            self._endpoint.tls,
            self._endpoint.untrusted,
            self._slots.buckets,
        )
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._running: dict[AcceptedAssociation, Slot] = {}
        self._thread: threading.Thread | None = None
        self._waker: tuple[socket.socket, socket.socket] | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._listener is None:
            raise RuntimeError("the server has not been started")
        return int(self._listener.getsockname()[1])

    @property
    def active(self) -> int:
        """Associations open now."""
        return len(self._running)

    def start(self) -> None:
        """Bind, listen and accept in a thread of its own."""
        listener = self._endpoint.listener or listen(self._endpoint.bind, self._endpoint.port)
        listener.settimeout(0)
        self._listener = listener
        self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._accept_loop, name="accept", daemon=True)
        self._thread.start()

    def stop(self, drain: float = 0.0) -> bool:
        """Refuse what is new, let running operations finish, end every association.

        Args:
            drain: seconds that running operations have; what is left is cut.

        Returns:
            Whether everything ended by itself.
        """
        self._stopping.set()
        if self._thread and self._waker:
            self._waker[1].send(b"\0")
            self._thread.join()
            for sock in self._waker:
                sock.close()
            self._thread = self._waker = None
        limit = monotonic() + drain
        with self._changed:
            self._wake(idle_only=True)
            clean = self._changed.wait_for(lambda: not self._running, max(0.0, limit - monotonic()))
            if not clean:
                self._wake(idle_only=False)
                self._changed.wait_for(lambda: not self._running, self._deadlines.linger)
        return clean

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _wake(self, *, idle_only: bool) -> None:
        for association in self._running:
            if association.idle or not idle_only:
                association.wake()

    def _accept_loop(self) -> None:
        assert self._listener is not None
        assert self._waker is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker[0], selectors.EVENT_READ)
            waiting: dict[int, _Waiting] = {}
            while not self._stopping.is_set():
                for key, _ in selector.select(1.0 if waiting else None):
                    if key.fileobj is self._listener:
                        self._accept_all(selector, waiting)
                    elif isinstance(key.data, _Waiting):
                        selector.unregister(key.fileobj)
                        del waiting[key.fd]
                        self._begin(key.data)
                self._expire(selector, waiting)
            for one in waiting.values():
                one.sock.close()
        self._listener.close()

    def _accept_all(self, selector: selectors.BaseSelector, waiting: dict[int, _Waiting]) -> None:
        assert self._listener is not None
        if self._place.is_ahead:
            self._stopping.wait(_YIELD_SECONDS)
        while True:
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors, or reset before it was accepted
                if error.errno == errno.EINVAL:  # it listens no more, in any process: the gateway stops
                    selector.unregister(self._listener)
                else:
                    _log.warning("accept failed", errno=error.errno)
                return
            sock.settimeout(0)
            one = _Waiting(sock, str(address[0]), monotonic() + self._deadlines.setup)
            if _has_spoken(sock):
                self._begin(one)
                continue
            if len(waiting) >= self._limits.waiting:
                _drop(selector, waiting, next(iter(waiting)))
            waiting[sock.fileno()] = one
            selector.register(sock, selectors.EVENT_READ, one)

    def _expire(self, selector: selectors.BaseSelector, waiting: dict[int, _Waiting]) -> None:
        now = monotonic()
        for fd in [fd for fd, one in waiting.items() if one.until <= now]:
            _drop(selector, waiting, fd)

    def _begin(self, one: _Waiting) -> None:
        """Give a connection that has spoken a thread, if there is a slot for it."""
        if _has_closed(one.sock):
            one.sock.close()
            return
        slot = self._slots.take(one.address)
        if isinstance(slot, Full):
            self._turn_away(one, slot)
            return
        association = AcceptedAssociation(self._acceptor, one.sock, one.address, slot, self._stopping)
        with self._lock:
            self._running[association] = slot
        one.sock.settimeout(None)
        thread = threading.Thread(target=self._run, args=(association,), name="association", daemon=True)
        thread.start()

    def _run(self, association: AcceptedAssociation) -> None:
        metrics.ASSOCIATIONS.labels("acceptor").inc()
        try:
            association.run()
        finally:
            metrics.ASSOCIATIONS.labels("acceptor").dec()
            with self._changed:
                self._running.pop(association).free()
                self._changed.notify_all()

    def _turn_away(self, one: _Waiting, full: Full) -> None:
        """Answer a request that is over the limits without giving it a thread."""
        metrics.ASSOCIATIONS_REJECTED.labels(full.value).inc()
        with contextlib.suppress(OSError):
            while len(one.sock.recv(65536)) == 65536:
                pass  # a close with bytes unread would reset the connection before the answer is read
            if self._acceptor.tls is None:
                one.sock.send(acse.encode_reject(full.reject))
            one.sock.shutdown(socket.SHUT_WR)
        one.sock.close()


def _has_spoken(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def _has_closed(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _drop(selector: selectors.BaseSelector, waiting: dict[int, _Waiting], fd: int) -> None:
    one = waiting.pop(fd)
    selector.unregister(one.sock)
    one.sock.close()

"""Connections that send slowly, or not at all, or do not read: each has a deadline, and all of them a bound.

uvicorn bounds how long a connection may be idle between requests, and answers everybody with 503 when too many are
open, probes included. Here a request has to arrive whole in time, TLS handshake, head and body, whatever trickles in
meanwhile; an answer has to be read on; and when there are too many connections, one of those that still wait for their
request is ended for the new one: the longest waiting of the address that has the most of them. So whoever sends at
once is always answered, however many do not.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from gateway import logs, metrics

_log = logs.get_logger("web")
_TOO_SLOW = (
    f"HTTP/1.1 {HTTPStatus.REQUEST_TIMEOUT.value} {HTTPStatus.REQUEST_TIMEOUT.phrase}\r\n"
    "Connection: close\r\nContent-Length: 0\r\n\r\n"
).encode()


@dataclass(frozen=True)
class Bounds:
    """What all connections together and each by itself may take up.

    Attributes:
        connections: open at once.
        seconds: for a request to arrive whole, and for the next part of an answer to be read.
    """

    connections: int = 200
    seconds: float = 30.0


class Crowd:
    """All connections that are open; used by the event loop's thread alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[Connection] = set()

    def enter(self, newcomer: Connection) -> None:
        """Let a connection in, and make room for it if need be."""
        self._all.add(newcomer)
        if len(self._all) > self._most:
            waiting = [one for one in self._all if not one.is_answered]
            held = Counter(one.address for one in waiting)
            max(waiting, key=lambda one: (held[one.address], -one.since)).end("crowd")

    def leave(self, one: Connection) -> None:
        """It is closed."""
        self._all.discard(one)

    def dismiss(self) -> None:
        """End those that wait for a request: the server stops."""
        for one in [one for one in self._all if not one.is_answered]:
            one.abort()


class Connection(H11Protocol):
    """uvicorn's protocol with deadlines; with TLS it begins with the handshake, which counts, too.

    Attributes:
        address: of the client.
        since: when it began to wait for a request, by the loop's clock.
    """

    def __init__(self, crowd: Crowd, bounds: Bounds, tls: ssl.SSLContext | None, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._crowd = crowd
        self._bounds = bounds
        self._tls = tls
        self._line: asyncio.Transport | None = None
        self._begun = self._lost = False
        self._early = b""
        self._handshake: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.address = ""
        self.since = 0.0

    @classmethod
    def maker(cls, crowd: Crowd, bounds: Bounds, tls: ssl.SSLContext | None) -> Callable[..., Connection]:
        """What uvicorn calls for each connection."""
        return lambda **uvicorns: cls(crowd, bounds, tls, **uvicorns)

    @property
    def is_answered(self) -> bool:
        """Whether its request has arrived whole, and the answer is being made or sent."""
        request = self._request
        return request is not None and not request.more_body and not request.response_complete

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The latest, from its head on; uvicorn does not tell its type that there may be none."""
        return self.cycle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is accepted."""
        self._line = transport
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._wait()
        self._crowd.enter(self)
        if self._tls is None:
            self._begin(transport)
        else:
            transport.pause_reading()  # what comes is for the handshake
            self._handshake = self.loop.create_task(self._shake_hands(transport, self._tls))

    async def _shake_hands(self, line: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                line, self, tls, server_side=True, ssl_handshake_timeout=self._bounds.seconds
            )
        except OSError as error:  # ssl.SSLError is one, and what a deadline or a hang-up raises
            _log.debug("TLS handshake failed", address=self.address, error=error)
            line.abort()
            self._gone()
            return
        if self._lost or secured is None:  # the client was gone before we came to know that it had shaken hands
            return
        self._begin(secured)
        if self._early:
            self.data_received(self._early)

    def _begin(self, transport: asyncio.Transport) -> None:
        self._begun = True
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._lost = True
        self._gone()
        if self._begun:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something arrived: all of a request, or a part of it."""
        if not self._begun:  # with the end of the handshake
            self._early += data
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """An answer is written; what is left of it has to be read, and the next request to come, in time."""
        self._stop_waiting()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._look()

    def end(self, why: str) -> None:
        """End it, and count why."""
        metrics.HTTP_LIMITED.labels(why).inc()
        _log.debug("connection ended", reason=why, address=self.address)
        self.abort()

    def abort(self) -> None:
        """End it at once."""
        self._gone()
        if self._line is not None:
            self._line.abort()

    def _gone(self) -> None:
        self._stop_waiting()
        self._crowd.leave(self)

    def _look(self) -> None:
        if self.is_answered and not self.flow.write_paused:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(self._bounds.seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        request = self._request
        unanswered = request is None or not request.response_started
        if self._begun and unanswered and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
        self.end("slow")

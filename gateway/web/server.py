"""The HTTP server in a thread of its own, on a socket that is bound before it begins."""

from __future__ import annotations

import socket
import ssl
import threading

import uvicorn
from starlette.types import ASGIApp

from gateway import logs
from gateway.web.connections import Bounds, Connection, Crowd

_log = logs.get_logger("web")
_STOP_SECONDS = 5


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket.

    Raises:
        OSError: the address is in use or not of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class WebServer:
    """Serves an application until it is stopped.

    Attributes:
        port: the port bound, also where 0 was asked for.

    Args:
        listener: of :func:`listen`; closed at the end.
        bounds: of connections.
        tls: with it, the port speaks TLS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        bounds: Bounds | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = listener
        self.host, self.port = str(listener.getsockname()[0]), int(listener.getsockname()[1])
        self._started = threading.Event()
        bounds = bounds or Bounds()
        crowd = Crowd(bounds.connections)
        configuration = uvicorn.Config(
            app,
            http=Connection.maker(crowd, bounds, tls),  # type: ignore[arg-type] # called as a class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_STOP_SECONDS,
            h11_max_incomplete_event_size=64 * 1024,
        )
        self._server = _Server(configuration, self._started, crowd)
        self._thread = threading.Thread(target=self._run, name="web")

    def start(self) -> None:
        """Begin to answer; returns when it does."""
        self._thread.start()
        self._started.wait()
        _log.info("HTTP is served", address=self.host, port=self.port)

    def stop(self) -> None:
        """Finish what is being answered, within seconds, and end the thread."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._started.set()  # whoever waits for the start must not wait for ever


class _Server(uvicorn.Server):
    """Says when it has started, since uvicorn's own flag would have to be polled; a stop waits for answers only."""

    def __init__(self, config: uvicorn.Config, started: threading.Event, crowd: Crowd) -> None:
        super().__init__(config)
        self._has_started = started
        self._crowd = crowd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is being answered; who has not asked yet is not waited for."""
        self._crowd.dismiss()
        await super().shutdown(sockets)

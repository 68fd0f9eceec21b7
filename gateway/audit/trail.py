"""Brings audit messages out: a queue, one thread, and a sink that writes a file or speaks to a collector."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from gateway import logs, metrics
from gateway.audit.messages import Event, to_xml

_log = logs.get_logger("audit")
_MOST_WAITING = 10_000
_RETRY_SECONDS = 5.0
_NETWORK_SECONDS = 5.0
_PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice): PS3.15 A.6 takes it from RFC 5424."""


class Sink(Protocol):
    """Takes finished messages."""

    def write(self, message: bytes) -> None:
        """Keep or deliver one message; it is safe when this returns.

        Raises:
            OSError: it is not.
        """

    def close(self) -> None:
        """Let go of what is open."""


class FileSink:
    """One message a line at the end of a file, synced; the file may be rotated by renaming it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, message: bytes) -> None:
        """See :class:`Sink`."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.write(fd, message + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Nothing stays open."""


class SyslogSink:
    """RFC 5424 to a collector, over TCP with octet counting (RFC 6587) or one datagram a message (RFC 5426)."""

    def __init__(self, host: str, port: int, *, tcp: bool = True, name: str = "") -> None:
        self._address = (host, port)
        self._tcp = tcp
        self._name = name or socket.gethostname()
        self._socket: socket.socket | None = None

    def write(self, message: bytes) -> None:
        """See :class:`Sink`."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f"<{_PRIORITY}>1 {stamp} {self._name} dicom-gateway {os.getpid()} IHE+RFC-3881 - ".encode()
        framed = head + b"\xef\xbb\xbf" + message
        try:
            sock = self._connected()
            sock.sendall(b"%d %b" % (len(framed), framed) if self._tcp else framed)
        except OSError:
            self.close()
            raise

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._tcp and _is_closed(self._socket):
            self.close()
        if self._socket is None:
            if self._tcp:
                self._socket = socket.create_connection(self._address, _NETWORK_SECONDS)
            else:
                family = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0][0]
                self._socket = socket.socket(family, socket.SOCK_DGRAM)
                self._socket.connect(self._address)
        return self._socket

    def close(self) -> None:
        """Close the connection; the next message opens one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _is_closed(sock: socket.socket) -> bool:
    """Whether the collector has hung up, which a write alone would not notice."""
    sock.settimeout(0)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(_NETWORK_SECONDS)


class Spool:
    """Messages on disk in front of a sink that fails, in order; it is emptied as soon as the sink takes them.

    After a crash, what it holds is sent again, perhaps for the second time. What TCP had taken when a collector died is
    lost: syslog knows no acknowledgement.
    """

    def __init__(self, sink: Sink, path: Path) -> None:
        self._sink = sink
        self._path = path
        self._kept = FileSink(path)

    def write(self, message: bytes) -> None:
        """Deliver what waits, then this; what the sink does not take is kept.

        Raises:
            OSError: neither the sink nor the disk takes it.
        """
        try:
            self.flush()
            self._sink.write(message)
        except OSError:
            self._kept.write(message)

    def flush(self) -> None:
        """Deliver what waits.

        Raises:
            OSError: the sink does not take it; the rest is kept.
        """
        if not self.waits:
            return
        lines = self._path.read_bytes().splitlines()
        for index, line in enumerate(lines):
            try:
                self._sink.write(line)
            except OSError:
                self._replace(lines[index:])
                raise
        self._path.unlink()

    def _replace(self, lines: list[bytes]) -> None:
        rest = self._path.with_suffix(".new")
        rest.write_bytes(b"".join(line + b"\n" for line in lines))
        rest.replace(self._path)

    @property
    def waits(self) -> bool:
        """Whether messages wait on disk."""
        return self._path.exists()

    def close(self) -> None:
        """Let go of what is open."""
        self._sink.close()


class Trail:
    """Takes events from any thread; :meth:`put` never waits for a disk or a collector.

    Args:
        sink: where messages go.
        source: Audit Source ID of this system.
    """

    def __init__(
        self, sink: Sink, *, source: str, site: str = "", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._sink = sink
        self._source = source
        self._site = site
        self.clock = clock
        self._queue: queue.Queue[Event | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="audit")

    def __enter__(self) -> Self:
        for outcome in ("kept", "lost"):  # counted from 0 on, so that the first loss is an increase
            metrics.AUDIT_MESSAGES.labels(outcome)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self._sink.close()

    def put(self, event: Event) -> None:
        """Take an event; when thousands wait already, it is lost, counted and logged."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            metrics.AUDIT_MESSAGES.labels("lost").inc()
            _log.error("audit message lost: too many wait")

    def _run(self) -> None:
        while True:
            try:
                event = self._queue.get(timeout=_RETRY_SECONDS)
            except queue.Empty:
                self._flush()
                continue
            if event is None:
                self._flush()
                return
            self._write(event)

    def _write(self, event: Event) -> None:
        try:
            self._sink.write(to_xml(event, self._source, self._site))
        except OSError as error:
            metrics.AUDIT_MESSAGES.labels("lost").inc()
            _log.error("audit message lost", error=error)
        else:
            metrics.AUDIT_MESSAGES.labels("kept").inc()

    def _flush(self) -> None:
        if isinstance(self._sink, Spool) and self._sink.waits:
            with suppress(OSError):  # tried again a little later
                self._sink.flush()


class Written:
    """A trail for a process that ends soon: :meth:`put` writes at once, and what fails is for the caller to say."""

    def __init__(
        self, sink: Sink, *, source: str, site: str = "", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._sink = sink
        self._source = source
        self._site = site
        self.clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sink.close()

    def put(self, event: Event) -> None:
        """Write an event.

        Raises:
            OSError: neither collector nor disk takes it.
        """
        self._sink.write(to_xml(event, self._source, self._site))

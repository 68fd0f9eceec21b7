"""The trail reaches a file and a collector, and what a collector misses waits on disk in order."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.audit.messages import Action, Code, Event, Outcome, Participant
from gateway.audit.trail import FileSink, Spool, SyslogSink, Trail
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def event(name: str) -> Event:
    return Event(Code.QUERY, Action.EXECUTE, Outcome.SUCCESS, datetime.now(UTC), [Participant(name)])


class Collector:
    """Takes RFC 6587 frames over TCP."""

    def __init__(self, port: int) -> None:
        self.messages: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while length := b"".join(iter(lambda: stream.read(1).strip(), b"")):
                self.messages.append(stream.read(int(length)))

    def titles(self) -> list[str]:
        return [title for one in self.messages for title in re.findall(r' UserID="([^"]*)"', one.decode())]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextmanager
def collecting(port: int) -> Iterator[Collector]:
    collector = Collector(port)
    try:
        yield collector
    finally:
        collector.close()


def test_a_file_has_one_message_a_line(tmp_path: Path) -> None:
    with Trail(FileSink(tmp_path / "audit.xml"), source="G") as trail:
        for name in ("A", "B"):
            trail.put(event(name))
    lines = (tmp_path / "audit.xml").read_text().splitlines()
    assert [re.findall(r' UserID="([^"]*)"', line) for line in lines] == [["A"], ["B"]]


def test_a_collector_gets_rfc_5424(tmp_path: Path) -> None:
    port = free_port()
    spool = Spool(SyslogSink("127.0.0.1", port), tmp_path / "s")
    with collecting(port) as collector, Trail(spool, source="G") as trail:
        trail.put(event("A"))
        (message,) = wait_until(lambda: collector.messages, "the message arrives")
    head, _, body = message.partition(b"\xef\xbb\xbf")
    assert re.fullmatch(rb"<85>1 \d{4}-\S+Z \S+ dicom-gateway \d+ IHE\+RFC-3881 - ", head)
    assert body.startswith(b"<AuditMessage>")


def test_what_a_collector_misses_waits_and_arrives_in_order(tmp_path: Path) -> None:
    port = free_port()
    spool = tmp_path / "spool"
    with Trail(Spool(SyslogSink("127.0.0.1", port), spool), source="G") as trail:
        for name in ("A", "B", "C"):
            trail.put(event(name))
        wait_until(lambda: spool.exists() and spool.read_bytes().count(b"\n") == 3, "three messages wait")
        with collecting(port) as collector:
            trail.put(event("D"))
            wait_until(lambda: len(collector.messages) == 4, "all arrive")
            assert collector.titles() == ["A", "B", "C", "D"]
        assert not spool.exists()
        trail.put(event("E"))
        wait_until(spool.exists, "the next one waits, since the collector has hung up")
    with collecting(port) as collector, Trail(Spool(SyslogSink("127.0.0.1", port), spool), source="G") as trail:
        trail.put(event("F"))
        wait_until(lambda: len(collector.messages) == 2, "what another process left arrives too")
        assert collector.titles() == ["E", "F"]


def test_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(20)
        sink = SyslogSink("127.0.0.1", collector.getsockname()[1], tcp=False)
        with Trail(Spool(sink, tmp_path / "s"), source="G") as trail:
            trail.put(event("A"))
            assert b'UserID="A"' in collector.recv(65535)


def test_a_full_disk_is_counted_and_nobody_waits(tmp_path: Path) -> None:
    with Trail(FileSink(tmp_path / "no" / "folder"), source="G") as trail:
        for _ in range(3):
            trail.put(event("A"))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_spool_keeps_what_was_not_taken(tmp_path: Path, left: int) -> None:
    class Sink:
        def __init__(self) -> None:
            self.taken: list[bytes] = []

        def write(self, message: bytes) -> None:
            if len(self.taken) >= left:
                raise OSError("full")
            self.taken.append(message)

        def close(self) -> None:
            return

    (tmp_path / "s").write_bytes(b"1\n2\n3\n")
    sink = Sink()
    spool = Spool(sink, tmp_path / "s")
    spool.write(b"4")
    waiting = (tmp_path / "s").read_bytes().splitlines()
    assert [*sink.taken, *waiting] == [b"1", b"2", b"3", b"4"]

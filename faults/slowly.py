"""HTTP clients that send a byte now and then, a body without end, or nothing; more of them than are let in."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from time import monotonic

from faults.world import BOUND, Broken, Scenario, World, require

_HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
_BODY = b"PUT /api/logging HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8000000\r\n\r\n"
_CHUNKS = b"PUT /api/logging HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_PROMPT = BOUND / 2
"""Seconds for each of /livez and /metrics meanwhile; the machine is busy with the clients, too."""


def senders(world: World) -> str:
    """Each is cut at its deadline or for another one, and probes and Prometheus are answered all the while."""
    count = 250 if world.quick else 600
    began = monotonic()
    with _asked(world) as (asked, resets), contextlib.ExitStack() as stack:
        clients = [_opened(world, stack, number) for number in range(count)]
        opened = monotonic() - began
        _drip(clients)
        cut = monotonic() - began - opened
        ended = world.gateway.metric("http_limited_total")
    require(len(resets) * 5 <= len(asked), f"{len(resets)} probes were ended for others, {len(asked)} answered")
    require(len(asked) >= 4, f"/livez and /metrics were answered {len(asked)} times")
    require(max(asked) < _PROMPT, f"/livez or /metrics after {max(asked):.1f} s")
    require(ended >= count / 2, f"{ended:.0f} ended of {count}")
    return f"{count} cut after {cut:.1f} s (deadline 1 s), {len(asked)} probes meanwhile, longest {max(asked):.2f} s"


def _opened(world: World, stack: contextlib.ExitStack, number: int) -> tuple[socket.socket, bytes]:
    """A client, and what it sends again and again."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", world.gateway.http_port), 10))
    start, goes_on = ((b"", b""), (_HEAD, b"x"), (_BODY, b"x"), (_CHUNKS, b"1\r\nx\r\n"))[number % 4]
    with contextlib.suppress(OSError):  # ended for a later one already
        client.sendall(start)
    client.settimeout(0)
    return client, goes_on


def _drip(clients: list[tuple[socket.socket, bytes]]) -> None:
    """Send on until the gateway has hung up on all of them."""
    pause, limit, left = threading.Event(), monotonic() + BOUND, clients
    while left:
        require(monotonic() < limit, f"{len(left)} are not cut after {BOUND} s")
        left = [one for one in left if _goes_on(*one)]
        pause.wait(0.1)


def _goes_on(client: socket.socket, data: bytes) -> bool:
    try:
        client.send(data)
        while client.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def _asked(world: World) -> Iterator[tuple[list[float], list[str]]]:
    """How long /livez and /metrics took, one after the other, while the block runs; and those that have to ask again.

    A probe that has not sent its request yet may be the connection that is ended for a later one.
    """
    took: list[float] = []
    resets: list[str] = []
    stop = threading.Event()
    problems: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            for path in ("/livez", "/metrics"):
                began = monotonic()
                try:
                    status, _ = world.gateway.http(path)
                except ConnectionResetError:
                    resets.append(path)
                    continue
                except OSError as error:
                    problems.append(f"{path}: {error}")
                    return
                if status != 200:
                    problems.append(f"{path}: {status}")
                took.append(monotonic() - began)
            stop.wait(0.05)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    try:
        yield took, resets
    finally:
        stop.set()
        asker.join(30)
    if problems:
        raise Broken(problems[0])


SCENARIOS = [Scenario("HTTP slow senders", senders)]

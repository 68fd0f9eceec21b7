"""Clients that send slowly, send nothing, or do not read; and that everybody else is answered at once."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from time import monotonic

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.metrics import REGISTRY
from gateway.web.connections import Bounds
from tests.support.waiting import wait_until
from tests.web.conftest import Serve

SOON = Bounds(connections=20, seconds=0.5)
HEAD = b"POST /api/thing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


async def _body(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


ROUTES = [Route("/api/thing", _body, methods=["POST"])]


def opened(client: httpx.Client, source: str = "127.0.0.1") -> socket.socket:
    address = ("127.0.0.1", client.base_url.port or 0)
    return socket.create_connection(address, timeout=20, source_address=(source, 0))


def ended_as(reason: str) -> float:
    """Connections that were ended for a reason, so far and in all tests."""
    return REGISTRY.get_sample_value("dicom_gateway_http_limited_total", {"reason": reason}) or 0


def rest(connection: socket.socket) -> bytes:
    """What still comes until the server hangs up."""
    found = b""
    try:
        while more := connection.recv(65536):
            found += more
    except ConnectionResetError:
        pass
    return found


def dripped(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte each 20 ms until the server hangs up; what it said."""
    connection.settimeout(0.02)
    found = b""
    for at in range(len(data)):
        try:
            connection.sendall(data[at : at + 1])
            more = connection.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return found
        if not more:
            return found
        found += more
    raise AssertionError("it was never cut")


@pytest.mark.parametrize("before", [b"", HEAD], ids=["head", "body"])
def test_a_request_that_drips_is_cut_at_its_deadline(serve: Serve, before: bytes) -> None:
    client, counted = serve(bounds=SOON, routes=ROUTES), ended_as("slow")
    with opened(client) as connection:
        connection.sendall(before)
        began = monotonic()
        said = dripped(connection, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 1000)
        assert 0.3 < monotonic() - began < 5
    assert said.startswith(b"HTTP/1.1 408")
    assert ended_as("slow") == counted + 1


@pytest.mark.parametrize("said", [b"", HEAD, HEAD + b"x" * 999], ids=["nothing", "a head", "nearly all"])
def test_what_stops_sending_is_cut(serve: Serve, said: bytes) -> None:
    client = serve(bounds=SOON, routes=ROUTES)
    with opened(client) as connection:
        connection.sendall(said)
        assert rest(connection).startswith(b"HTTP/1.1 408")


def test_a_body_after_its_answer_does_not_hold_the_connection(serve: Serve) -> None:
    """Refused by its announced length; the client sends on regardless."""
    client = serve(bounds=SOON, routes=ROUTES)
    with opened(client) as connection:
        connection.sendall(HEAD.replace(b"1000", b"99999999"))
        said = dripped(connection, b"x" * 1000)
    assert said.startswith(b"HTTP/1.1 413")


def test_an_answer_that_is_not_read_ends(serve: Serve) -> None:
    async def much(_request: Request) -> Response:
        return Response(b"x" * (32 << 20))

    before = ended_as("slow")
    client = serve(bounds=SOON, routes=[Route("/api/much", much)])
    with opened(client) as connection:
        connection.sendall(b"GET /api/much HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.sendall(b"x")  # to send is not to read
        wait_until(lambda: ended_as("slow") == before + 1, "it is ended")


def test_an_answer_may_take_longer_than_a_request(serve: Serve) -> None:
    def long(_request: Request) -> Response:
        threading.Event().wait(1.2)
        return Response("done")

    assert serve(bounds=SOON, routes=[Route("/api/long", long)]).get("/api/long").text == "done"


def test_a_connection_is_used_for_many_requests(serve: Serve) -> None:
    client = serve(bounds=SOON, routes=ROUTES)
    began = monotonic()
    while monotonic() - began < 1.2:
        assert client.post("/api/thing", content=b"abc").json() == {"bytes": 3}


def test_whoever_sends_at_once_is_answered_among_hundreds_that_do_not(serve: Serve) -> None:
    client = serve(bounds=Bounds(connections=20, seconds=30), routes=ROUTES)
    with ExitStack() as stack:
        patient = stack.enter_context(opened(client, "127.0.0.2"))
        patient.sendall(HEAD)
        for number in range(300):
            stack.enter_context(opened(client)).sendall(HEAD[: number % 60])
            if number % 50 == 0:
                began = monotonic()
                for path in ("/livez", "/metrics"):
                    assert httpx.get(client.base_url.join(path), trust_env=False, timeout=20).status_code == 200
                assert monotonic() - began < 10  # of a deadline of 30
        patient.sendall(b"x" * 1000)  # of another address than the crowd, so that it was not ended for others
        assert patient.recv(4096).startswith(b"HTTP/1.1 200")
        wait_until(lambda: ended_as("crowd") >= 280, "room was made for those that came later")

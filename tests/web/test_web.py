"""Health, metrics, problem documents and access, over real sockets."""

import errno
import socket
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.dicom.status import Status
from gateway.errors import ConfigError, GatewayError, Refused, StorageError, UpstreamError, UpstreamKind
from gateway.web.access import Tokens
from gateway.web.app import MAX_BODY, create_app
from gateway.web.health import READY, Finding, State
from gateway.web.server import WebServer, listen
from tests.web.conftest import Serve


def test_alive(serve: Serve) -> None:
    answer = serve().get("/livez")
    assert answer.status_code == 200
    assert answer.json() == {"status": "alive"}


def test_ready_when_every_part_is(serve: Serve) -> None:
    answer = serve({"archive": lambda: READY, "dimse": lambda: READY}).get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "parts": {"archive": {"status": "ready"}, "dimse": {"status": "ready"}},
    }


def test_not_ready_names_the_part(serve: Serve) -> None:
    def full() -> Finding:
        raise StorageError("less than 1 GiB is free")

    def broken() -> Finding:
        raise OSError(errno.EIO, "Input/output error", "/secret/path")

    answer = serve({"archive": full, "index": broken, "dimse": lambda: READY}).get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "parts": {
            "archive": {"status": "not ready", "detail": "less than 1 GiB is free"},
            "index": {"status": "not ready", "detail": "Input/output error"},
            "dimse": {"status": "ready"},
        },
    }


def test_degraded_is_still_ready(serve: Serve) -> None:
    answer = serve({"leading": lambda: Finding(State.DEGRADED, "QRSCP does not answer")}).get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["parts"]["leading"] == {"status": "degraded", "detail": "QRSCP does not answer"}


def test_a_slow_check_does_not_hold_up_liveness(serve: Serve) -> None:
    asked, release = threading.Event(), threading.Event()

    def slow() -> Finding:
        asked.set()
        assert release.wait(20)
        return READY

    client = serve({"slow": slow})
    waiting = threading.Thread(target=lambda: client.get("/readyz"))
    waiting.start()
    assert asked.wait(20)
    assert client.get("/livez").status_code == 200
    release.set()
    waiting.join()


def test_metrics_in_the_text_format(serve: Serve) -> None:
    client = serve()
    client.get("/livez")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    counted = {
        tuple(sample.labels.values()): sample.value for sample in families["dicom_gateway_http_requests"].samples
    }
    assert counted["/livez", "2xx"] >= 1


def test_the_exposition_is_asked_for_at_each_scrape(serve: Serve) -> None:
    asked: list[str] = []

    def fresh() -> str:
        asked.append("made_total 0.0\n")
        return asked[-1]

    client = serve(exposition=fresh)
    assert client.get("/metrics").text == client.get("/metrics").text == "made_total 0.0\n"
    assert len(asked) == 2


def test_unknown_paths_share_one_label(serve: Serve) -> None:
    client = serve()
    for path in ("/DOE^JANE", "/x/1.2.3"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {"type": "about:blank", "title": "Not Found", "status": 404}
    metrics = client.get("/metrics").text
    assert "DOE" not in metrics
    assert 'route="unknown",status="4xx"' in metrics


def test_a_wrong_method_is_a_problem(serve: Serve) -> None:
    answer = serve().post("/livez")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert answer.json()["title"] == "Method Not Allowed"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("no such study", Status.NO_SUCH_OBJECT_INSTANCE), 404),
        (Refused("not allowed", Status.NOT_AUTHORISED), 403),
        (Refused("bad", Status.INVALID_ARGUMENT_VALUE), 400),
        (UpstreamError("silent", UpstreamKind.TIMEOUT), 504),
        (UpstreamError("refused", UpstreamKind.REJECTED), 502),
        (StorageError("disk full"), 507),
        (GatewayError("odd"), 500),
    ],
)
def test_errors_of_the_rooms_are_problems(serve: Serve, error: GatewayError, status: int) -> None:
    def fail(_request: Request) -> Response:
        raise error

    answer = serve(routes=[Route("/api/fail", fail)]).get("/api/fail")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == error.message


def test_a_bug_tells_the_caller_nothing(serve: Serve) -> None:
    def fail(_request: Request) -> Response:
        raise KeyError("CANARY^ANNA")

    client = serve(routes=[Route("/api/fail", fail)])
    answer = client.get("/api/fail")
    assert answer.status_code == 500
    assert "CANARY" not in answer.text
    assert client.get("/livez").status_code == 200


ADMIN, READER = "a" * 32, "r" * 32


@pytest.fixture
def guarded(serve: Serve) -> httpx.Client:
    async def body(request: Request) -> Response:
        return JSONResponse({"bytes": len(await request.body())})

    routes = [Route("/api/thing", body, methods=["GET", "POST"])]
    return serve(tokens=Tokens(ADMIN, READER), routes=routes)


@pytest.mark.parametrize(
    ("method", "header", "status"),
    [
        ("GET", None, 401),
        ("GET", "Bearer", 401),
        ("GET", "Basic YTpi", 401),
        ("GET", "Bearer wrong", 401),
        ("GET", "Bearer \xff", 401),
        ("GET", f"Bearer {READER}", 200),
        ("POST", f"Bearer {READER}", 403),
        ("GET", f"bearer {ADMIN}", 200),
        ("POST", f"Bearer {ADMIN}", 200),
    ],
)
def test_roles(guarded: httpx.Client, method: str, header: str | None, status: int) -> None:
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    answer = guarded.request(method, "/api/thing", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_wrong_tokens_are_not_looked_at_without_end(serve: Serve) -> None:
    told: list[str] = []
    client = serve(
        tokens=Tokens(ADMIN, READER),
        routes=[Route("/api/thing", lambda _request: Response("x"))],
        refused=told.append,
        max_login_failures=3,
    )
    right = {"Authorization": f"Bearer {ADMIN}"}
    assert client.get("/api/thing", headers=right).status_code == 200  # which is no failure
    for _ in range(3):
        assert client.get("/api/thing", headers={"Authorization": "Bearer wrong"}).status_code == 401
    for headers in ({"Authorization": "Bearer wrong"}, right):
        answer = client.get("/api/thing", headers=headers)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert answer.json()["title"] == "Too Many Requests"
    assert len(told) == 3
    assert client.get("/livez").status_code == 200
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=client.base_url, transport=elsewhere, trust_env=False) as other:
        assert other.get("/api/thing", headers=right).status_code == 200
    assert 'http_limited_total{reason="logins"}' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_health_and_metrics_need_no_token(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/api/none", "/", "//livez", "/livez/", "/metrics/x"])
def test_everything_else_does(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_without_a_token_no_foreign_page_gets_in(serve: Serve, headers: dict[str, str], status: int) -> None:
    client = serve(routes=[Route("/api/thing", lambda _request: Response("x"))])
    assert client.get("/api/thing", headers=headers).status_code == status


def test_a_large_body_is_refused(guarded: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    assert guarded.post("/api/thing", headers=headers, content=b"x" * MAX_BODY).json() == {"bytes": MAX_BODY}
    assert guarded.post("/api/thing", headers=headers, content=b"x" * (MAX_BODY + 1)).status_code == 413
    chunks = (b"x" * 65536 for _ in range(MAX_BODY // 65536 + 1))
    assert guarded.post("/api/thing", headers=headers, content=chunks).status_code == 413


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x01\x00\x00\x00\x00\x44" + bytes(68), b"GET / HTTP/9.9.9\r\n\r\n",
     b"GET /livez HTTP/1.1\r\nContent-Length: x\r\n\r\n",
     b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_service_goes_on(serve: Serve, request_bytes: bytes) -> None:
    client = serve()
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(request_bytes)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400")
    assert client.get("/livez").status_code == 200


def test_tokens_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text(f"{ADMIN}\n")
    tokens = Tokens.read(tmp_path / "admin", None)
    assert tokens == Tokens(ADMIN, "")
    assert ADMIN not in repr(tokens)
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(ConfigError, match="at least 16 characters"):
        Tokens.read(tmp_path / "short", None)
    with pytest.raises(ConfigError, match="No such file"):
        Tokens.read(None, tmp_path / "none")


def test_a_port_in_use_is_an_error_at_once() -> None:
    server = WebServer(create_app({}), listen("127.0.0.1", 0))
    try:
        with pytest.raises(OSError, match="in use"):
            WebServer(create_app({}), listen("127.0.0.1", server.port))
    finally:
        server.stop()


def test_after_stop_the_port_is_free() -> None:
    server = WebServer(create_app({}), listen("127.0.0.1", 0))
    server.start()
    server.stop()
    again = WebServer(create_app({}), listen("127.0.0.1", server.port))
    again.stop()


def test_a_path_that_a_caller_made_up_is_no_label(guarded: httpx.Client) -> None:
    assert guarded.get("/CANARY^ANNA").status_code in {401, 403, 404}
    assert guarded.get("/api/CANARY7", headers={"Authorization": f"Bearer {READER}"}).status_code == 404
    text = guarded.get("/metrics").text
    assert "CANARY" not in text
    assert 'route="unknown",status="4xx"' in text

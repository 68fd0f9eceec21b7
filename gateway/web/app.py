"""The HTTP application, built from values in the order a request meets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import logs, metrics
from gateway.errors import GatewayError
from gateway.web.access import Access, Tokens
from gateway.web.health import Check, health_routes
from gateway.web.problems import gateway_error, http_error, problem

_log = logs.get_logger("web")

MAX_BODY = 2**23
"""Bytes of a request's body: the interface takes commands, not images. The longest names some 50,000 instances."""


def _nobody_cares(_address: str) -> None:
    """There is no audit trail."""


def create_app(
    checks: Mapping[str, Check],
    *,
    exposition: Callable[[], str] | None = None,
    tokens: Tokens | None = None,
    routes: Sequence[Route] = (),
    refused: Callable[[str], None] = _nobody_cares,
    max_login_failures: int = 0,
) -> Starlette:
    """Build the application.

    Args:
        checks: readiness of each part by its name.
        exposition: metrics in the text format, of all processes together; this process's own unless given.
        tokens: who may use what is not public.
        routes: those of other rooms; they need a token.
        refused: told the address of whoever was refused for want of a token.
        max_login_failures: a minute, from one address; 0 is no limit.
    """
    served = [*health_routes(checks), Route("/metrics", _metrics(exposition or _own)), *routes]
    return Starlette(
        routes=served,
        middleware=[
            Middleware(Counted, labels=frozenset(_label(route.path) for route in served)),
            Middleware(BoundedBody, limit=MAX_BODY),
            Middleware(Access, tokens=tokens or Tokens(), refused=refused, max_failures=max_login_failures),
        ],
        exception_handlers={
            HTTPException: http_error,
            GatewayError: gateway_error,
        },
    )


def _own() -> str:
    return generate_latest(metrics.REGISTRY).decode()


def _metrics(exposition: Callable[[], str]) -> Callable[[Request], Response]:
    def scrape(_request: Request) -> Response:
        return Response(exposition(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return scrape


class Counted:
    """ASGI middleware around all others: counts requests, measures them, and answers where one ends in a bug.

    Args:
        labels: of the paths that are served; a path that a caller made up counts as ``unknown``.
    """

    def __init__(self, app: ASGIApp, labels: Collection[str]) -> None:
        self._app = app
        self._labels = labels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and count the status that goes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.monotonic()

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        except ClientDisconnect:  # in the middle of its body, or ended by us: nobody is there to be answered
            _log.info("request not received whole")
        except Exception as error:  # noqa: BLE001 - the root of a request, as a thread's: log, count, answer
            _log.error("request failed unexpectedly", exc_info=error)
            if not status:
                await problem(500, "the log says more")(scope, receive, noting_status)
        label = _label(scope["path"])
        route = label if label in self._labels else "unknown"
        metrics.HTTP_REQUESTS.labels(route, f"{status // 100}xx" if status else "aborted").inc()
        metrics.HTTP_SECONDS.labels(route).observe(time.monotonic() - started)


def _label(path: str) -> str:
    """A bounded label for a path that has a route: its first segment, and the second under /api."""
    parts = path.split("/")[1:]
    return "/" + "/".join(parts[: 2 if parts[0] == "api" else 1])


class BoundedBody:
    """ASGI middleware that refuses a body over a number of bytes, announced or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is within the bound."""
        announced = Headers(scope=scope).get("content-length", "0") if scope["type"] == "http" else "0"
        if int(announced) > self._limit:  # h11 has checked that it is a number
            await problem(413, f"at most {self._limit} bytes")(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise HTTPException(413, f"at most {self._limit} bytes")
            return message

        await self._app(scope, bounded, send)

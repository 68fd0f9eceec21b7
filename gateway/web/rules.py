"""The coercion rules over HTTP: which are in force, and reading them again: ``GET`` and ``POST /api/rules``."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.errors import ConfigError
from gateway.web.problems import problem


def rules_routes(version: Callable[[], str], reload: Callable[[], str]) -> list[Route]:
    """The routes.

    Args:
        version: tells the version in force.
        reload: reads the rules again in all processes, and tells the new version; raises ConfigError where they are
            not good, and the rules in force stay.
    """

    async def get(_request: Request) -> Response:
        return JSONResponse({"version": version()})

    async def post(_request: Request) -> Response:
        try:
            return JSONResponse({"version": await run_in_threadpool(reload)})
        except ConfigError as error:
            return problem(422, "the rules have problems; those in force stay", problems=error.problems)

    return [Route("/api/rules", get, methods=["GET"]), Route("/api/rules", post, methods=["POST"])]

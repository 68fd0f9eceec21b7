"""The level of the log over HTTP, changed at run time in all processes: ``GET`` and ``PUT /api/logging``."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.logs import LEVELS
from gateway.web.bodies import json_body


def logging_routes(level: Callable[[], str], change: Callable[[str], None]) -> list[Route]:
    """The routes.

    Args:
        level: tells the level in force.
        change: sets it; until the next start, the file is not written.
    """

    async def get(_request: Request) -> Response:
        return JSONResponse({"level": level()})

    async def put(request: Request) -> Response:
        try:
            wanted = (await json_body(request))["level"]
        except (KeyError, TypeError) as error:
            raise HTTPException(400, 'a body such as {"level": "debug"} is wanted') from error
        if not isinstance(wanted, str) or wanted not in LEVELS:
            raise HTTPException(400, f"level is one of {', '.join(LEVELS)}")
        await run_in_threadpool(change, wanted)
        return JSONResponse({"level": wanted})

    return [Route("/api/logging", get, methods=["GET"]), Route("/api/logging", put, methods=["PUT"])]

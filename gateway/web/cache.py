"""The caches of the leading archives over HTTP: what is in them, and forgetting it.

``GET /api/cache`` shows, ``DELETE /api/cache?study=UID``, ``?patient=ID`` or ``?all=true`` forgets; ``archive=NAME``
limits either to one leading archive. Query keys are shown without their values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Document = dict[str, Any]


class Flush(Protocol):
    """Forgets a study, a patient or everything, in one archive's cache or all; returns how many entries went."""

    def __call__(self, *, archive: str, study: str, patient: str) -> int:
        """Empty strings mean: not limited by that."""


def cache_routes(show: Callable[[str], Document], flush: Flush) -> list[Route]:
    """The routes.

    Args:
        show: the document for one archive, or for all where the name is empty.
    """

    async def get(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(show, request.query_params.get("archive", "")))

    async def delete(request: Request) -> Response:
        given = request.query_params
        study, patient, everything = given.get("study", ""), given.get("patient", ""), given.get("all") == "true"
        if sum((bool(study), bool(patient), everything)) != 1:
            raise HTTPException(400, "say what to forget: study=UID, patient=ID or all=true")
        dropped = await run_in_threadpool(lambda: flush(archive=given.get("archive", ""), study=study, patient=patient))
        return JSONResponse({"dropped": dropped})

    return [Route("/api/cache", get, methods=["GET"]), Route("/api/cache", delete, methods=["DELETE"])]

"""JSON bodies of requests."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def json_body(request: Request, *, default: object = None) -> Any:
    """The body as JSON; ``default`` where there is none.

    Raises:
        HTTPException: 400, it is no JSON.
    """
    raw = await request.body()
    if not raw.strip():
        return default
    try:
        return await request.json()
    except ValueError as error:  # also bytes that are no text
        raise HTTPException(400, "the body is no JSON") from error
    except RecursionError as error:
        raise HTTPException(400, "the body is nested too deep") from error

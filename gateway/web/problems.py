"""Errors as problem documents (RFC 9457), one place for all routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import logs
from gateway.dicom.status import Status
from gateway.errors import BadInstance, GatewayError, Refused, StorageError, UpstreamError, UpstreamKind

_log = logs.get_logger("web")


def problem(
    status: int, detail: str = "", headers: dict[str, str] | None = None, *, problems: Sequence[str] = ()
) -> Response:
    """A problem document; ``detail`` is for people and holds no patient's data.

    Args:
        problems: each one that was found, where there can be several.
    """
    document: dict[str, object] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail and detail != document["title"]:
        document["detail"] = detail
    if problems:
        document["problems"] = list(problems)
    return JSONResponse(document, status, headers, media_type="application/problem+json")


def http_error(_request: Request, error: Exception) -> Response:
    """What Starlette and routes raise."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, dict(error.headers or {}))


def gateway_error(_request: Request, error: Exception) -> Response:
    """What the rooms raise."""
    assert isinstance(error, GatewayError)
    status = http_status(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request failed", http_status=status, error=error)
    return problem(status, error.message)


def http_status(error: GatewayError) -> int:
    """The HTTP status that says who is to blame."""
    if isinstance(error, Refused):
        return _REFUSALS.get(error.status, HTTPStatus.BAD_REQUEST)
    if isinstance(error, UpstreamError):
        return HTTPStatus.GATEWAY_TIMEOUT if error.kind is UpstreamKind.TIMEOUT else HTTPStatus.BAD_GATEWAY
    if isinstance(error, StorageError):
        return HTTPStatus.INSUFFICIENT_STORAGE
    if isinstance(error, BadInstance):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.INTERNAL_SERVER_ERROR


_REFUSALS: dict[int, int] = {
    Status.NOT_AUTHORISED: HTTPStatus.FORBIDDEN,
    Status.NO_SUCH_OBJECT_INSTANCE: HTTPStatus.NOT_FOUND,
    Status.MOVE_DESTINATION_UNKNOWN: HTTPStatus.NOT_FOUND,
    Status.OUT_OF_RESOURCES: HTTPStatus.SERVICE_UNAVAILABLE,
}

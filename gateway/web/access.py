"""Who may use the HTTP interface: bearer tokens with two roles.

Without a token the interface serves this machine only: it is bound to loopback then, which the configuration makes
sure of, and a request must name a loopback host and come from no foreign page. A browser on this machine could
otherwise be made to carry requests of any web site to it (DNS rebinding, cross-site requests).

Log-ins that fail are limited by address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import logs, metrics
from gateway.errors import ConfigError
from gateway.rates import Buckets, Rate
from gateway.web.problems import problem

PUBLIC = frozenset({"/livez", "/readyz", "/metrics"})
"""Without login: orchestrators and Prometheus; none of them shows patient data."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST = 16
_log = logs.get_logger("web")


@dataclass(frozen=True)
class Tokens:
    """The bearer tokens, each empty where there is none.

    Attributes:
        admin: may do everything.
        read_only: may read.
    """

    admin: str = ""
    read_only: str = ""

    def __repr__(self) -> str:
        return "<Tokens>"

    @classmethod
    def read(cls, admin: Path | None, read_only: Path | None) -> Tokens:
        """Read them from their files.

        Raises:
            ConfigError: a file cannot be read, or what it holds is too short to be a secret.
        """
        return cls(_token(admin), _token(read_only))


def _token(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError([f"{file}: {reason}"]) from error
    if len(token) < _SHORTEST:
        raise ConfigError([f"{file}: a token has at least {_SHORTEST} characters (openssl rand -hex 32 makes one)"])
    return token


class Access:
    """ASGI middleware that lets a request pass or answers 401, 403 or 429.

    Args:
        refused: told the address of whoever was refused with 401 or 403.
        max_failures: log-ins that may fail within a minute, from one address; 0 is no limit. Once there were so many,
            no token from there is looked at until the next failure is due, so that guessing gets no faster with luck.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, refused: Callable[[str], None], max_failures: int) -> None:
        self._app = app
        self._tokens = tokens
        self._refused = refused
        self._rate = Rate(max_failures / 60, max_failures) if max_failures else None
        self._failures = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        address = client[0] if client else ""
        if self._rate and (wait := self._failures.wait(address, self._rate)):
            metrics.HTTP_LIMITED.labels("logins").inc()
            later = {"Retry-After": str(ceil(wait))}
            await problem(429, "too many wrong tokens from this address", later)(scope, receive, send)
            return
        refused = self._refusal(scope["method"], Headers(scope=scope))
        if refused is None:
            await self._app(scope, receive, send)
            return
        status, reason = refused
        if self._rate and status == 401:
            self._failures.take(address, self._rate)
        _log.warning("request refused", http_status=status, reason=reason, address=address)
        self._refused(address)
        challenge = {"WWW-Authenticate": 'Bearer realm="dicom-gateway"'} if status == 401 else None
        await problem(status, reason, challenge)(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        tokens = self._tokens
        if not tokens.admin and not tokens.read_only:
            return None if _is_local(headers) else (403, "without a token this machine alone is served")
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            return 401, "a bearer token is needed"
        presented = given.strip().encode()
        is_admin = compare_digest(presented, tokens.admin.encode()) and bool(tokens.admin)
        is_reader = compare_digest(presented, tokens.read_only.encode()) and bool(tokens.read_only)
        if is_admin or (is_reader and method in _READING):
            return None
        return (403, "this token may only read") if is_reader else (401, "the bearer token is wrong")


def _is_local(headers: Headers) -> bool:
    origin = headers.get("origin")
    return _hostname(f"//{headers.get('host', '')}") in _LOOPBACK and (origin is None or _hostname(origin) in _LOOPBACK)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""

"""Liveness and readiness: is the process running, and can it do its work.

``/livez`` answers as long as the process can answer at all: restart it when it does not. ``/readyz`` asks every part;
one that is not ready makes it 503, so that no traffic is sent here, while one that is degraded (a leading archive that
is down: local answers go on) is only named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.errors import GatewayError


class State(Enum):
    """How a part is."""

    READY = "ready"
    DEGRADED = "degraded"
    NOT_READY = "not ready"


@dataclass(frozen=True)
class Finding:
    """What a check found; ``detail`` is shown to everybody, so it names no patient and no secret."""

    state: State
    detail: str = ""


READY = Finding(State.READY)
Check = Callable[[], Finding]
"""Looks at one part. It may block for a moment, not for long; a GatewayError or OSError means not ready."""


def health_routes(checks: Mapping[str, Check]) -> list[Route]:
    """``/livez`` and ``/readyz``."""

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "alive"}, headers=_NEVER_CACHED)

    def readyz(_request: Request) -> Response:
        findings = {name: ask(check) for name, check in checks.items()}
        ready = all(finding.state is not State.NOT_READY for finding in findings.values())
        document = {
            "status": "ready" if ready else "not ready",
            "parts": {
                name: {"status": finding.state.value, **({"detail": finding.detail} if finding.detail else {})}
                for name, finding in findings.items()
            },
        }
        return JSONResponse(document, 200 if ready else 503, headers=_NEVER_CACHED)

    # A plain function is run in one of Starlette's threads, so that a slow check does not stop the others' requests;
    # whether we live must not depend on there being a thread.
    return [Route("/livez", livez), Route("/readyz", readyz)]


_NEVER_CACHED = {"Cache-Control": "no-store"}


def ask(check: Check) -> Finding:
    """Look at one part; an error it has words for is a finding."""
    try:
        return check()
    except GatewayError as error:
        return Finding(State.NOT_READY, error.message)
    except OSError as error:
        return Finding(State.NOT_READY, error.strerror or type(error).__name__)

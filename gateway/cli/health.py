"""``health``: ask a running gateway whether it is alive or ready, for container health checks and exec probes."""

from __future__ import annotations

import json
import urllib.error
from typing import Annotated, Any

import typer

from gateway.cli.common import OPERATION_FAILED, ConfigOption, JsonOption, configuration, print_json, problem
from gateway.cli.running import address, opener
from gateway.config import Config

_SECONDS = 3


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("health")(health)


def health(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it is ready, not only alive.")] = False,
) -> int:
    """Ask the gateway of this configuration on this machine; exit status 0 when it is well."""
    loaded = configuration(config)
    url = f"{address(loaded)}{'/readyz' if ready else '/livez'}"
    status, document = _ask(loaded, url)
    if as_json:
        print_json(document)
    elif status == 200:
        print(document["status"])
    if status == 200:
        return 0
    problem(f"{url}: {_why(document)}")
    return OPERATION_FAILED


def _ask(config: Config, url: str) -> tuple[int, dict[str, Any]]:
    try:
        with opener(config).open(url, timeout=_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except urllib.error.URLError as error:
        return 0, {"status": str(getattr(error.reason, "strerror", None) or error.reason)}
    except (OSError, ValueError) as error:
        return 0, {"status": str(error) or type(error).__name__}


def _why(document: dict[str, Any]) -> str:
    parts = [
        f"{name} {part.get('detail') or part['status']}"
        for name, part in document.get("parts", {}).items()
        if part["status"] == "not ready"
    ]
    return f"{document['status']}{': ' if parts else ''}{', '.join(parts)}"

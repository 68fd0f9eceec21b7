"""``check-config``: read a configuration as ``serve`` would and say everything that is wrong with it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.common import ConfigOption, JsonOption, configuration, print_json, print_table
from gateway.config import Config, json_schema


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check-config")(check_config)


def check_config(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the configuration.")] = False,
) -> None:
    """Check a configuration: all problems at once, each with file, line and path."""
    if schema:
        print_json(json_schema())
        return
    loaded = configuration(config)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
        return
    print_table("", ("what", "is"), _summary(loaded))


def _summary(config: Config) -> list[tuple[str, str]]:
    leading = ", ".join(one.peer for one in config.leading) or "none: this gateway is the leading archive"
    return [
        ("configuration", f"{config.source}: good"),
        ("listens as", f"{config.ae.title} on {config.ae.bind} port {config.ae.port}"),
        ("peers", ", ".join(f"{name} ({peer.aet})" for name, peer in config.peers.items()) or "none"),
        ("leading archive", leading),
        ("local archive", str(config.archive.dicomdir)),
        ("coercion rules", str(config.coercion.rules or "built-in rule only")),
        ("HTTP", f"{config.http.bind} port {config.http.port}"),
    ]

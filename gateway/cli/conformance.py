"""``conformance``: print the DICOM conformance statement."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.common import ConfigOption, configuration
from gateway.daemon.conformance import statement


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("conformance")(conformance)


def conformance(
    config: ConfigOption = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="For the default configuration.")] = False,
) -> None:
    """Print the DICOM conformance statement of a configuration as Markdown."""
    print(statement(None if defaults or config is None else configuration(config).ae), end="")

"""``demo``: the main job on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import OPERATION_FAILED, console
from gateway.demo.show import Demo


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="Leave after the checks instead of staying up.")] = False,
    folder: Annotated[Path, typer.Option(help="Where configurations, archives and logs go; emptied first.")] = Path(
        "var/demo"
    ),
) -> int:
    """Run a leading archive, a gateway and a viewer on this machine, and show what the gateway is for.

    Exit status 0 only if every check held.
    """
    return 0 if Demo(folder.absolute(), console()).play(once=once) else OPERATION_FAILED

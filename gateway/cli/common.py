"""What the verbs share: options, exit statuses, how results and problems are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.config import Config, load
from gateway.errors import ConfigError, GatewayError

OPERATION_FAILED = 1
USAGE = 2
INTERRUPTED = 130

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="GATEWAY_CONFIG", metavar="FILE", help="The configuration, YAML.", show_envvar=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


def configuration(path: Path | None) -> Config:
    """The configuration a verb works with.

    Raises:
        typer.BadParameter: neither ``--config`` nor ``GATEWAY_CONFIG`` names one.
        ConfigError: it has problems.
    """
    if path is None:
        raise typer.BadParameter("no configuration: give --config FILE or set GATEWAY_CONFIG")
    return load(path)


def problem(message: str, hint: str = "") -> None:
    """Say on standard error what is wrong, in one line for each line of the message."""
    for line in message.strip().splitlines():
        print(f"error: {line}{f' ({hint})' if hint else ''}", file=sys.stderr)


def report(error: Exception) -> int:
    """Say what went wrong, one line a problem, and return the exit status it deserves."""
    if isinstance(error, ConfigError):
        for line in error.problems:
            problem(line)
        return USAGE
    if isinstance(error, typer.TyperException):
        problem(error.format_message())  # empty where the help was shown instead
        return USAGE
    if isinstance(error, GatewayError):
        problem(error.message, error.hint)
    elif isinstance(error, OSError) and error.filename:
        problem(f"{error.filename}: {error.strerror}")
    else:
        problem(str(error) or type(error).__name__)
    return OPERATION_FAILED


def warn(message: str) -> None:
    """Say on standard error what the user should know although the operation goes on."""
    print(f"warning: {message}", file=sys.stderr)


def print_json(document: object) -> None:
    """Print one JSON document on standard output; text stays readable in any script."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output; numbers are aligned to the right.

    Away from a terminal nothing is cut: the table is as wide as its content.
    """
    cells = [tuple(row) for row in rows]
    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(escape(str(value)) for value in row))
    console().print(table)


def console() -> Console:
    """Standard output with tables and colours where it is a terminal."""
    return Console(markup=True, highlight=False, width=None if sys.stdout.isatty() else 200)


def escape(text: str) -> str:
    """Text of a peer or a file as it is: no markup of ours, no control characters for the terminal."""
    printable = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return printable.replace("[", "\\[")

"""The command ``dicom-gateway``: verbs that parse, call and print; no logic lives here.

A module of this package is a verb or a group of verbs and has ``register(app)``, which adds it to the command. The
conventions that all of them share are in :mod:`gateway.cli.common`:

- ``--config FILE``, else the variable ``GATEWAY_CONFIG``; ``--json`` prints one JSON document on standard output;
- standard output carries the result, standard error the problems, one line each;
- exit status 0 success, 1 the operation failed (a DIMSE failure status included), 2 usage or configuration,
  130 interrupted. A traceback is a bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from gateway import __version__
from gateway.cli import (
    archive,
    cache,
    check_config,
    commit,
    conformance,
    demo,
    echo,
    find,
    health,
    reconcile,
    retrieve,
    rules,
    serve,
    store,
)
from gateway.cli.common import INTERRUPTED, OPERATION_FAILED, report
from gateway.errors import GatewayError

VERBS = (
    serve,
    demo,
    check_config,
    rules,
    health,
    reconcile,
    archive,
    cache,
    echo,
    find,
    retrieve,
    store,
    commit,
    conformance,
)
"""In the order ``--help`` lists them."""

app = typer.Typer(
    name="dicom-gateway",
    help="A DICOM query/retrieve gateway that answers with the leading archive's patient and study attributes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dicom-gateway {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the verb."""


for _verb in VERBS:
    _verb.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit status; problems go to standard error, one line each."""
    try:
        status = app(args=arguments, prog_name="dicom-gateway", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads us any more; the interpreter must not complain about that at its end
        return OPERATION_FAILED
    except (typer.TyperException, GatewayError, OSError) as error:
        return report(error)
    return status if isinstance(status, int) else 0


def main() -> NoReturn:
    """The entry point of the installed command."""
    sys.exit(run())

"""``cache show`` and ``cache flush``: what a running gateway remembers of its leading archives."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.common import ConfigOption, JsonOption, configuration, print_json, print_table
from gateway.cli.running import call

_PATH = "/api/cache"

ArchiveOption = Annotated[
    str, typer.Option("--archive", metavar="NAME", help="Of this leading archive only, by its peer's name.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="See and empty the cache of a running gateway.", no_args_is_help=True)
    group.command("show")(show)
    group.command("flush")(flush)
    app.add_typer(group, name="cache")


def show(config: ConfigOption = None, as_json: JsonOption = False, archive: ArchiveOption = "") -> None:
    """Show what is kept: queries by their keys without values, studies by UID, with age and freshness in seconds."""
    document = call(configuration(config), "GET", _PATH, {"archive": archive} if archive else None)
    if as_json:
        print_json(document)
        return
    print_table(
        "Totals",
        ("archive", "cache", "entries", "bytes"),
        [(one["archive"], one["cache"], one["entries"], one["bytes"]) for one in document["totals"]],
    )
    print_table(
        "Entries",
        ("archive", "cache", "key", "answers", "bytes", "age", "fresh for"),
        [_row(one) for one in document["entries"]],
    )


def flush(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Forget this study.")] = "",
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Forget this patient's studies.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Forget everything.")] = False,
    archive: ArchiveOption = "",
) -> None:
    """Forget a study, a patient or everything; the next query asks the leading archive."""
    if sum((bool(study), bool(patient), everything)) != 1:
        raise typer.BadParameter("say what to forget: --study UID, --patient ID or --all")
    named = {"study": study, "patient": patient, "archive": archive, "all": "true" if everything else ""}
    query = {key: value for key, value in named.items() if value}
    document = call(configuration(config), "DELETE", _PATH, query)
    if as_json:
        print_json(document)
    else:
        print(f"{document['dropped']} entries dropped")


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    left = entry["fresh_for"]
    fresh = "ever" if left is None else f"{left:.0f}" if left > 0 else f"stale for {-left:.0f}"
    return (
        entry["archive"], entry["cache"], entry["key"], entry["answers"], entry["bytes"], f"{entry['age']:.0f}", fresh,
    )  # fmt: skip

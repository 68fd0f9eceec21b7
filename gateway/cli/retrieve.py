"""``retrieve``: download a study, or parts of it, as if it were a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gateway.cli.common import INTERRUPTED, OPERATION_FAILED, ConfigOption, JsonOption, print_json, problem
from gateway.cli.remote import (
    BindOption,
    CalledOption,
    CallingOption,
    ConnectOption,
    PeerOption,
    Remote,
    TimeoutOption,
    remote,
)
from gateway.client.client import DEFAULT_PORT, Client, Listening
from gateway.client.download import Download, Progress, Result
from gateway.dicom.status import Status
from gateway.retrieve.upstream import Via

_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("retrieve")(retrieve)


def retrieve(
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the files; what is in it is not fetched again.")
    ] = Path(),
    series: Annotated[
        list[str] | None, typer.Option("--series", metavar="UID", help="Only this series; may be repeated.")
    ] = None,
    instance: Annotated[
        list[str] | None,
        typer.Option("--instance", metavar="UID", help="Only this instance of the --series; may be repeated."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be fetched.")] = False,
    via: Annotated[Via, typer.Option("--via", help="C-GET, C-MOVE to ourselves, or C-GET where it is offered.")] = (
        Via.AUTO
    ),
    connect: ConnectOption = None,
    peer: PeerOption = None,
    called: CalledOption = None,
    calling: CallingOption = None,
    bind: BindOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> int:
    """Download a study: retrieve -aet ME -c AET@HOST:PORT --study UID --out DIR.

    C-GET on one association, or C-MOVE to a receiver of its own where the peer has no C-GET: the peer has to know us
    by -b AET:PORT then. Ctrl-C cancels; files are whole or not there, and the next run fetches what is missing.
    """
    target = remote(connect, peer, called, calling, bind, config, timeout)
    client = Client(target.calling, target.peer, via=via, listening=_listening(bind))
    names = {"series": series or [], "instances": instance or []}
    try:
        if plan:
            print(client.plan(study, out, **names))
            return 0
        download = client.retrieve(study, out, **names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    was_interrupted = _watch(download, quiet=as_json)
    result = download.result()
    _tell(result, target, out, as_json=as_json)
    return INTERRUPTED if was_interrupted else 0 if result.ok else OPERATION_FAILED


def _listening(bind: str | None) -> Listening:
    """``AET[@ip][:port]``: the AE title is understood elsewhere."""
    if not bind:
        return Listening()
    rest = bind.partition("@")[2]
    address, _, port = rest.rpartition(":") if rest else ("", "", bind.partition(":")[2])
    if rest and not address:
        address, port = rest, ""
    if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise typer.BadParameter(f"'{bind}' is not AET[@IP][:PORT]", param_hint="-b")
    return Listening(int(port) if port else DEFAULT_PORT, address.strip("[]"))


def _watch(download: Download, *, quiet: bool) -> bool:
    """Show the progress to the end; true when Ctrl-C cancelled it."""
    bar = nullcontext() if quiet or not sys.stderr.isatty() else _bar()
    with bar as shown:
        try:
            _show(shown, download)
        except KeyboardInterrupt:
            download.cancel()
            _show(shown, download)
            return True
    return False


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TextColumn("{task.fields[size]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _show(bar: Bar | None, progress: Iterable[Progress]) -> None:
    for now in progress:
        if bar is None:
            continue
        if not bar.task_ids:
            bar.add_task("retrieving", total=None, counts="", size="")
        left = "?" if now.remaining is None else now.remaining
        counts = f"{left} remaining, {now.failed} failed, {now.warning} warning"
        bar.update(bar.task_ids[0], completed=now.completed, total=now.total, counts=counts, size=decimal(now.size))


def _tell(result: Result, target: Remote, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "status": f"{result.status:04X}",
                "problem": result.problem,
                "files": [str(file) for file in result.files],
                "present": result.present,
                "failed": list(result.failed),
            }
        )
        return
    there = f", {result.present} were there" if result.present else ""
    print(f"{len(result.files)} instances from {target.name} in {out}{there}")
    if not result.ok:
        problem(result.problem)
    if result.status == Status.CANCEL:
        return
    for uid in result.failed[:_NAMED]:
        problem(f"not fetched: {uid}")
    if len(result.failed) > _NAMED:
        problem(f"not fetched: {len(result.failed) - _NAMED} more, which --json names")

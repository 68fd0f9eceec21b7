"""``commit``: ask peers for storage commitment, and look after what they asked of us.

``ask`` speaks to the peer itself. With ``--peer`` the transaction is in the gateway's ledger, and the running gateway
takes the report; with ``-c`` this command waits for it, on the association of the request or, with ``-b AET:PORT``, on
one of the peer's. The other verbs work on the ledger, whether the gateway runs or not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.asking import WaitOption, ask_for, ledgers_of, references_of, show
from gateway.cli.common import ConfigOption, JsonOption, configuration, print_json, print_table
from gateway.cli.remote import (
    BindOption,
    CalledOption,
    CallingOption,
    ConnectOption,
    PeerOption,
    TimeoutOption,
    remote,
)
from gateway.commitment import orthanc
from gateway.commitment.job import Event, NotPossible
from gateway.commitment.jobs import Job
from gateway.commitment.messages import Reference
from gateway.commitment.records import UnknownTransaction
from gateway.commitment.resources import Resources, UnknownResource
from gateway.commitment.service import Ledgers
from gateway.config import Config
from gateway.daemon.archiving import build_archive
from gateway.dicom.caller import Caller
from gateway.errors import GatewayError
from gateway.web.commitment import describe_decided, describe_inquiry, describe_job

group = typer.Typer(help="Storage commitment: ask for it, see and steer what was asked.", no_args_is_help=True)
TransactionArgument = Annotated[str, typer.Argument(metavar="TRANSACTION", help="Transaction UID.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="commit")


@group.command("ask")
def ask(
    what: Annotated[
        list[str],
        typer.Argument(metavar="WHAT...", help="DICOM files or folders; or UIDs, Patient IDs, Orthanc identifiers."),
    ],
    connect: ConnectOption = None,
    peer: PeerOption = None,
    called: CalledOption = None,
    calling: CallingOption = None,
    bind: BindOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    wait: WaitOption = 60.0,
    as_json: JsonOption = False,
) -> int:
    """Ask a peer to commit: commit ask --peer VNA 1.2.840.1; commit ask -c VNA@HOST:PORT -b ME:11115 folder/."""
    target = remote(connect, peer, called, calling, bind, config, timeout)
    paths = [Path(one) for one in what]
    files = all(path.exists() for path in paths)
    references = references_of(paths) if files else _held(configuration(config), what)
    return show(ask_for(target, references, bind=bind, config=config, wait=wait), as_json=as_json)


def _held(config: Config, names: Sequence[str]) -> list[Reference]:
    archive = build_archive(config)
    try:
        archive.open()
        return Resources(archive.instances, archive, Caller(config.ae.title)).references(names)
    except UnknownResource as error:
        raise GatewayError(f"nothing here is named {error.args[0]}", hint="nor is there a file of this name") from error
    finally:
        archive.close()


@group.command("list")
def list_(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest of each kind.")] = 100,
) -> None:
    """Show what peers asked of us (jobs) and what we asked of them (inquiries)."""
    with ledgers_of(configuration(config)) as ledgers:
        jobs = [describe_job(one) for one in ledgers.jobs.jobs(limit=limit)]
        inquiries = [describe_inquiry(one) for one in ledgers.inquiries.inquiries(limit=limit)]
    if as_json:
        print_json({"jobs": jobs, "inquiries": inquiries})
        return
    asked = ("transaction_uid", "state", "requester", "instances", "attempts", "updated", "note")
    print_table("Jobs: asked by peers", asked, [[one[key] for key in asked] for one in jobs])
    asking = ("transaction_uid", "state", "aet", "instances", "updated", "note")
    print_table("Inquiries: asked of peers", asking, [[one[key] for key in asking] for one in inquiries])


@group.command("show")
def show_(transaction: TransactionArgument, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show an inquiry or a job with its instances."""
    with ledgers_of(configuration(config)) as ledgers:
        ledgers.inquiries.expire(time.time())
        try:
            return show(
                (ledgers.inquiries.inquiry(transaction), ledgers.inquiries.instances(transaction)), as_json=as_json
            )
        except UnknownTransaction:
            job = describe_job(_known(ledgers, transaction))
            decided = ledgers.jobs.instances(transaction)
    if as_json:
        print_json({**job, "decided": [describe_decided(one) for one in decided]})
        return 0
    print_table("", ("what", "is"), [(key, value) for key, value in job.items() if value not in {None, ""}])
    rows = [(one.reference.sop_instance_uid, "open" if one.reason is None else orthanc.describe(one.reason))
            for one in decided]  # fmt: skip
    print_table("", ("instance", "decision"), rows)
    return 0


def _known(ledgers: Ledgers, transaction: str) -> Job:
    try:
        return ledgers.jobs.job(transaction)
    except UnknownTransaction as error:
        raise GatewayError(f"no transaction {transaction}", hint="commit list shows them") from error


@group.command("pause")
def pause(transaction: TransactionArgument, config: ConfigOption = None) -> None:
    """Hold a job: no report is sent until it is resumed."""
    _change(config, transaction, Event.PAUSE)


@group.command("resume")
def resume(transaction: TransactionArgument, config: ConfigOption = None) -> None:
    """Decide a job anew and report it: one that is paused, abandoned or was rejected."""
    _change(config, transaction, Event.RESUME)


@group.command("cancel")
def cancel(transaction: TransactionArgument, config: ConfigOption = None) -> None:
    """End a job without a report."""
    _change(config, transaction, Event.CANCEL)


def _change(config: Path | None, transaction: str, event: Event) -> None:
    with ledgers_of(configuration(config)) as ledgers:
        _known(ledgers, transaction)
        try:
            job = ledgers.jobs.apply(transaction, event, time.time())
        except NotPossible as error:
            raise GatewayError(str(error)) from error
    print(f"{transaction}: {job.state.value}")

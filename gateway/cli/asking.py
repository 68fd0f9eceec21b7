"""Asking a peer for storage commitment, for the verbs that do: ``commit ask`` and ``store --commit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive.heads import read_head
from gateway.cli.common import OPERATION_FAILED, configuration, print_json, problem, warn
from gateway.cli.remote import Remote, listener
from gateway.commitment import orthanc
from gateway.commitment.alone import Answer, ask_and_wait, asking_alone
from gateway.commitment.inquiry import State
from gateway.commitment.messages import Reference
from gateway.commitment.scu import CommitmentSCU
from gateway.commitment.service import Ledgers
from gateway.config import Config
from gateway.config.models import CommitmentReport, Permission
from gateway.daemon.committing import commitment_settings
from gateway.dicom import tags
from gateway.dimse.commitment import CommitmentAssociations
from gateway.errors import BadInstance

WaitOption = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="For the peer's report.")]


def references_of(paths: Sequence[Path]) -> list[Reference]:
    """What DICOM files are; in folders, what is none is passed over.

    Raises:
        BadInstance: a file that was named is none.
    """
    found: list[Reference] = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            try:
                head = read_head(file).attributes if file.is_file() else None
            except BadInstance:
                if not path.is_dir():
                    raise
                continue
            if head is not None:
                found.append(Reference(head.text(tags.SOPClassUID), head.text(tags.SOPInstanceUID)))
    return found


def ask_for(
    target: Remote, references: Sequence[Reference], *, bind: str | None, config: Path | None, wait: float
) -> Answer:
    """Ask the peer that the options of a client verb name, and wait for its report.

    Raises:
        typer.BadParameter: there is nothing to ask for.
    """
    if not references:
        raise typer.BadParameter("no instances to ask for")
    if not target.configured:
        with asking_alone(target.calling, listener(bind)) as ask_alone:
            return ask_alone(target.peer, references, wait)
    loaded = configuration(config)
    section = loaded.peers[target.peer.name]
    same = section.commitment_report is CommitmentReport.SAME
    if not same and Permission.COMMIT not in section.allow:
        warn(f"{target.peer.name} lacks the permission commit: the gateway will reject its report")
    settings = commitment_settings(loaded)
    with ledgers_of(loaded) as ledgers:
        scu = CommitmentSCU(ledgers.inquiries, CommitmentAssociations(target.calling), timeout=settings.timeout)
        return ask_and_wait(scu, target.peer, references, linger=settings.linger if same else 0.0, wait=wait)


def describe(answer: Answer) -> dict[str, object]:
    """What a peer said, as ``GET /storage-commitment/{id}`` has it."""
    inquiry, instances = answer
    return {"ID": inquiry.transaction_uid, **orthanc.report(inquiry, instances)}


def show(answer: Answer, *, as_json: bool | None) -> int:
    """Print what a peer said, and return the exit status: 0 unless something is not committed.

    Args:
        as_json: print one JSON document, or a line; None where the caller has printed it.
    """
    inquiry, instances = answer
    if as_json:
        print_json(describe(answer))
    elif as_json is not None:
        committed = sum(one.reason == 0 for one in instances)
        print(f"{inquiry.transaction_uid}: {inquiry.state.value}, {committed} of {len(instances)} committed")
    for one in instances:
        if one.reason:
            problem(f"{one.reference.sop_instance_uid}: {orthanc.describe(one.reason)} ({one.reason:04X}H)")
    if inquiry.state in {State.REFUSED, State.EXPIRED}:
        problem(inquiry.note)
    return OPERATION_FAILED if inquiry.state in {State.FAILURE, State.REFUSED, State.EXPIRED} else 0


@contextmanager
def ledgers_of(config: Config) -> Iterator[Ledgers]:
    """The ledgers of a configuration, beside a running gateway or without one."""
    found = Ledgers(commitment_settings(config))
    try:
        found.prepare()
        yield found
    finally:
        found.close()

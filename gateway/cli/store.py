"""``store``: send DICOM files to a peer (C-STORE), each in the transfer syntax it is stored in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.asking import WaitOption, ask_for, describe, show
from gateway.cli.common import OPERATION_FAILED, ConfigOption, JsonOption, print_json, problem, warn
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
from gateway.client.sending import Sent, read_files, send
from gateway.commitment.alone import Answer
from gateway.commitment.messages import Reference
from gateway.dicom.instance import Outgoing
from gateway.dicom.status import Status


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("store")(store)


def store(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files, or folders of them.")],
    connect: ConnectOption = None,
    peer: PeerOption = None,
    called: CalledOption = None,
    calling: CallingOption = None,
    bind: BindOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    commit: Annotated[bool, typer.Option("--commit", help="Then ask the peer to commit to what it took.")] = False,
    wait: WaitOption = 60.0,
    as_json: JsonOption = False,
) -> int:
    """Send files to a peer: store -c AET@HOST:PORT file.dcm folder/."""
    target = remote(connect, peer, called, calling, bind, config, timeout)
    outgoing, unreadable = read_files(files)
    sent = list(send(target.peer, target.calling, outgoing))
    _warn_of_refused(target, sent)
    failures = [one for one in sent if one.failed]
    answer = _commit(target, outgoing, sent, bind=bind, config=config, wait=wait) if commit else None
    if as_json:
        document = {"sent": [_described(one) for one in sent], "unreadable": [str(path) for path in unreadable]}
        print_json({**document, "commitment": describe(answer)} if answer else document)
    else:
        print(f"{len(sent) - len(failures)} of {len(sent) + len(unreadable)} files sent to {target.name}")
    for one in failures:
        problem(f"{one.path}: status {one.status:04X}H")
    for path in unreadable:
        problem(f"{path}: not a DICOM file")
    committed = show(answer, as_json=None if as_json else False) if answer else 0
    return OPERATION_FAILED if failures or unreadable or not sent or committed else 0


def _described(one: Sent) -> dict[str, object]:
    return {"path": one.path, "sop_instance_uid": one.sop_instance_uid, "status": one.status}


def _commit(
    target: Remote, outgoing: Sequence[Outgoing], sent: Sequence[Sent], *, bind: str | None, config: Path | None,
    wait: float,
) -> Answer | None:  # fmt: skip
    taken = {one.sop_instance_uid for one in sent if not one.failed}
    references = [Reference(one.sop_class_uid, one.sop_instance_uid) for one in outgoing]
    wanted = [one for one in references if one.sop_instance_uid in taken]
    return ask_for(target, wanted, bind=bind, config=config, wait=wait) if wanted else None


def _warn_of_refused(target: Remote, sent: Iterable[Sent]) -> None:
    refused = dict.fromkeys(
        (one.sop_class_uid, one.transfer_syntax_uid) for one in sent if one.status == Status.SOP_CLASS_NOT_SUPPORTED
    )
    for sop_class, syntax in refused:
        warn(f"{target.name} takes no instances of class {sop_class} in transfer syntax {syntax}")

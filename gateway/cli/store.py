"""``store``: send DICOM files to a peer (C-STORE), each in the transfer syntax it is stored in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive.heads import read_head
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
from gateway.commitment.alone import Answer
from gateway.commitment.messages import Reference
from gateway.dicom import tags
from gateway.dicom.instance import Outgoing
from gateway.dicom.status import Kind, kind
from gateway.dimse.requestor import connect as associate
from gateway.errors import BadInstance, StorageError
from gateway.retrieve.contexts import proposals


@dataclass(frozen=True)
class Sent:
    """How one file fared."""

    path: str
    sop_instance_uid: str
    status: int

    @property
    def failed(self) -> bool:
        """Whether the peer does not have it now."""
        return kind(self.status) is Kind.FAILURE


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
    outgoing, unreadable = _read(files)
    sent = list(_send(target, outgoing))
    failures = [one for one in sent if one.failed]
    answer = _commit(target, outgoing, sent, bind=bind, config=config, wait=wait) if commit else None
    if as_json:
        document = {"sent": [one.__dict__ for one in sent], "unreadable": unreadable}
        print_json({**document, "commitment": describe(answer)} if answer else document)
    else:
        print(f"{len(sent) - len(failures)} of {len(sent) + len(unreadable)} files sent to {target.name}")
    for one in failures:
        problem(f"{one.path}: status {one.status:04X}H")
    for path in unreadable:
        problem(f"{path}: not a DICOM file")
    committed = show(answer, as_json=None if as_json else False) if answer else 0
    return OPERATION_FAILED if failures or unreadable or not sent or committed else 0


def _commit(
    target: Remote, outgoing: Sequence[Outgoing], sent: Sequence[Sent], *, bind: str | None, config: Path | None,
    wait: float,
) -> Answer | None:  # fmt: skip
    taken = {one.sop_instance_uid for one in sent if not one.failed}
    references = [Reference(one.sop_class_uid, one.sop_instance_uid) for one in outgoing]
    wanted = [one for one in references if one.sop_instance_uid in taken]
    return ask_for(target, wanted, bind=bind, config=config, wait=wait) if wanted else None


def _read(paths: Sequence[Path]) -> tuple[list[Outgoing], list[str]]:
    """What is to be sent, and the named files that are none; in folders, what is no instance is passed over."""
    outgoing, unreadable = [], []
    for path in paths:
        if path.is_dir():
            outgoing += [one for file in sorted(path.rglob("*")) if file.is_file() and (one := _outgoing(file))]
            continue
        one = _outgoing(path)
        if one is None:
            unreadable.append(str(path))
        else:
            outgoing.append(one)
    return outgoing, unreadable


def _outgoing(path: Path) -> Outgoing | None:
    try:
        head = read_head(path)
    except (BadInstance, StorageError):
        return None
    sop_class = head.attributes.text(tags.SOPClassUID)
    instance = head.attributes.text(tags.SOPInstanceUID)
    if not sop_class or not instance:
        return None
    length = head.size - head.dataset_offset
    return Outgoing(sop_class, instance, head.transfer_syntax_uid, b"", str(path), head.dataset_offset, length)


def _send(target: Remote, outgoing: Sequence[Outgoing]) -> Iterator[Sent]:
    """Send all, over as many associations as their presentation contexts need."""
    pairs = dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in outgoing)
    for contexts in proposals(pairs) if outgoing else ():
        proposed = set(contexts) & set(pairs)
        with associate(target.peer, target.calling, contexts) as association:
            for one in outgoing:
                if (one.sop_class_uid, one.transfer_syntax_uid) in proposed:
                    yield Sent(one.path, one.sop_instance_uid, association.store(one))
            refused = [pair for pair in proposed if not association.accepts(*pair)]
        for sop_class, syntax in refused:
            warn(f"{target.name} takes no instances of class {sop_class} in transfer syntax {syntax}")

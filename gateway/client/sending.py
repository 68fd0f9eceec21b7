"""DICOM files sent to a peer, each in the transfer syntax it is stored in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.archive.heads import read_head
from gateway.dicom import tags
from gateway.dicom.instance import Outgoing
from gateway.dicom.status import Kind, kind
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.errors import BadInstance, StorageError
from gateway.retrieve.contexts import proposals


@dataclass(frozen=True)
class Sent:
    """How one file fared.

    Attributes:
        status: the peer's; 0122H when it takes no such class in this transfer syntax, so that nothing was sent.
    """

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    status: int

    @property
    def failed(self) -> bool:
        """Whether the peer does not have it now."""
        return kind(self.status) is Kind.FAILURE


def read_files(paths: Iterable[Path]) -> tuple[list[Outgoing], list[Path]]:
    """What is to be sent of files and folders, and the named files that are no instances.

    In folders, what is no instance is passed over.
    """
    outgoing: list[Outgoing] = []
    unreadable: list[Path] = []
    for path in paths:
        if path.is_dir():
            outgoing += [one for file in sorted(path.rglob("*")) if file.is_file() and (one := _outgoing(file))]
        elif one := _outgoing(path):
            outgoing.append(one)
        else:
            unreadable.append(path)
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


def send(peer: Peer, aet: str, outgoing: Sequence[Outgoing]) -> Iterator[Sent]:
    """Send all, over as many associations as their presentation contexts need.

    Raises:
        UpstreamError: the peer cannot be reached, or an association broke.
    """
    pairs = dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in outgoing)
    for contexts in proposals(pairs) if outgoing else ():
        proposed = set(contexts) & set(pairs)
        with connect(peer, aet, contexts) as association:
            for one in outgoing:
                if (one.sop_class_uid, one.transfer_syntax_uid) in proposed:
                    status = association.store(one)
                    yield Sent(one.path, one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid, status)

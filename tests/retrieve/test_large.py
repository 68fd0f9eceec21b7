"""A large instance passes through a gateway in constant memory."""

# ruff: noqa: ARG002 - doubles take what their ports say

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import StoredInstance
from gateway.dicom.part10 import file_head
from gateway.dicom.status import Status
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Incoming, StoreRequest, Verb
from gateway.dimse.requestor import connect
from gateway.dimse.server import Server
from gateway.dimse.services import Handlers
from tests.retrieve.leading import Leading, leading_archive
from tests.retrieve.world import BOTH, MOVE
from tests.retrieve.world import peer as peer_of
from tests.support.gateways import gateway, peer

GIB = 1 << 30
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
EXPLICIT = BOTH[0]


def large(path: Path) -> StoredInstance:
    """An instance of 1 GiB on a sparse file."""
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.5"}
    named = {"PatientID": "NEW", "PatientName": "New^Name", "StudyID": "1"}
    attributes = Attributes.of({"SOPClassUID": MULTI_FRAME, **uids, **named})
    head = file_head(MULTI_FRAME, "1.2.3.4.5", EXPLICIT)
    whole = head + attributes.encode(implicit=False) + struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", GIB)
    path.write_bytes(whole)
    os.truncate(path, len(whole) + GIB)
    return StoredInstance(
        "NEW", "1.2.3", "1.2.3.4", "1.2.3.4.5", MULTI_FRAME, EXPLICIT, str(path), len(whole) + GIB, len(head)
    )


@dataclass
class Counting:
    """Takes instances, and keeps how long they were."""

    size: int = 0

    def begin(self, request: StoreRequest) -> Incoming:
        return _Counted(self)


class _Counted:
    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._fd = os.memfd_create("instance")

    @property
    def fd(self) -> int:
        return self._fd

    def commit(self) -> int:
        self._counting.size = os.fstat(self._fd).st_size
        self.abort()
        return Status.SUCCESS

    def abort(self) -> None:
        os.close(self._fd)


def peak_memory(pid: int) -> int:
    """In bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_a_gibibyte_is_pulled_coerced_and_sent_on_in_constant_memory(tmp_path: Path) -> None:
    script, receiver = Leading([large(tmp_path / "large.dcm")]), Counting()
    viewer = Server(Handlers(store=receiver), PeerPolicy(["VIEWER"], [], frozenset({Verb.STORE})))
    viewer.start()
    try:
        with leading_archive(script) as asked:
            peers = {"LEADING": peer("LEADING", asked.peer.port), "VIEWER": peer("VIEWER", viewer.port)}
            with gateway(tmp_path / "gw", peers=peers, leading={"peer": "LEADING"}) as running:
                before = peak_memory(running.process.pid)
                target = peer_of("GATEWAY", running.port)
                with connect(target, "VIEWER", [(MOVE, EXPLICIT)]) as association:
                    asking = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"})
                    last = list(association.move(MOVE, asking, "VIEWER"))[-1]
                assert (last.status, last.completed) == (Status.SUCCESS, 1)
                assert receiver.size > GIB
                assert peak_memory(running.process.pid) - before < 64 << 20
    finally:
        viewer.stop()

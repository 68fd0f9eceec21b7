"""A scripted archive that lists its instances and sends them as a test wants it."""

# ruff: noqa: ARG002 - handlers take what their ports say

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset

from gateway.client import Client
from gateway.client.client import Listening
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Cancelled, Originator, StoreChannel, Verb
from gateway.dimse.requestor import connect
from gateway.dimse.server import Server
from gateway.dimse.services import Handlers
from gateway.dimse.wire import Lost
from gateway.errors import Refused, UpstreamKind
from tests.retrieve.world import gateway
from tests.retrieve.world import peer as peer_of
from tests.support.ports import closed_port


class Archive:
    """Behaves as it is told: ``no query``, ``refuses``, ``dies``, ``fails one``, ``endless``; or as it should.

    Its C-MOVE answers success first and sends afterwards.
    """

    def __init__(self, folder: Path, datasets: Sequence[Dataset], behaviour: str = "") -> None:
        with gateway(folder, datasets) as world:
            self.stored = world.archive.instances(study_uids=[str(datasets[0].StudyInstanceUID)])
        self.behaviour = behaviour
        self.retrieves: list[Retrieve] = []
        self.cancelled = threading.Event()
        self.sent = threading.Event()
        self.move_port = 0
        self.sends_all = True
        self.threads: list[threading.Thread] = []

    def find(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        if self.behaviour == "no query":
            raise Refused("no queries here", Status.OUT_OF_RESOURCES)
        series = dict.fromkeys(one.series_instance_uid for one in self.stored)
        named = query.uids(Level.SERIES)
        for uid in (one for one in series if not named or one in named):
            above = {"StudyInstanceUID": self.stored[0].study_instance_uid, "SeriesInstanceUID": uid}
            if query.level is Level.SERIES:
                yield Attributes.of(above)
                continue
            for one in self.stored:
                if one.series_instance_uid == uid:
                    keys = {"SOPInstanceUID": one.sop_instance_uid, "SOPClassUID": one.sop_class_uid}
                    yield Attributes.of({**above, **keys})

    def get(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        self.retrieves.append(retrieve)
        if self.behaviour == "refuses":
            raise Refused("not today", Status.OUT_OF_RESOURCES)
        counters = SubOperations(len(self.stored))
        for number, one in enumerate(self.stored):
            if self.behaviour == "dies" and number == 3:
                raise Lost("the archive dies", UpstreamKind.ABORTED)
            if self.behaviour == "fails one" and number == 3:
                counters.count(one.sop_instance_uid, Status.OUT_OF_RESOURCES)
                continue
            while self.behaviour == "endless" and number == 3 and not cancelled():
                self.sent.set()
                yield counters
            if cancelled():
                self.cancelled.set()
                yield counters
                return
            counters.count(one.sop_instance_uid, channel.store(Outgoing.untouched(one)))
            yield counters

    def move(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        self.retrieves.append(retrieve)
        counters = SubOperations(len(self.stored))
        for one in self.stored:
            counters.count(one.sop_instance_uid, Status.SUCCESS)
        late = threading.Thread(target=self._send, args=(destination, self.stored))
        self.threads.append(late)
        late.start()
        yield counters

    def _send(self, destination: str, instances: list[StoredInstance]) -> None:
        pairs = dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in instances)
        threading.Event().wait(0.3)  # the answer is at the client before the first instance
        with connect(peer_of(destination, self.move_port), "SOMEBODY", pairs) as association:
            for one in instances if self.sends_all else instances[:2]:
                association.store(Outgoing.untouched(one))


@contextmanager
def scripted(
    folder: Path, datasets: Sequence[Dataset], behaviour: str = "", *, has_get: bool = True
) -> Iterator[tuple[Archive, Server]]:
    """The archive on the wire."""
    script = Archive(folder, datasets, behaviour)
    handlers = Handlers(find=script.find, move=script.move, get=script.get if has_get else None)
    server = Server(handlers, PeerPolicy(["ARCHIVE"], [], frozenset(Verb)))
    server.start()
    try:
        yield script, server
    finally:
        for thread in script.threads:
            thread.join()
        server.stop()


def client_of(server: Server, port: int = 0, late_seconds: float = 10) -> Client:
    """A client of that archive."""
    return Client(
        "ME", f"ARCHIVE@127.0.0.1:{server.port}", listening=Listening(port or closed_port()), late_seconds=late_seconds
    )

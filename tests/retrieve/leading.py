"""A scripted leading archive on the wire."""

# ruff: noqa: ARG002 - handlers take what their ports say

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset

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
from tests.retrieve.world import AET, Asked, gateway, peer


class Leading:
    """A leading archive whose retrieves do what a test says; ``hold`` stops it before an instance until ``go_on``."""

    def __init__(self, stored: list[StoredInstance]) -> None:
        self.stored = stored
        self.retrieves: list[Retrieve] = []
        self.hold = -1
        self.dies = -1
        self.fails: int | None = None
        self.is_silent = False
        self.is_mute = False
        self.is_slow = False
        self.calling = AET
        self.move_port = 0
        self.held, self.go_on, self.was_cancelled = threading.Event(), threading.Event(), threading.Event()

    def find(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        if self.is_silent:
            raise Refused("out of order", Status.OUT_OF_RESOURCES)
        if self.is_slow and query.level is Level.SERIES:
            self.held.set()
            self.go_on.wait(20)
        study_uid = self.stored[0].study_instance_uid
        if query.uids(Level.STUDY) and study_uid not in query.uids(Level.STUDY):
            return
        if query.level is Level.STUDY:
            yield Attributes.of({"StudyInstanceUID": study_uid, "PatientName": "New^Name", "PatientID": "NEW"})
            return
        for series in dict.fromkeys(one.series_instance_uid for one in self.stored):
            mine = [one for one in self.stored if one.series_instance_uid == series]
            if query.uids(Level.SERIES) and series not in query.uids(Level.SERIES):
                continue
            above = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series}
            if query.level is Level.SERIES:
                yield Attributes.of({**above, "NumberOfSeriesRelatedInstances": str(len(mine))})
                continue
            for one in mine:
                keys = {"SOPInstanceUID": one.sop_instance_uid, "SOPClassUID": one.sop_class_uid}
                yield Attributes.of({**above, **keys})

    def get(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        return self._send(retrieve, channel, cancelled)

    def move(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        pairs = dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in self.stored)
        with connect(peer(destination, self.move_port), self.calling, pairs) as association:
            yield from self._send(retrieve, association, cancelled)

    def _send(self, retrieve: Retrieve, channel: StoreChannel, cancelled: Cancelled) -> Iterator[SubOperations]:
        self.retrieves.append(retrieve)
        named = {uid for level in (Level.SERIES, Level.IMAGE) for uid in retrieve.uids.get(level, ())[:1000]}
        wanted = [one for one in self.stored if not named or named & {one.series_instance_uid, one.sop_instance_uid}]
        if Level.IMAGE in retrieve.uids:
            wanted = [one for one in wanted if one.sop_instance_uid in retrieve.uids[Level.IMAGE]]
        if self.fails is not None:
            raise Refused("not today", self.fails)
        counters = SubOperations(len(wanted))
        for number, one in enumerate(wanted):
            if number == self.dies:
                raise Lost("the archive dies", UpstreamKind.ABORTED)
            while number == self.hold and not self.go_on.is_set() and (self.is_mute or not cancelled()):
                self.held.set()
                self.go_on.wait(0.05)
            if cancelled():
                self.was_cancelled.set()
                yield counters
                return
            counters.count(one.sop_instance_uid, channel.store(Outgoing.untouched(one)))
            yield counters


@contextmanager
def leading_archive(script: Leading) -> Iterator[Asked]:
    """It serves until the block ends."""
    handlers = Handlers(find=script.find, get=script.get, move=script.move)
    server = Server(handlers, PeerPolicy(["LEADING"], [], frozenset(Verb)))
    server.start()
    try:
        yield Asked(peer("leading", server.port, "LEADING"))
    finally:
        script.go_on.set()
        server.stop()


def stored_of(folder: Path, datasets: Sequence[Dataset]) -> list[StoredInstance]:
    """The instances of one study as files."""
    with gateway(folder, datasets) as world:
        return world.archive.instances(study_uids=[str(datasets[0].StudyInstanceUID)])

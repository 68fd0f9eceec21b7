"""Handlers that keep everything in memory or in a folder, and what tests need around them."""

# ruff: noqa: ARG002 - handlers take what their port says

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.instance import Outgoing
from gateway.dicom.status import Status
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import (
    UNLIMITED,
    Allowance,
    Cancelled,
    Originator,
    Peer,
    StoreChannel,
    StoreRequest,
    Timeouts,
    Verb,
)
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from gateway.dimse.slots import Limits
from gateway.errors import StorageError

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
FAST = Timeouts(connect=5, acse=5, dimse=5, network=5)


def studies(count: int) -> list[Attributes]:
    """Answers at study level with unique UIDs."""
    return [
        Attributes.of(
            {
                "QueryRetrieveLevel": "STUDY",
                "PatientName": f"Name^{at}",
                "PatientID": f"ID{at}",
                "StudyInstanceUID": f"1.2.3.{at}",
            }
        )
        for at in range(count)
    ]


class Finder:
    """Answers with a list; remembers what it was asked."""

    def __init__(self, answers: list[Attributes]) -> None:
        self.answers = answers
        self.queries: list[Query] = []
        self.closed = threading.Event()

    def __call__(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        self.queries.append(query)
        try:
            yield from self.answers
        finally:
            self.closed.set()


class Folder:
    """A Receiver that writes data sets as they come, without File Meta Information."""

    def __init__(self, path: Path, *, fail_commit: bool = False) -> None:
        self.path = path
        self.fail_commit = fail_commit
        self.requests: list[StoreRequest] = []
        self.aborted = threading.Event()

    def begin(self, request: StoreRequest) -> FolderIncoming:
        self.requests.append(request)
        return FolderIncoming(self, self.path / request.sop_instance_uid)


class FolderIncoming:
    def __init__(self, folder: Folder, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._fd = os.open(path.with_suffix(".part"), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)

    @property
    def fd(self) -> int:
        return self._fd

    def commit(self) -> int:
        os.close(self._fd)
        if self._folder.fail_commit:
            self._path.with_suffix(".part").unlink()
            raise StorageError("disk full")
        self._path.with_suffix(".part").rename(self._path)
        return Status.SUCCESS

    def abort(self) -> None:
        os.close(self._fd)
        self._path.with_suffix(".part").unlink()
        self._folder.aborted.set()


class Shelf:
    """Sends a fixed list of instances: a GetHandler, and with :meth:`move` a MoveHandler to one channel."""

    def __init__(self, instances: list[Outgoing], open_channel: Callable[[str], StoreChannel] | None = None) -> None:
        self.instances = instances
        self.open_channel = open_channel

    def get(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        return self._send(channel, None, cancelled)

    def move(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        assert self.open_channel
        return self._send(self.open_channel(destination), originator, cancelled)

    def _send(
        self, channel: StoreChannel, originator: Originator | None, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        counters = SubOperations(len(self.instances))
        yield counters
        for instance in self.instances:
            if cancelled():
                return
            counters.count(instance.sop_instance_uid, channel.store(instance, originator))
            yield counters


def instance(path: Path, uid: str, size: int = 1000, *, head: bytes = b"") -> Outgoing:
    """An instance of ``size`` bytes that are no data set: the wire does not look."""
    file = path / f"{uid}.dcm"
    file.write_bytes(bytes(132) + os.urandom(size))
    return Outgoing(CT, uid, EXPLICIT, head, str(file), 132, size)


@contextmanager
def serving(
    handlers: Handlers,
    *,
    verbs: frozenset[Verb] = frozenset(Verb),
    deadlines: Deadlines | None = None,
    limits: Limits | None = None,
    endpoint: Endpoint | None = None,
    allowance: Allowance = UNLIMITED,
) -> Iterator[Server]:
    """A server on a free port that answers to ``GATEWAY``: ``ME`` has ``verbs`` and ``allowance``, ``YOU`` no bound."""
    known = [KnownCaller("me", "ME", verbs, allowance=allowance), KnownCaller("you", "YOU", verbs)]
    policy = PeerPolicy(["GATEWAY"], known)
    with Server(handlers, policy, endpoint, deadlines=deadlines, limits=limits) as server:
        yield server


def gateway(server: Server, *, timeouts: Timeouts = FAST) -> Peer:
    """The server as a peer."""
    return peer_at(server.port, timeouts)


def peer_at(port: int, timeouts: Timeouts = FAST) -> Peer:
    """Whatever listens there as a peer."""
    return Peer("gateway", "GATEWAY", "127.0.0.1", port, timeouts)

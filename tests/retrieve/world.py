"""A gateway's retrieve with everything real around it: archive, effective view, rules, the wire."""

# ruff: noqa: ARG002, ARG005 - doubles take what their ports say

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from gateway.archive.local import LocalArchive
from gateway.coercion.rules import RuleSet
from gateway.daemon.coercing import SentCoercion
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.models import FIND_MODELS, Level, Model
from gateway.dicom.tags import StudyInstanceUID
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import Incoming, Peer, StoreRequest, Timeouts, Verb
from gateway.dimse.requestor import Association, connect
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from gateway.query.effective import EffectiveView
from gateway.query.ports import Evidence, Request
from gateway.retrieve.arrival import Correlator, Unexpected
from gateway.retrieve.destinations import Destination, Destinations
from gateway.retrieve.get import GetService
from gateway.retrieve.incoming import FolderReceiver
from gateway.retrieve.move import MoveService
from gateway.retrieve.plan import Planner
from gateway.retrieve.pull import PullThrough
from gateway.retrieve.spool import Spool
from gateway.retrieve.survey import Completeness, Survey
from gateway.retrieve.upstream import DimseUpstream, Via
from tests.support.dicomfiles import write_file_set

AET = "GATEWAY"
FAST = Timeouts(connect=5, acse=5, dimse=10, network=10)
BOTH = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"


def peer(name: str, port: int, aet: str = "", timeouts: Timeouts = FAST) -> Peer:
    return Peer(name, aet or name, "127.0.0.1", port, timeouts)


@dataclass
class Asked:
    """A leading archive asked over the wire without cache; remembers what it was asked."""

    peer: Peer
    queries: list[Query] = field(default_factory=list)

    def find(self, request: Request) -> Iterator[Attributes]:
        self.queries.append(request.query)
        sop_class = next(uid for uid, model in FIND_MODELS.items() if model is request.query.model)
        level = Attributes.of({"QueryRetrieveLevel": request.query.level.name})
        with connect(self.peer, AET, [(sop_class, one) for one in BOTH]) as association:
            yield from association.find(sop_class, request.query.keys.overlay(level), request.cancelled)

    def batches(self, request: Request) -> Iterator[list[Attributes]]:
        return ([answer] for answer in self.find(request))

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        wanted = {"PatientName": "", "PatientID": "", "PatientBirthDate": "", "AccessionNumber": ""}
        keys = Attributes.of({"StudyInstanceUID": list(uids), **wanted})
        found = self.find(Request(Query(Model.STUDY_ROOT, Level.STUDY, keys), caller))
        return {
            one.text(StudyInstanceUID): one.only(Attributes.of(wanted)).without([0x00080005])
            for one in found
            if one.text(StudyInstanceUID)
        }

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        return {}


@dataclass
class World:
    """A running gateway."""

    server: Server
    archive: LocalArchive
    spool: Path

    @property
    def port(self) -> int:
        return self.server.port

    def association(self, *sop_classes: str, aet: str = "VIEWER") -> Association:
        return connect(peer(AET, self.port), aet, [(one, syntax) for one in sop_classes for syntax in BOTH])


@dataclass(frozen=True)
class Settings:
    """What a test varies."""

    keep: bool = False
    via: Via = Via.AUTO
    completeness: Completeness = Completeness.COUNT
    interval: float = 0.2
    late_seconds: float = 5
    unexpected: Unexpected = Unexpected.STORE
    permitted: dict[str, frozenset[str]] = field(default_factory=dict)


@contextmanager
def gateway(
    folder: Path,
    datasets: Sequence[Dataset],
    destinations: Sequence[Destination] = (),
    leading: Asked | None = None,
    settings: Settings | None = None,
    port: int = 0,
) -> Iterator[World]:
    """A gateway over a file-set of these data sets."""
    chosen = settings or Settings()
    dicomdir = folder / "files" / "DICOMDIR"
    if datasets:
        write_file_set(dicomdir.parent, datasets)
    with ExitStack() as stack:
        archive = LocalArchive(dicomdir)
        archive.prepare()
        stack.callback(archive.close)
        view = EffectiveView(archive, leading)
        spool = Spool(folder / "spool")
        survey = pull = None
        if leading:
            survey = Survey(leading, chosen.completeness)
            upstream = DimseUpstream(leading.peer, AET, chosen.via, chosen.late_seconds)
            pull = PullThrough(spool, upstream, archive if chosen.keep else None)
        planner = Planner(view, archive, survey)
        rules = RuleSet.default()
        coercion = SentCoercion(lambda: rules, AET)
        known = Destinations(destinations, chosen.permitted)

        def to(destination: Peer, pairs: Sequence[tuple[str, str]]) -> Association:
            return connect(destination, AET, pairs)

        handlers = Handlers(
            move=MoveService(planner, known, coercion, to, pull, chosen.interval),
            get=GetService(planner, coercion, pull, chosen.interval),
            store=Correlator(
                archive,
                spool,
                frozenset({"leading"}),
                frozenset({"127.0.0.1"}),
                keep=chosen.keep,
                unexpected=chosen.unexpected,
            ),
        )
        callers = [KnownCaller("leading", leading.peer.aet, frozenset(Verb))] if leading else []
        policy = PeerPolicy([AET], callers, frozenset(Verb))
        server = Server(handlers, policy, Endpoint(port=port))
        server.start()
        stack.callback(server.stop)
        yield World(server, archive, folder / "spool")


Behaviour = Callable[[int], int | None]
"""What a scripted destination does with its n-th request (from 0): a status, or None to take it; may raise."""


class Destined:
    """A receiver that does what a script says, and keeps what it takes."""

    def __init__(self, folder: Path, behaviour: Behaviour = lambda number: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.requests: list[StoreRequest] = []
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._files = FolderReceiver(
            folder, lambda request: f"{request.sop_instance_uid}.dcm", lambda received: None, durable=False
        )

    def begin(self, request: StoreRequest) -> Incoming:
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        status = self._behaviour(number)
        incoming = self._files.begin(request)
        return incoming if status is None else _Answering(incoming, status)

    def instances(self) -> dict[str, Dataset]:
        return {str(one.SOPInstanceUID): one for one in map(dcmread, self.folder.glob("*.dcm"))}


@dataclass
class _Answering:
    """Takes an instance, forgets it, and answers a status."""

    inner: Incoming
    status: int

    @property
    def fd(self) -> int:
        return self.inner.fd

    def commit(self) -> int:
        self.inner.abort()
        return self.status

    def abort(self) -> None:
        self.inner.abort()


@contextmanager
def destination(receiver: Destined, aet: str = "VIEWER", timeouts: Timeouts = FAST) -> Iterator[Peer]:
    """A scripted move destination on the wire."""
    server = Server(Handlers(store=receiver), PeerPolicy([aet], [], frozenset({Verb.STORE, Verb.ECHO})))
    server.start()
    try:
        yield peer("viewer", server.port, aet, timeouts)
    finally:
        server.stop()

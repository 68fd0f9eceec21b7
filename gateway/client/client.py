"""The client: a peer, our AE title, and what can be asked."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.client.answers import Answer
from gateway.client.download import Download, Listing, is_uid
from gateway.client.sending import Sent, read_files, send
from gateway.client.source import PeerSource
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller, ae_title
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.models import VERIFICATION, Level, Model
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Peer, Receiver, Timeouts, Verb
from gateway.dimse.requestor import RetrieveProgress
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from gateway.errors import BadInstance, StorageError, UpstreamError, UpstreamKind
from gateway.logs import get_logger
from gateway.query.ports import Request, never
from gateway.retrieve.missing import Missing, Remote
from gateway.retrieve.survey import Completeness, Survey
from gateway.retrieve.upstream import DimseUpstream, Upstream, Via

DEFAULT_PORT = 11112
"""For C-STOREs of a C-MOVE to ourselves: the port registered for DICOM."""

_ADDRESS = re.compile(r"(?P<aet>[^@]+)@(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d{1,5})")
_log = get_logger("client")


def peer(address: str, timeouts: Timeouts | None = None) -> Peer:
    """A peer from ``AET@host:port``.

    Raises:
        ValueError: the text is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"'{address}' is not AET@host:port")
    return Peer(address, ae_title(match["aet"]), match["host"].strip("[]"), int(match["port"]), timeouts or Timeouts())


@dataclass(frozen=True)
class Listening:
    """Where instances of a C-MOVE to ourselves arrive; the peer has to know our AE title with this port.

    Attributes:
        bind: the address to listen on; by default the one from which the peer is reached.
    """

    port: int = DEFAULT_PORT
    bind: str = ""


class Client:
    """Asks one peer.

    Args:
        aet: our AE title.
        called: the peer, or its ``AET@host:port``.
        via: how studies are fetched.
    """

    def __init__(
        self,
        aet: str,
        called: Peer | str,
        *,
        via: Via = Via.AUTO,
        listening: Listening | None = None,
        late_seconds: float = 10.0,
    ) -> None:
        self.aet = ae_title(aet)
        self.peer = peer(called) if isinstance(called, str) else called
        self._via = via
        self._listening = listening or Listening()
        self._late_seconds = late_seconds
        self._source = PeerSource(self.peer, self.aet)
        self._caller = Caller(self.aet)

    def echo(self) -> int:
        """C-ECHO; the status.

        Raises:
            UpstreamError: no answer.
        """
        with self._source.open(VERIFICATION) as association:
            return association.echo()

    def find(self, level: str, **keys: str | Sequence[str]) -> Iterator[Answer]:
        """C-FIND in the Study Root model; answers as they come.

        Args:
            level: ``STUDY``, ``SERIES`` or ``IMAGE``.
            keys: by element keyword; an empty one is asked for and matches everything.

        Raises:
            KeyError: no such keyword or level.
            UpstreamError: the peer did not answer completely.
        """
        query = Query(Model.STUDY_ROOT, Level[level], Attributes.of(keys))
        return (Answer(one) for one in self._source.find(Request(query, self._caller)))

    def store(self, files: Iterable[Path]) -> Iterator[Sent]:
        """C-STORE files, and all instances in folders; how each fared, as it is sent.

        Raises:
            BadInstance: a named file is no DICOM instance; nothing was sent.
            UpstreamError: the peer cannot be reached, or the association broke.
        """
        outgoing, unreadable = read_files(files)
        if unreadable:
            raise BadInstance(f"{unreadable[0].name} is no DICOM instance")
        return send(self.peer, self.aet, outgoing)

    def retrieve(
        self, study: str, folder: Path, *, series: Sequence[str] = (), instances: Sequence[str] = ()
    ) -> Download:
        """Download a study, some of its series, or some instances; what is in the folder already is left out.

        Args:
            instances: SOP Instance UIDs, together with the one series they are of.

        Raises:
            ValueError: a text is no UID.
        """
        wanted = _wanted(study, series, instances)

        def opening(on_response: Callable[[RetrieveProgress], None]) -> Upstream:
            return DimseUpstream(self.peer, self.aet, self._via, self._late_seconds, self._serving, on_response)

        return Download(opening, lambda: self._listing(wanted, folder), folder)

    def plan(self, study: str, folder: Path, *, series: Sequence[str] = (), instances: Sequence[str] = ()) -> Listing:
        """What :meth:`retrieve` would fetch.

        Raises:
            UpstreamError: the peer cannot be reached.
        """
        return self._listing(_wanted(study, series, instances), folder)

    def _listing(self, wanted: Retrieve, folder: Path) -> Listing:
        study = wanted.uids[Level.STUDY][0]
        survey = Survey(self._source, Completeness.INSTANCES)
        try:
            listed = survey.missing(wanted, study, None, (), self._caller, never)
        except UpstreamError as error:
            if error.upstream_status is None and error.kind not in _NO_QUERY:
                raise
            _log.warning("the peer does not list what it has", kind=error.kind.value)
            return Listing(_unlisted(wanted), is_known=False)
        if not listed.instances:
            return Listing(_unlisted(wanted), is_known=False)
        here = frozenset(one.stem for one in folder.glob("*.dcm"))
        return _without(listed, here)

    @contextmanager
    def _serving(self, receiver: Receiver) -> Iterator[Server]:
        """Listen for the C-STOREs of a C-MOVE."""
        bind = self._listening.bind or _address_towards(self.peer)
        policy = PeerPolicy([self.aet], [], frozenset({Verb.ECHO, Verb.STORE}))
        server = Server(Handlers(store=receiver), policy, Endpoint(bind, self._listening.port))
        try:
            server.start()
        except OSError as error:
            raise StorageError(
                f"cannot listen on {bind} port {self._listening.port}: {error.strerror}",
                hint="the peer has no C-GET; name a free port that it knows us by",
            ) from error
        try:
            yield server
        finally:
            server.stop()


_NO_QUERY = frozenset({UpstreamKind.REJECTED})
"""A peer whose answer to the query's context was no can still be asked to send."""


def _wanted(study: str, series: Sequence[str], instances: Sequence[str]) -> Retrieve:
    uids: dict[Level, tuple[str, ...]] = {Level.STUDY: (study,)}
    if series:
        uids[Level.SERIES] = tuple(series)
    if instances:
        uids[Level.IMAGE] = tuple(instances)
    for uid in (study, *series, *instances):
        if not is_uid(uid):
            raise ValueError(f"'{uid}' is not a UID")
    if instances and len(series) != 1:
        raise ValueError("instances are named together with their series")
    return Retrieve(Model.STUDY_ROOT, max(uids), uids)


def _unlisted(wanted: Retrieve) -> Missing:
    """What to ask for without knowing what there is."""
    series = wanted.uids.get(Level.SERIES, ())
    instances = tuple(Remote(series[0], uid, "") for uid in wanted.uids.get(Level.IMAGE, ()))
    return Missing("", wanted.uids[Level.STUDY][0], instances, frozenset(() if instances else series))


def _without(listed: Missing, here: frozenset[str]) -> Listing:
    """What is listed and not here; a series of which something is here is fetched by instances."""
    lacking = tuple(one for one in listed.instances if one.sop_instance_uid not in here)
    touched = {one.series_instance_uid for one in listed.instances if one.sop_instance_uid in here}
    present = frozenset(one.sop_instance_uid for one in listed.instances) & here
    return Listing(replace(listed, instances=lacking, whole_series=listed.whole_series - touched), present)


def _address_towards(called: Peer) -> str:
    """Our address on the way to a peer; nothing is sent to find it out."""
    family, kind_, protocol, _, address = socket.getaddrinfo(called.host, called.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind_, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])

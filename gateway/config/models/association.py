"""The application entity the gateway is, and those it knows."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from pydantic import Field

from gateway.config.models.section import Section
from gateway.config.types import (
    AETitle,
    ConfigPath,
    Count,
    Duration,
    Frequency,
    Network,
    Port,
    RemotePort,
    Size,
    Workers,
)

_KIB = 2**10
_GIB = 2**30


class Permission(Enum):
    """What a peer may ask of the gateway."""

    ECHO = "echo"
    FIND = "find"
    MOVE = "move"
    GET = "get"
    STORE = "store"
    COMMIT = "commit"
    DELETE = "delete"


class AcceptTimeouts(Section):
    """Deadlines of associations that peers request of us."""

    acse: Duration = timedelta(seconds=10)
    """From the TCP connection to the end of negotiation, whatever the peer sends meanwhile."""
    network: Duration = timedelta(seconds=30)
    """For one PDU to be read or written whole."""
    idle: Duration = timedelta(minutes=10)
    """Between two requests."""


class AcceptTls(Section):
    """TLS of the DICOM port; without ``certificate`` it speaks in clear."""

    certificate: ConfigPath | None = None
    """Our certificate and its chain, PEM; with it the port speaks TLS 1.2 or newer only."""
    key: ConfigPath | None = None
    """Its private key, PEM, not encrypted."""
    ca: ConfigPath | None = None
    """Who signs the certificates of callers, PEM; without it callers need none."""


class RequestTls(Section):
    """TLS towards a peer; without ``ca`` we speak in clear."""

    ca: ConfigPath | None = None
    """Who signs the peer's certificate, PEM."""
    certificate: ConfigPath | None = None
    """Our certificate and its chain, PEM, for a peer that wants one."""
    key: ConfigPath | None = None
    """Its private key, PEM, not encrypted."""
    check_host: bool = True
    """Whether the peer's certificate has to name its host."""


class Ae(Section):
    """The application entity the gateway is."""

    title: AETitle = "GATEWAY"
    """Called AE title; an association that calls another one is rejected."""
    bind: str = "127.0.0.1"
    """Address to listen on; the default is loopback only."""
    port: Port = 11112
    """TCP port; 0 takes a free one and says which."""
    workers: Workers = None
    """Processes that share the port: ``auto`` is one per core, 1 does not fork."""
    max_pdu: Annotated[Size, Field(ge=4096, le=_GIB)] = 128 * _KIB
    """Maximum PDU length announced to peers (PS3.8 D.1)."""
    max_associations: Annotated[Count, Field(ge=1)] = 200
    """Open at once, in total; more are rejected as transient (PS3.8 9.3.4: 2/3/2)."""
    max_associations_per_peer: Annotated[Count, Field(ge=1)] = 50
    """Open at once of one peer, unless the peer says otherwise; more are rejected likewise."""
    max_negotiations_per_address: Annotated[Count, Field(ge=1)] = 100
    """Associations of one network address that are being negotiated at once; more are rejected likewise."""
    max_associations_per_second: Frequency = 0
    """That one network address may request, averaged over a second; more are rejected (2/3/1). 0 is no limit."""
    timeouts: AcceptTimeouts = AcceptTimeouts()
    tls: AcceptTls = AcceptTls()


class RequestTimeouts(Section):
    """Deadlines of associations that we request of a peer."""

    connect: Duration = timedelta(seconds=5)
    """For the TCP connection."""
    acse: Duration = timedelta(seconds=10)
    """From the A-ASSOCIATE request to its answer, and for a release."""
    dimse: Duration = timedelta(seconds=60)
    """From a request, or from the last pending response, to the next response."""
    network: Duration = timedelta(seconds=30)
    """For one PDU to be read or written whole."""


class CommitmentReport(Enum):
    """Where the report of a storage commitment goes."""

    NEW = "new"
    SAME = "same"


class Send(Section):
    """How instances are sent to a move destination."""

    associations: Annotated[Count, Field(ge=1, le=4)] = 1
    """Associations that one C-MOVE sends over, in parallel."""
    max_associations: Count = 0
    """Associations to it at once from all C-MOVEs of a worker; more wait. 0 is no limit."""
    bytes_per_second: Size = 0
    """Bandwidth that all C-MOVEs of a worker share, averaged over seconds. 0 is no limit."""


class Peer(Section):
    """A remote application entity: one we call, one that calls us, or both."""

    aet: AETitle
    """Its AE title, when it calls and when it is called."""
    host: str = Field(min_length=1)
    """Host name or address."""
    port: RemotePort
    """TCP port it listens on."""
    allow: tuple[Permission, ...] = ()
    """What it may ask of us; without this key nothing, so that its associations are rejected."""
    addresses: tuple[Network, ...] = ()
    """Addresses or networks it may call from; empty: those its host name has."""
    max_associations: Annotated[Count, Field(ge=1)] | None = None
    """Open at once of it; without this key ``ae.max_associations_per_peer``."""
    max_requests_per_second: Frequency = 0
    """That it may make on all its associations, averaged over a second; more are held back. 0 is no limit."""
    destinations: tuple[str, ...] | None = None
    """Names of the peers it may have instances moved to; without this key all of them."""
    commitment_report: CommitmentReport = CommitmentReport.NEW
    """Which association reports of storage commitment take, in both directions."""
    send: Send = Send()
    timeouts: RequestTimeouts = RequestTimeouts()
    tls: RequestTls = RequestTls()

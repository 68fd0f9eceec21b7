"""The keys of the configuration, their types, units and defaults; conf/gateway.yaml shows every one of them.

``None`` where a model allows it means what the key's text says it means; a section that may be left out has defaults
for all of its keys.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from gateway.config.document import Document, KeyPath
from gateway.config.types import (
    AETitle,
    ConfigPath,
    Count,
    Duration,
    Network,
    Port,
    RemotePort,
    Size,
    Workers,
    one_or_many,
    one_or_many_schema,
)
from gateway.errors import ConfigError

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


class Section(BaseModel):
    """A mapping of the file: frozen, and no keys but those it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


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
    """Open at once from one peer."""
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
    destinations: tuple[str, ...] | None = None
    """Names of the peers it may have instances moved to; without this key all of them."""
    commitment_report: CommitmentReport = CommitmentReport.NEW
    """Which association reports of storage commitment take, in both directions."""
    send: Send = Send()
    timeouts: RequestTimeouts = RequestTimeouts()
    tls: RequestTls = RequestTls()


class QueryCache(Section):
    """Answers of a leading archive, kept for a while."""

    ttl: Duration | None = timedelta(minutes=5)
    """How long an answer is fresh; null: for ever, until it is pushed out."""
    empty_ttl: Duration = timedelta(minutes=1)
    """How long "no match" is fresh."""
    failure_ttl: Duration = timedelta(seconds=5)
    """How long a failed query is not tried anew."""
    max_entries: Count = 10_000
    """Answers kept at most, the least recently used go first; 0 is unbounded and needs a ttl."""
    max_studies: Count = 100_000
    """Studies whose attributes are kept at most, each by itself; 0 is unbounded and needs a ttl."""
    max_bytes: Size = 64 * _MIB
    """Memory for the answers, and as much again for the studies, by estimate; 0 is unbounded."""
    max_entry_bytes: Size = 16 * _MIB
    """A larger answer goes through without being kept; 0 is unbounded."""
    stale_if_error: Duration = timedelta(hours=1)
    """How long after its end an answer still serves when the leading archive fails."""
    refresh_ahead: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the lifetime after which a hit refreshes the answer in the background; 1 never does."""


class Breaker(Section):
    """When to stop asking a leading archive that fails."""

    failures: Annotated[Count, Field(ge=1)] = 5
    """Failures in a row that open the circuit."""
    retry_after: Duration = timedelta(seconds=10)
    """How long it stays open before one query tries the archive again."""


class Leading(Section):
    """An archive whose patient and study attributes are the true ones."""

    peer: str
    """Name of the peer."""
    callers: tuple[AETitle, ...] = ()
    """AE titles for whose queries it is asked; empty: for all."""
    issuer: str = ""
    """Issuer of Patient ID it is the authority for; empty: for all."""
    charset: str = "ISO_IR 192"
    """Specific Character Set that its answers are asked for in; empty: none, for archives that match on it."""
    batch: Annotated[Count, Field(ge=1, le=1000)] = 100
    """Studies in one look-up."""
    parallel: Annotated[Count, Field(ge=1)] = 4
    """Look-ups at a time when it does not understand lists of UIDs and has to be asked one by one."""
    associations: Annotated[Count, Field(ge=1)] = 8
    """Open to it at most, in one worker."""
    idle: Duration = timedelta(seconds=5)
    """How long an unused association is kept for the next query."""
    query_cache: QueryCache = QueryCache()
    breaker: Breaker = Breaker()


class Scope(Enum):
    """Which studies a query answers."""

    ALL = "all"
    LOCAL = "local"


class Query(Section):
    """How queries are answered."""

    scope: Scope = Scope.ALL
    """``all``: also studies that only the leading archive has; ``local``: those the local archive has."""
    lenient: bool = False
    """Accept a missing unique key above the level instead of A900H (PS3.4 C.4.1.2.2.1)."""
    max_answers: Count = 0
    """A query with more matches ends with A700H after so many; 0 is no limit."""
    memo_bytes: Size = 64 * _MIB
    """Memory for finished answers that are handed out again as they are, by estimate."""
    empty_matches: bool = False
    """Whether an entity whose attribute is empty matches any key (PS3.4 C.2.2.2); most archives say no."""


class Completeness(Enum):
    """When the leading archive is asked whether it has more of a study than is here."""

    OFF = "off"
    COUNT = "count"
    INSTANCES = "instances"


class Via(Enum):
    """How instances are fetched from the leading archive."""

    AUTO = "auto"
    GET = "get"
    MOVE = "move"


class Unexpected(Enum):
    """What becomes of an instance from the leading archive that no retrieve asked for."""

    STORE = "store"
    REFUSE = "refuse"


class Retrieve(Section):
    """How C-MOVE and C-GET are served when the leading archive has what is not here."""

    completeness: Completeness = Completeness.COUNT
    """``off``: ask it only for what is wholly absent here; ``count``: also when it counts more instances of a series;
    ``instances``: compare every instance."""
    via: Via = Via.AUTO
    """``get``: C-GET; ``move``: C-MOVE to our AE title, which it has to know; ``auto``: C-GET where it offers it."""
    keep: bool = False
    """Store what was pulled in the local archive."""
    unexpected: Unexpected = Unexpected.STORE
    """Instances that it sends and nobody asked for: store or refuse."""
    spool: ConfigPath | None = None
    """Folder for instances on their way through, on a local disk; without this key ``<root>.spool`` beside the root."""


class Conflict(Enum):
    """What to do with an instance whose UID is there with other content."""

    KEEP = "keep"
    REPLACE = "replace"


class Durability(Enum):
    """What is synced before a C-STORE is acknowledged."""

    FULL = "full"
    DATA = "data"
    NONE = "none"


class OnlyIf(Enum):
    """What else must be true of a study before a rule deletes it."""

    COMMITTED = "committed"


class RetainRule(Section):
    """A study goes when all conditions of a rule hold."""

    received_before: Duration | None = None
    """Age since its last instance was received."""
    studied_before: Duration | None = None
    """Age by Study Date; a study without one is never old enough."""
    unused_for: Duration | None = None
    """Age since it was last retrieved, or received."""
    free_below: Size | None = None
    """Only while less disk space is free than this, the longest unused first, until so much is free."""
    only_if: OnlyIf | None = None
    """committed: only when other archives have committed all of its instances."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not (self.received_before or self.studied_before or self.unused_for or self.free_below):
            raise ValueError("without an age or free_below the rule would delete everything")
        return self


class Retain(Section):
    """Deletion by policy."""

    rules: tuple[RetainRule, ...] = ()
    """A study goes by any one of them."""
    every: Duration | None = None
    """Between two runs; without it only ``archive retain`` deletes."""
    max_studies: Annotated[Count, Field(ge=1)] = 1000
    """At most so many go in one run."""


class Archive(Section):
    """The local file-set."""

    dicomdir: ConfigPath
    """The DICOMDIR; its folder is the root of the file-set."""
    create: bool = False
    """Begin an empty file-set when there is no DICOMDIR; without it a missing one is an error."""
    index: ConfigPath | None = None
    """Folder of the index, outside the file-set; without this key ``<root>.index`` beside the root."""
    durability: Durability = Durability.FULL
    """What an acknowledged C-STORE survives: full a power cut, data and none a kill."""
    on_conflict: Conflict = Conflict.KEEP
    """Another content under a stored UID: keep the first, which the sender is told by warning B000H, or replace it."""
    publish_delay: Duration = timedelta(seconds=1)
    """How long changes are gathered before the DICOMDIR is published; a large one is published less often."""
    min_free: Size = _GIB
    """Free space below which nothing more is accepted and the archive is not ready."""
    retain: Retain = Retain()
    """What is deleted by itself, and when; nothing without rules."""


class Coercion(Section):
    """Rules that change attributes on their way through."""

    rules: ConfigPath | None = None
    """The YAML rule file; without it only the built-in rule: the leading archive's attributes."""
    quarantine: ConfigPath | None = None
    """Folder for received instances that a rule puts aside; without this key ``<root>.quarantine`` beside the root."""


class Verify(Enum):
    """How closely an instance is looked at before it is committed."""

    EXISTENCE = "existence"
    SIZE = "size"
    CHECKSUM = "checksum"


class CommitmentRetry(Section):
    """How long a report that nobody answers is repeated."""

    first: Duration = timedelta(seconds=5)
    """Pause after the first attempt; doubled after each further one."""
    longest: Duration = timedelta(hours=1)
    """The longest pause."""
    attempts: Annotated[Count, Field(ge=1)] = 40
    """Attempts in all; then the job is abandoned until it is resumed by hand."""


class Commitment(Section):
    """Storage commitment, asked of us and asked by us."""

    ledger: ConfigPath | None = None
    """Its file; without this key ``commitment.sqlite`` in the folder of the index."""
    verify: Verify = Verify.SIZE
    """``existence`` of the file, its ``size``, or its ``checksum`` too, which reads every file."""
    count_leading: bool = False
    """Whether instances that only a leading archive has are committed."""
    decision: str = ""
    """Name of an entry point in ``dicom_gateway.commitment`` that decides instead."""
    retry: CommitmentRetry = CommitmentRetry()
    timeout: Duration = timedelta(days=1)
    """How long a report to us is awaited."""
    linger: Duration = timedelta(seconds=10)
    """How long the association of our request is kept open for peers that report on it."""
    max_transactions: Annotated[Count, Field(ge=1)] = 10_000
    """Kept in each direction; the oldest ended ones are forgotten first."""
    max_age: Duration = timedelta(days=30)
    """After which an ended transaction is forgotten."""
    max_instances: Annotated[Count, Field(ge=1)] = 100_000
    """In one transaction; more are refused."""


class RejectionAction(Enum):
    """What a rejection note does to the instances it names."""

    IGNORE = "ignore"
    HIDE = "hide"
    DELETE = "delete"


class OnResend(Enum):
    """What happens when a rejected instance is stored again."""

    RESTORE = "restore"
    REFUSE = "refuse"
    IGNORE = "ignore"


class Rejection(Section):
    """Rejection notes of IHE IOCM, from peers with the permission ``delete``.

    ``ignore`` stores the note and nothing else, ``hide`` takes the instances out of every answer, ``delete`` removes
    their files, too.
    """

    quality: RejectionAction = RejectionAction.HIDE
    """Rejected for Quality Reasons (113001)."""
    patient_safety: RejectionAction = RejectionAction.HIDE
    """Rejected for Patient Safety Reasons (113037)."""
    worklist: RejectionAction = RejectionAction.HIDE
    """Incorrect Modality Worklist Entry (113038)."""
    retention: RejectionAction = RejectionAction.DELETE
    """Data Retention Policy Expired (113039)."""
    keep_notes: bool = True
    """Whether the notes themselves are stored as documents of their studies."""
    on_resend: OnResend = OnResend.RESTORE
    """A rejected instance that is stored again: ``restore`` or ``refuse`` it (0124H), or ``ignore`` it with Success."""


class Http(Section):
    """Health, metrics and the REST interface."""

    bind: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a token_file."""
    port: Port = 8080
    """TCP port; 0 takes a free one and says which."""
    token_file: ConfigPath | None = None
    """File with the bearer token that may do everything under /api."""
    read_only_token_file: ConfigPath | None = None
    """File with the bearer token that may only read."""


class Transport(Enum):
    """How syslog messages travel."""

    TCP = "tcp"
    UDP = "udp"


class Syslog(Section):
    """The audit record repository; without ``host`` there is none."""

    host: str = ""
    """Host name or address."""
    port: RemotePort = 601
    """Port it listens on."""
    transport: Transport = Transport.TCP
    """``tcp`` with octet counting (RFC 6587), or ``udp``, where a lost message goes unnoticed."""
    spool: ConfigPath | None = None
    """File for what it does not take, needed with a host; each process appends its name to it."""


class Audit(Section):
    """The audit trail of DICOM PS3.15 A.5; without ``file`` and ``syslog.host`` there is none."""

    file: ConfigPath | None = None
    """One XML message a line."""
    syslog: Syslog = Syslog()
    """A collector; messages go there instead of to the file."""
    site: str = ""
    """Audit Enterprise Site ID."""


class LogFormat(Enum):
    """How a log line looks."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(Enum):
    """The least severe line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Logging(Section):
    """What is written to standard error."""

    level: LogLevel = LogLevel.INFO
    """Least severe line written."""
    format: LogFormat = LogFormat.CONSOLE
    """``console`` for people, ``json`` for collectors: one object a line."""


class Config(Section):
    """The whole file."""

    ae: Ae = Ae()
    peers: dict[str, Peer] = {}
    """By the name that other keys, the log and the metrics call them."""
    leading: Annotated[
        tuple[Leading, ...], BeforeValidator(one_or_many), Field(json_schema_extra=one_or_many_schema)
    ] = ()
    """One leading archive or a list of them, the first that knows a study wins; none: this gateway is one itself."""
    query: Query = Query()
    retrieve: Retrieve = Retrieve()
    archive: Archive
    coercion: Coercion = Coercion()
    commitment: Commitment = Commitment()
    rejection: Rejection = Rejection()
    http: Http = Http()
    audit: Audit = Audit()
    logging: Logging = Logging()

    _document: Document = PrivateAttr(default_factory=lambda: Document(Path("configuration")))

    @property
    def source(self) -> Path:
        """The file it was read from."""
        return self._document.file

    def complaint(self, path: KeyPath, text: str, hint: str = "") -> ConfigError:
        """What turned out to be wrong with a value only when it was used, such as a port in use, told as the others.

        Args:
            path: such as ``("ae", "port")``.
        """
        return ConfigError([self._document.blame(path, text, hint)])

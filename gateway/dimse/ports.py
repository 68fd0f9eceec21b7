"""What the wire asks of the rooms above it, and the values it speaks with them.

The SCPs parse and check a request, call one of these, and turn what comes back, or the
:class:`~gateway.errors.GatewayError` that is raised, into responses. They know no archive and no rule.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.instance import Outgoing
from gateway.dimse.negotiation import AssociateReject, UserIdentity
from gateway.rates import Rate

Cancelled = Callable[[], bool]
"""True after C-CANCEL for the running operation, or when the association is gone."""


@dataclass(frozen=True)
class Timeouts:
    """Deadlines of an association that we request, in seconds."""

    connect: float = 5.0
    acse: float = 10.0
    """From the A-ASSOCIATE request to its answer, and for a release."""
    dimse: float = 60.0
    """From a request, or from the last pending response, to the next response."""
    network: float = 30.0
    """For one PDU to be read or written whole."""


@dataclass(frozen=True)
class Peer:
    """A remote application entity that we can call."""

    name: str
    aet: str
    host: str
    port: int
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: ssl.SSLContext | None = None


class FindHandler(Protocol):
    """Answers C-FIND. Each answer goes out as it is: projected to the requested keys, in the answer's character set."""

    def __call__(self, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        """Yield the answers; raise a GatewayError to end with its status."""


@dataclass(frozen=True)
class Originator:
    """Move Originator AE title and message ID, for the C-STORE requests of a C-MOVE (PS3.7 9.1.1)."""

    aet: str
    message_id: int


Following = Callable[[], Outgoing | None]
"""What is going to be stored next, if that can be said."""


class StoreChannel(Protocol):
    """An association on which C-STORE requests can be sent: to a move destination, or back to a C-GET requestor."""

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether a presentation context was accepted for this pair, so that it is worth transcoding to."""

    def store(
        self, outgoing: Outgoing, originator: Originator | None = None, following: Following | None = None
    ) -> int:
        """Send one instance and return the status of the response.

        An instance whose (SOP class, transfer syntax) has no accepted presentation context is not sent: 0122H.

        Args:
            following: called once while the peer is at work; what it returns is read ahead, to be stored next.

        Raises:
            UpstreamError: the association broke.
            BadInstance: its file is missing or shorter than it should be; the association is still usable, unless
                bytes of it were already sent, which is the case above.
        """


class MoveHandler(Protocol):
    """Carries out a C-MOVE. Each counter yielded may be sent as a pending response; the last one is final."""

    def __call__(
        self, retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """Yield the counters as they change; raise a GatewayError to end with its status."""


class GetHandler(Protocol):
    """Carries out a C-GET over the requestor's own association."""

    def __call__(
        self, retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        """Yield the counters as they change; raise a GatewayError to end with its status."""


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request whose data set is about to arrive.

    Attributes:
        originator: set when the instance is a sub-operation of a C-MOVE and the peer says so.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    caller: Caller
    originator: Originator | None = None


class Incoming(Protocol):
    """One instance on its way in: the wire writes the data set to ``fd``, then commits or aborts."""

    @property
    def fd(self) -> int:
        """A descriptor positioned behind preamble and File Meta Information, open for writing."""

    def commit(self) -> int:
        """Make the instance durable and return the status to answer with.

        Raises:
            GatewayError: it was not kept; nothing of it is left.
        """

    def abort(self) -> None:
        """Forget what was received."""


class Receiver(Protocol):
    """Takes C-STORE requests."""

    def begin(self, request: StoreRequest) -> Incoming:
        """Open a place for the instance.

        Raises:
            Refused: this instance or this caller is not accepted.
            StorageError: the disk is full or failing.
        """


@dataclass(frozen=True)
class ActionRequest:
    """An N-ACTION request (PS3.7 10.1.4): do something to an instance the SCP manages."""

    sop_class_uid: str
    sop_instance_uid: str
    action_type: int
    information: Attributes


@dataclass(frozen=True)
class EventReport:
    """An N-EVENT-REPORT request (PS3.7 10.1.1): something became of an instance the SCP manages."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: Attributes


class EventChannel(Protocol):
    """An association on which N-EVENT-REPORT requests can be sent by us as SCP of the service."""

    def report(self, event: EventReport) -> int:
        """Send one event and return the status of the response.

        Raises:
            UpstreamError: no response came: the association ended, or the peer was silent too long.
        """


AfterAction = Callable[[EventChannel], None]
"""What is left to do on the requestor's association once the N-ACTION response has been sent."""


class ActionHandler(Protocol):
    """Answers N-ACTION. The response is sent when the handler returns, so what it promises must be durable by then."""

    def __call__(self, request: ActionRequest, caller: Caller) -> AfterAction | None:
        """Take the request; raise a GatewayError to answer with its status."""


class EventHandler(Protocol):
    """Answers N-EVENT-REPORT, on an association of the peer's (SCP role 1 proposed by it) or on one of ours."""

    def __call__(self, event: EventReport, caller: Caller) -> None:
        """Take the event; raise a GatewayError to answer with its status."""


class Verb(Enum):
    """What a caller may be allowed to do."""

    ECHO = "echo"
    FIND = "find"
    MOVE = "move"
    GET = "get"
    STORE = "store"
    COMMIT = "commit"


@dataclass(frozen=True)
class Allowance:
    """How much a peer may take up, on all its associations together.

    Attributes:
        associations: at once; 0 is no limit.
        requests: how often it may ask; None is no limit.
    """

    associations: int = 0
    requests: Rate | None = None


UNLIMITED = Allowance()


@dataclass(frozen=True)
class Admission:
    """A caller that is let in.

    Attributes:
        peer: the name of the configured peer it was recognised as.
        verbs: what it may do; the presentation contexts of the rest are rejected.
        allowance: how much of it.
    """

    peer: str
    verbs: frozenset[Verb]
    allowance: Allowance = UNLIMITED


class Policy(Protocol):
    """Decides who may associate, and for what."""

    def admit(
        self, calling: str, called: str, address: str, identity: UserIdentity | None
    ) -> Admission | AssociateReject:
        """Let the caller in, or say how it is rejected.

        Args:
            calling: its AE title without padding; anything at all from an unknown peer.
            address: its network address as text.
        """

"""Gateways and peers of the commitment tests, on real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.commitment import inquiry, job
from gateway.commitment.decision import Decider
from gateway.commitment.job import Retry
from gateway.commitment.messages import (
    PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentRequest,
    CommitmentResult,
    Reason,
    Reference,
    read_result,
    write_request,
    write_result,
)
from gateway.commitment.routes import Route
from gateway.commitment.service import Commitment, Ledgers, Settings
from gateway.dicom.caller import Caller
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import ActionHandler, ActionRequest, EventReport, Peer, Receiver, Timeouts, Verb
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from tests.support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")
FAST = Timeouts(connect=5, acse=5, dimse=5, network=5)
INSTANCE = (PUSH_MODEL, WELL_KNOWN_INSTANCE)


def action(uid: str, *references: Reference) -> ActionRequest:
    """A commitment request."""
    return ActionRequest(*INSTANCE, 1, write_request(CommitmentRequest(uid, references or (A, B))))


def event(uid: str, *failed: Reference, references: Sequence[Reference] = (A, B)) -> EventReport:
    """A report of what was requested."""
    result = CommitmentResult(uid, tuple(one for one in references if one not in failed), dict.fromkeys(failed, 0x0112))
    return EventReport(*INSTANCE, result.event_type, write_result(result))


def only_a(references: Sequence[Reference], requester: Caller) -> Iterator[int]:  # noqa: ARG001
    """Commits A and nothing else."""
    for one in references:
        yield 0 if one == A else Reason.NO_SUCH_OBJECT_INSTANCE


@dataclass
class PeerNode:
    """A peer of the gateway: what it is asked and told it writes down.

    Attributes:
        answer: called for each event; may raise a GatewayError to answer with its status, or wait.
    """

    server: Server
    peer: Peer
    actions: list[ActionRequest] = field(default_factory=list)
    events: list[tuple[CommitmentResult, Caller]] = field(default_factory=list)
    answer: Callable[[EventReport], None] = lambda event: None  # noqa: ARG005

    def take(self, event: EventReport, caller: Caller) -> None:
        """Take a report."""
        self.events.append((read_result(event.information), caller))
        self.answer(event)


@contextmanager
def peer_node(
    act: ActionHandler | None = None, aet: str = "MODALITY", timeouts: Timeouts = FAST, port: int = 0
) -> Iterator[PeerNode]:
    """A peer that listens."""
    holder: list[PeerNode] = []

    def take(event: EventReport, caller: Caller) -> None:
        holder[0].take(event, caller)

    def note(request: ActionRequest, caller: Caller) -> Callable[..., None] | None:
        holder[0].actions.append(request)
        return act(request, caller) if act else None

    policy = PeerPolicy([aet], [], frozenset(Verb))
    server = Server(Handlers(action=note, event=take), policy, Endpoint(port=port))
    with server:
        holder.append(PeerNode(server, Peer(aet.lower(), aet, "127.0.0.1", server.port, timeouts)))
        yield holder[0]


@dataclass
class GatewayNode:
    """The gateway's commitment, listening."""

    commitment: Commitment
    server: Server

    @property
    def peer(self) -> Peer:
        """The gateway, as its peers call it."""
        return Peer("gateway", "GATEWAY", "127.0.0.1", self.server.port, FAST)

    def job_reaches(self, uid: str, state: job.State) -> None:
        """Wait until a job is in a state."""
        jobs = self.commitment.ledgers.jobs
        wait_until(lambda: {one.transaction_uid: one.state for one in jobs.jobs()}.get(uid) is state, f"job {state}")

    def inquiry_reaches(self, uid: str, state: inquiry.State) -> None:
        """Wait until an inquiry is in a state."""
        inquiries = self.commitment.ledgers.inquiries
        wait_until(lambda: inquiries.inquiry(uid).state is state, f"inquiry {state}")


@contextmanager
def gateway_node(
    folder: Path,
    *peers: Peer,
    same: bool = False,
    decider: Decider = only_a,
    retry: Retry | None = None,
    port: int = 0,
    timeout: float = 60.0,
    store: Receiver | None = None,
) -> Iterator[GatewayNode]:
    """The gateway's commitment on a port, with its ledger in a folder; takes instances where it has a receiver."""
    settings = Settings(
        folder / "commitment.sqlite", retry=retry or Retry(0.02, 0.1, 50), poll=0.02, linger=5.0, timeout=timeout
    )
    routes = [Route(one, same) for one in peers]
    commitment = Commitment(settings, Ledgers(settings), decider, CommitmentAssociations("GATEWAY"), routes)
    policy = PeerPolicy(
        ["GATEWAY"], [KnownCaller(one.name, one.aet, frozenset(Verb)) for one in peers], frozenset(Verb)
    )
    with ExitStack() as stack:
        commitment.prepare()
        commitment.start()
        stack.callback(commitment.stop)
        handlers = Handlers(action=commitment.action, event=commitment.event, store=store)
        yield GatewayNode(commitment, stack.enter_context(Server(handlers, policy, Endpoint(port=port))))

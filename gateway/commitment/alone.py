"""Asking for commitment without a gateway: a ledger that lasts as long as the question, and a listener of its own.

For the command line's one-off questions: the report is taken on the association of the request, or by the listener
where one is wanted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from gateway.commitment.inquiries import Inquiry, InquiryLedger
from gateway.commitment.inquiry import WAITING
from gateway.commitment.messages import Reference
from gateway.commitment.records import Decided
from gateway.commitment.scu import CommitmentSCU
from gateway.commitment.service import Ledgers, Settings
from gateway.dicom.caller import Caller
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import EventReport, Peer, Verb
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers

Answer = tuple[Inquiry, Sequence[Decided]]
Ask = Callable[[Peer, Sequence[Reference], float], Answer]
"""Asks a peer and waits for its report for so many seconds at most; then the inquiry is pending still."""

_LOOK = 0.25


@contextmanager
def asking_alone(aet: str, listen: tuple[str, int] | None = None) -> Iterator[Ask]:
    """Ask under an AE title, with nothing but a temporary folder.

    Args:
        listen: address and port for reports on associations of the peer; without it only the association of the request
            can carry one.

    Raises:
        OSError: the address cannot be bound.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commitment-")))
        ledgers = Ledgers(Settings(folder / "ledger.sqlite"))
        stack.callback(ledgers.close)
        scu = CommitmentSCU(ledgers.inquiries, CommitmentAssociations(aet))
        told = Event()

        def on_event(event: EventReport, caller: Caller) -> None:
            scu.on_event(event, caller)
            told.set()

        if listen is not None:
            policy = PeerPolicy([aet], [], frozenset({Verb.ECHO, Verb.COMMIT}))
            stack.enter_context(Server(Handlers(event=on_event), policy, Endpoint(*listen)))

        def ask(peer: Peer, references: Sequence[Reference], wait: float) -> Answer:
            found = scu.request(peer, references, linger=0.0 if listen else wait)
            if listen and found.state in WAITING:
                told.wait(wait)
            return _answer(ledgers.inquiries, found.transaction_uid)

        yield ask


def ask_and_wait(
    scu: CommitmentSCU, peer: Peer, references: Sequence[Reference], *, linger: float, wait: float
) -> Answer:
    """Ask a peer whose report a running gateway takes, and look into the common ledger for it.

    Args:
        linger: seconds for a report on the association of the request.
        wait: seconds for one on another; 0 does not wait.
    """
    inquiries = scu.inquiries
    uid = scu.request(peer, references, linger=linger).transaction_uid
    never, left = Event(), wait
    while left > 0 and inquiries.inquiry(uid).state in WAITING:
        never.wait(min(_LOOK, left))
        left -= _LOOK
    return _answer(inquiries, uid)


def _answer(inquiries: InquiryLedger, uid: str) -> Answer:
    return inquiries.inquiry(uid), inquiries.instances(uid)

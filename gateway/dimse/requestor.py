"""Associations that we request: every DIMSE service as an SCU, and N-EVENT-REPORT as an SCP (PS3.4 A, B, C, J).

Whatever goes wrong with the peer, from DNS to a truncated answer, is an :class:`~gateway.errors.UpstreamError` of
the right kind. :meth:`Association.find` ends normally only on a final 0000H: nothing else is an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Negotiated
from gateway.dicom.instance import Outgoing
from gateway.dicom.models import VERIFICATION
from gateway.dicom.status import Kind, Status, kind
from gateway.dicom.tags import tag_of
from gateway.dimse import pdu
from gateway.dimse.command import Command, Field
from gateway.dimse.conversation import Conversation, never
from gateway.dimse.dialing import Dialled, dial
from gateway.dimse.negotiation import AssociateRequest, Role, UserIdentity, negotiated, propose
from gateway.dimse.pdu import ProtocolError
from gateway.dimse.ports import ActionRequest, EventHandler, EventReport, Following, Originator, Peer, Receiver
from gateway.dimse.ports import Cancelled as CancelSignal
from gateway.dimse.sender import Sender
from gateway.dimse.serving import event_command
from gateway.errors import Cancelled, UpstreamError, UpstreamKind

_MEDIUM = 0


@dataclass(frozen=True)
class RetrieveProgress:
    """A response to C-MOVE or C-GET: counters, and on the final one its status.

    Attributes:
        status: FF00H on pending responses.
        failed_uids: Failed SOP Instance UID List of the final response.
    """

    status: int
    remaining: int | None
    completed: int
    failed: int
    warning: int
    failed_uids: tuple[str, ...] = ()
    comment: str = ""


def connect(
    peer: Peer,
    calling_aet: str,
    contexts: Iterable[tuple[str, str]],
    *,
    roles: Mapping[str, Role] | None = None,
    extended: Mapping[str, bytes] | None = None,
    identity: UserIdentity | None = None,
    max_length: int = pdu.MAX_PDU,
) -> Association:
    """Open an association.

    Args:
        contexts: (SOP class, transfer syntax) pairs; each becomes a presentation context of its own.
        roles: SOP classes for which we propose other roles than SCU.
        extended: Service Class Application Information by SOP class.

    Raises:
        UpstreamError: the peer cannot be reached, rejects, or does not answer in time.
        ValueError: more than 128 contexts.
    """
    request = AssociateRequest(
        calling_aet,
        peer.aet,
        propose(contexts),
        max_length,
        roles=roles or {},
        extended=extended or {},
        identity=identity,
    )
    return Association(peer, dial(peer, request))


class Association(Conversation):
    """An open association with a peer.

    Attributes:
        negotiated: what extended negotiation settled, by SOP class.
    """

    def __init__(self, peer: Peer, dialled: Dialled) -> None:
        super().__init__(peer, dialled.exchange)
        self.negotiated: Mapping[str, Negotiated] = {
            uid: negotiated(answered) for uid, answered in dialled.accept.extended.items()
        }
        self._sender = Sender(dialled.exchange, self._next_id, peer.timeouts.dimse)

    def echo(self) -> int:
        """C-ECHO; returns the status.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            context = self._context(VERIFICATION)
            command = Command(Field.C_ECHO, message_id=self._next_id(), sop_class=VERIFICATION)
            self._ask(context, command, None)
            return self._status(command)

    def _status(self, command: Command, on_event: EventHandler | None = None) -> int:
        message = self._wait(command, on_event=on_event)
        self._exchange.discard(message)
        assert message.command.status is not None
        return message.command.status

    def find(self, sop_class: str, identifier: Attributes, cancelled: CancelSignal = never) -> Iterator[Attributes]:
        """C-FIND; yields the answers as they arrive.

        Closing the iterator early cancels the operation at the peer.

        Raises:
            UpstreamError: a final status other than 0000H, abort, silence or garbage.
            Cancelled: ``cancelled()`` became true; the peer was told with C-CANCEL.
        """
        with self._conversing():
            context = self._context(sop_class)
            command = Command(Field.C_FIND, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM)
            self._ask(context, command, identifier)
            try:
                while True:
                    message = self._wait(command, cancelled)
                    answer = self._attributes(message)
                    if kind(message.command.status or 0) is not Kind.PENDING:
                        break
                    if not message.command.has_dataset:
                        raise ProtocolError("pending response without identifier")
                    yield answer
            except (Cancelled, GeneratorExit):
                self._cancel(context, command)
                raise
        final = message.command.status
        if final != Status.SUCCESS:
            raise UpstreamError(f"{self.peer.name}: status {final:04X}H", UpstreamKind.STATUS, upstream_status=final)

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether instances of a SOP class can be sent in a transfer syntax."""
        return self._sender.accepts(sop_class_uid, transfer_syntax_uid)

    def store(
        self, outgoing: Outgoing, originator: Originator | None = None, following: Following | None = None
    ) -> int:
        """C-STORE one instance; the status of the response, as :class:`~gateway.dimse.ports.StoreChannel` says.

        Raises:
            UpstreamError: the association broke.
            BadInstance: the instance's file cannot be read; nothing was sent.
        """
        with self._conversing():
            return self._sender.store(outgoing, originator, following)

    def move(
        self, sop_class: str, identifier: Attributes, destination: str, cancelled: CancelSignal = never
    ) -> Iterator[RetrieveProgress]:
        """C-MOVE; yields the responses, the final one last.

        Raises:
            UpstreamError: the association broke; a failure status is not an error but the final response's.
            Cancelled: as for :meth:`find`.
        """
        command = Command(
            Field.C_MOVE, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM, destination=destination
        )
        yield from self._retrieve(command, identifier, None, cancelled)

    def get(
        self, sop_class: str, identifier: Attributes, receiver: Receiver, cancelled: CancelSignal = never
    ) -> Iterator[RetrieveProgress]:
        """C-GET; instances go to ``receiver``, the responses are yielded as by :meth:`move`.

        Their storage SOP classes have to be proposed with the SCP role.
        """
        command = Command(Field.C_GET, message_id=self._next_id(), sop_class=sop_class, priority=_MEDIUM)
        yield from self._retrieve(command, identifier, receiver, cancelled)

    def _retrieve(
        self, command: Command, identifier: Attributes, receiver: Receiver | None, cancelled: CancelSignal
    ) -> Iterator[RetrieveProgress]:
        with self._conversing():
            context = self._context(command.sop_class or "")
            self._ask(context, command, identifier)
            pending = True
            try:
                while pending:
                    message = self._wait(command, cancelled, receiver=receiver)
                    pending = kind(message.command.status or 0) is Kind.PENDING
                    yield _progress(message.command, self._attributes(message))
            except (Cancelled, GeneratorExit):
                if pending:
                    self._cancel(context, command, receiver)
                raise

    def n_action(self, request: ActionRequest, on_event: EventHandler | None = None) -> int:
        """N-ACTION; returns the status.

        Args:
            on_event: takes an N-EVENT-REPORT that comes before the response.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            command = Command(
                Field.N_ACTION,
                message_id=self._next_id(),
                sop_class=request.sop_class_uid,
                sop_instance=request.sop_instance_uid,
                action_type=request.action_type,
            )
            self._ask(self._context(request.sop_class_uid), command, request.information)
            return self._status(command, on_event)

    def await_event(self, on_event: EventHandler, seconds: float) -> bool:
        """Wait for one N-EVENT-REPORT on this association; whether one came. It can be released afterwards.

        Raises:
            UpstreamError: the association ended meanwhile, or something else came.
        """
        limit = monotonic() + seconds

        def look() -> None:
            if monotonic() >= limit:
                raise TimeoutError

        with self._conversing():
            try:
                message = self._exchange.receive(limit + self.peer.timeouts.network, look)
            except TimeoutError:
                return False
            if message is None or not self._served(message, None, on_event):
                raise ProtocolError("N-EVENT-REPORT expected")
            return True

    def n_event_report(self, event: EventReport) -> int:
        """N-EVENT-REPORT, for a SOP class proposed with the SCP role; returns the status.

        A peer that accepts the presentation context and leaves the role out of its answer is reported to all the same:
        it has asked for it, and there are many of its kind.

        Raises:
            UpstreamError: no answer.
        """
        with self._conversing():
            try:
                context = self._context(event.sop_class_uid, as_scp=True)
            except UpstreamError:
                context = self._context(event.sop_class_uid)
            command = event_command(self._next_id(), event)
            self._ask(context, command, event.information)
            return self._status(command)


def _progress(command: Command, identifier: Attributes) -> RetrieveProgress:
    assert command.status is not None
    return RetrieveProgress(
        command.status,
        command.remaining,
        command.completed or 0,
        command.failed or 0,
        command.warning or 0,
        identifier.texts(tag_of("FailedSOPInstanceUIDList")),
        command.comment or "",
    )

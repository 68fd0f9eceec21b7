"""The SCPs: parse and check a request, call its handler, turn what comes back into responses (PS3.4 B, C, J)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from logging import DEBUG
from time import monotonic

from prometheus_client import Counter, Histogram

from gateway import metrics
from gateway.dicom import matching
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import InvalidAETitle, ae_title
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Negotiated, Query, parse_query, parse_retrieve
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS, Model
from gateway.dicom.status import Status, kind
from gateway.dimse.answers import Answers
from gateway.dimse.command import Command, Field
from gateway.dimse.exchange import Message
from gateway.dimse.pacing import refusal
from gateway.dimse.pdu import ProtocolError
from gateway.dimse.ports import (
    ActionHandler,
    ActionRequest,
    AfterAction,
    EventHandler,
    EventReport,
    FindHandler,
    GetHandler,
    MoveHandler,
    Originator,
    Receiver,
    Verb,
)
from gateway.dimse.retrieving import run_retrieve
from gateway.dimse.sender import Sender
from gateway.dimse.serving import (
    Outcome,
    answer,
    event_command,
    guarded,
    read_attributes,
    receive_instance,
    require_response,
    take_event,
)
from gateway.dimse.session import Cancellation, Session, closing
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Lost
from gateway.errors import Refused, UpstreamKind
from gateway.logs import get_logger

_REMEMBERED = 2048  # bytes of an identifier worth remembering
_log = get_logger("dimse")
_FREQUENT = frozenset({"echo", "store"})
"""Services that come by the thousand: their requests have a line each only at the level of debugging."""


def _nothing() -> None:
    """What is left to be done where nothing is."""


@dataclass(frozen=True)
class Handlers:
    """What is served, and by whom; a service without a handler is not offered.

    Attributes:
        rest: called when a request was answered, while its sender is busy with the next.
        find_keys: tags that can be matched and returned; a query with others is answered with FF01H. ``None``: any.
        lenient: accept hierarchical queries without the unique keys above their level.
        negotiated: what of extended negotiation the handlers implement.
        extra_storage: private storage SOP classes that are taken and sent.
    """

    find: FindHandler | None = None
    move: MoveHandler | None = None
    get: GetHandler | None = None
    store: Receiver | None = None
    action: ActionHandler | None = None
    event: EventHandler | None = None
    rest: Callable[[], None] = _nothing
    find_keys: frozenset[int] | None = None
    lenient: bool = False
    negotiated: Negotiated = field(default_factory=Negotiated)
    extra_storage: frozenset[str] = frozenset()

    @property
    def verbs(self) -> frozenset[Verb]:
        """The services that are offered."""
        present = {
            Verb.ECHO: True,
            Verb.FIND: self.find is not None,
            Verb.MOVE: self.move is not None,
            Verb.GET: self.get is not None,
            Verb.STORE: self.store is not None,
            Verb.COMMIT: self.action is not None or self.event is not None,
        }
        return frozenset(verb for verb, there in present.items() if there)


@lru_cache(maxsize=512)
def _parsed(data: bytes, model: Model, negotiated: Negotiated, implicit: bool, lenient: bool) -> Query:  # noqa: FBT001
    """A checked C-FIND identifier; viewers ask the same things again and again, and a query is immutable."""
    return parse_query(Attributes.decode(data, implicit=implicit), model, negotiated, lenient=lenient)


@cache
def _counted(name: str, status: str) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(name, status), metrics.REQUEST_SECONDS.labels(name, status)


class Dispatcher:
    """Serves the requests of an association, each by the SCP it is for."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._services: dict[int, tuple[str, Verb, Callable[[Session, Message], int]]] = {
            Field.C_ECHO: ("echo", Verb.ECHO, self._echo),
            Field.C_FIND: ("find", Verb.FIND, self._find),
            Field.C_MOVE: ("move", Verb.MOVE, self._move),
            Field.C_GET: ("get", Verb.GET, self._get),
            Field.C_STORE: ("store", Verb.STORE, self._store),
            Field.N_ACTION: ("action", Verb.COMMIT, self._action),
            Field.N_EVENT_REPORT: ("event", Verb.COMMIT, self._event),
        }

    def serve(self, session: Session, message: Message) -> None:
        """Answer one request.

        Raises:
            Lost: the association ended.
            ProtocolError: the peer broke the protocol.
        """
        began = monotonic()
        command = message.command
        if command.is_response:
            raise ProtocolError("a response to nothing")
        if command.message_id is None:
            raise ProtocolError("request without Message ID")
        name, verb, service = self._services.get(command.field, ("other", None, None))
        may = message.context.as_scp or command.field == Field.N_EVENT_REPORT  # which the SCP sends to the SCU
        if service is None or verb is None:
            status = self._refuse(session, message, Status.UNRECOGNISED_OPERATION)
        elif verb not in session.admission.verbs:
            status = self._refuse(session, message, Status.NOT_AUTHORISED)
        elif not may:
            status = self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED, "role was not negotiated")
        elif session.pace and not session.pace.wait():
            status = self._refuse(session, message, refusal(command.field), "more requests than this peer may make")
        else:
            status = service(session, message)
        session.exchange.forget_cancels()
        took = monotonic() - began
        requests, seconds = _counted(name, kind(status).value)
        requests.inc()
        seconds.observe(took)
        if name not in _FREQUENT or _log.isEnabledFor(DEBUG):
            _log.info("request served", service=name, status=f"{status:04X}H", seconds=round(took, 4), **session.counts)
        session.counts.clear()
        self._handlers.rest()

    def _refuse(self, session: Session, message: Message, status: int, comment: str | None = None) -> int:
        session.exchange.discard(message)
        return answer(session.exchange, message, Outcome(status, comment))

    def _echo(self, session: Session, message: Message) -> int:
        session.exchange.discard(message)
        return answer(session.exchange, message, Outcome(Status.SUCCESS))

    def _find(self, session: Session, message: Message) -> int:
        handler, model = self._handlers.find, FIND_MODELS.get(message.context.abstract_syntax)
        if handler is None or model is None:
            return self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED)
        cancelled = Cancellation(session.exchange, message)
        answers = Answers(session.exchange, message)
        cancelled.pause = answers.pause

        def run() -> Outcome:
            negotiated = session.negotiated.get(message.context.abstract_syntax, Negotiated())
            data = session.exchange.dataset(message) if message.command.has_dataset else b""
            implicit = message.context.transfer_syntax == IMPLICIT
            parse = _parsed if len(data) <= _REMEMBERED else _parsed.__wrapped__
            query = parse(data, model, negotiated, implicit, self._handlers.lenient)
            supported = self._handlers.find_keys
            if matching.unsupported(query) or (supported is not None and not supported.issuperset(query.keys)):
                answers.pending = Status.PENDING_UNSUPPORTED_KEYS
            with closing(handler(query, session.caller, cancelled)) as stream:
                for found in stream:
                    if answers.add(found) and cancelled():
                        break
            return Outcome(Status.CANCEL if cancelled.was_true else Status.SUCCESS)

        outcome = guarded(run, Status.UNABLE_TO_PROCESS)
        answers.finish(outcome)
        session.counts["answers"] = answers.count
        return outcome.status

    def _move(self, session: Session, message: Message) -> int:
        handler, model = self._handlers.move, MOVE_MODELS.get(message.context.abstract_syntax)
        if handler is None or model is None:
            return self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED)
        relational = session.negotiated.get(message.context.abstract_syntax, Negotiated()).relational
        originator = Originator(session.caller.aet, message.command.message_id or 0)
        cancelled = Cancellation(session.exchange, message, interval=0)

        def counters() -> Iterator[SubOperations]:
            retrieve = parse_retrieve(read_attributes(session.exchange, message), model, relational=relational)
            destination = _destination(message.command)
            return handler(retrieve, destination, session.caller, originator, cancelled)

        return run_retrieve(session, message, counters, cancelled)

    def _get(self, session: Session, message: Message) -> int:
        handler, model = self._handlers.get, GET_MODELS.get(message.context.abstract_syntax)
        if handler is None or model is None:
            return self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED)
        relational = session.negotiated.get(message.context.abstract_syntax, Negotiated()).relational
        channel = Sender(session.exchange, session.next_message_id, session.dimse)
        cancelled = Cancellation(session.exchange, message, interval=0)

        def counters() -> Iterator[SubOperations]:
            retrieve = parse_retrieve(read_attributes(session.exchange, message), model, relational=relational)
            return handler(retrieve, channel, session.caller, cancelled)

        return run_retrieve(session, message, counters, cancelled)

    def _store(self, session: Session, message: Message) -> int:
        receiver = self._handlers.store
        if receiver is None:
            return self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED)
        outcome = receive_instance(receiver, session.exchange, message, session.caller)
        return answer(session.exchange, message, outcome)

    def _action(self, session: Session, message: Message) -> int:
        handler, command = self._handlers.action, message.command
        if handler is None:
            return self._refuse(session, message, Status.NO_SUCH_SOP_CLASS)
        after: AfterAction | None = None

        def run() -> Outcome:
            nonlocal after
            information = read_attributes(session.exchange, message)
            action = ActionRequest(
                command.sop_class or "", command.sop_instance or "", command.action_type or 0, information
            )
            after = handler(action, session.caller)
            return Outcome(Status.SUCCESS)

        status = answer(session.exchange, message, guarded(run, Status.PROCESSING_FAILURE))
        if after:
            session.left_to_do.append(after)
        if not session.is_reporting:  # a request that comes while we report is answered, its own report waits
            self._report(session, message)
        return status

    def _report(self, session: Session, message: Message) -> None:
        session.is_reporting = True
        try:
            while session.left_to_do:
                session.left_to_do.pop(0)(_Events(session, message, self))
        finally:
            session.is_reporting = False

    def _event(self, session: Session, message: Message) -> int:
        handler = self._handlers.event
        if handler is None:
            return self._refuse(session, message, Status.NO_SUCH_SOP_CLASS)
        return answer(session.exchange, message, take_event(handler, session.exchange, message, session.caller))


class _Events:
    """N-EVENT-REPORTs on the association whose N-ACTION has just been answered (PS3.4 J.3.3)."""

    def __init__(self, session: Session, action: Message, dispatcher: Dispatcher) -> None:
        self._session = session
        self._context = action.context
        self._dispatcher = dispatcher

    def report(self, event: EventReport) -> int:
        """Send one event and return the status of the response, as the port says.

        The peer goes on asking meanwhile if it likes: requests of both sides cross (PS3.7 Annex D.3.3.3).
        """
        session = self._session
        command = event_command(session.next_message_id(), event)
        body = event.information.encode(implicit=self._context.transfer_syntax == IMPLICIT)
        session.exchange.send(self._context.id, command, body)
        limit = monotonic() + session.dimse
        while True:
            message = session.exchange.receive(limit)
            if message is None:
                raise Lost("released in the middle of an operation", UpstreamKind.PROTOCOL)
            if message.command.is_response:
                break
            self._dispatcher.serve(session, message)
        status = require_response(message, command)
        session.exchange.discard(message)
        return status


def _destination(command: Command) -> str:
    try:
        return ae_title(command.destination or "")
    except InvalidAETitle:
        raise Refused("move destination is no AE title", Status.MOVE_DESTINATION_UNKNOWN) from None

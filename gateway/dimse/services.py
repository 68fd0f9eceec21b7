"""The SCPs: parse and check a request, call its handler, turn what comes back into responses (PS3.4 B, C, J)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from logging import DEBUG
from time import monotonic
from typing import TypeVar

from prometheus_client import Counter, Histogram

from gateway import metrics
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller, InvalidAETitle, ae_title
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Negotiated, Query, Retrieve, parse_query, parse_retrieve
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS, Model
from gateway.dicom.status import Status, kind
from gateway.dimse.answers import Answers
from gateway.dimse.command import Command, Field
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.pdu import ProtocolError
from gateway.dimse.ports import (
    ActionHandler,
    ActionRequest,
    Admission,
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
from gateway.dimse.sender import Sender
from gateway.dimse.serving import (
    Outcome,
    answer,
    event_command,
    final,
    guarded,
    read_attributes,
    receive_instance,
    require_response,
    take_event,
)
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Lost
from gateway.errors import Refused, UpstreamKind
from gateway.logs import get_logger

_BATCH = 60_000
_FLUSH_SECONDS = 0.05
_PENDING_SECONDS = 1.0
_REMEMBERED = 2048  # bytes of an identifier worth remembering
_log = get_logger("dimse")
_T = TypeVar("_T")
_FREQUENT = frozenset({"echo", "store"})
"""Services that come by the thousand: their requests have a line each only at the level of debugging."""


@dataclass(frozen=True)
class Handlers:
    """What is served, and by whom; a service without a handler is not offered.

    Attributes:
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


@dataclass
class Session:
    """An association as its SCPs see it."""

    exchange: Exchange
    caller: Caller
    admission: Admission
    negotiated: dict[str, Negotiated]
    dimse: float
    left_to_do: list[AfterAction] = field(default_factory=list)
    is_reporting: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    """What the running request has counted so far, for its log line."""
    _last_id: int = field(default=0)

    def next_message_id(self) -> int:
        """Number our own requests on this association."""
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id


def _nothing() -> None:
    """There is nothing to do meanwhile."""


class _Cancellation:
    """The cancel signal of one operation.

    Attributes:
        was_true: whoever asked was told to stop, so what was answered is not all.
        pause: called with each look, which is where a handler waits for something.
    """

    def __init__(self, exchange: Exchange, message: Message) -> None:
        self._exchange = exchange
        self._message_id = message.command.message_id or 0
        self.was_true = False
        self.pause: Callable[[], None] = _nothing

    def __call__(self) -> bool:
        self.pause()
        self.was_true = self.was_true or self._exchange.cancelled(self._message_id)
        return self.was_true


@lru_cache(maxsize=512)
def _parsed(data: bytes, model: Model, negotiated: Negotiated, implicit: bool, lenient: bool) -> Query:  # noqa: FBT001
    """A checked C-FIND identifier; viewers ask the same things again and again, and a query is immutable."""
    return parse_query(Attributes.decode(data, implicit=implicit), model, negotiated, lenient=lenient)


@cache
def _counted(name: str, status: str) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(name, status), metrics.REQUEST_SECONDS.labels(name)


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
        cancelled = _Cancellation(session.exchange, message)
        answers = Answers(session.exchange, message)
        cancelled.pause = answers.pause

        def run() -> Outcome:
            negotiated = session.negotiated.get(message.context.abstract_syntax, Negotiated())
            data = session.exchange.dataset(message) if message.command.has_dataset else b""
            implicit = message.context.transfer_syntax == IMPLICIT
            parse = _parsed if len(data) <= _REMEMBERED else _parsed.__wrapped__
            query = parse(data, model, negotiated, implicit, self._handlers.lenient)
            supported = self._handlers.find_keys
            if supported is not None and any(tag not in supported for tag in query.keys):
                answers.pending = Status.PENDING_UNSUPPORTED_KEYS
            with _closing(handler(query, session.caller, cancelled)) as stream:
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
        cancelled = _Cancellation(session.exchange, message)

        def counters() -> Iterator[SubOperations]:
            retrieve = parse_retrieve(read_attributes(session.exchange, message), model, relational=relational)
            destination = _destination(message.command)
            return handler(retrieve, destination, session.caller, originator, cancelled)

        return _retrieve(session, message, counters, cancelled)

    def _get(self, session: Session, message: Message) -> int:
        handler, model = self._handlers.get, GET_MODELS.get(message.context.abstract_syntax)
        if handler is None or model is None:
            return self._refuse(session, message, Status.SOP_CLASS_NOT_SUPPORTED)
        relational = session.negotiated.get(message.context.abstract_syntax, Negotiated()).relational
        channel = Sender(session.exchange, session.next_message_id, session.dimse)
        cancelled = _Cancellation(session.exchange, message)

        def counters() -> Iterator[SubOperations]:
            retrieve: Retrieve = parse_retrieve(
                read_attributes(session.exchange, message), model, relational=relational
            )
            return handler(retrieve, channel, session.caller, cancelled)

        return _retrieve(session, message, counters, cancelled)

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


def _retrieve(
    session: Session,
    message: Message,
    begin: Callable[[], Iterator[SubOperations]],
    cancelled: Callable[[], bool],
) -> int:
    """Carry out a C-MOVE or C-GET: pending responses now and then, and the final one."""
    last = SubOperations(0)
    told = monotonic()

    def run() -> Outcome:
        nonlocal last, told
        with _closing(begin()) as stream:
            for last in stream:
                if last.remaining and monotonic() - told >= _PENDING_SECONDS:
                    told = monotonic()
                    _send_counters(session, message, Outcome(Status.PENDING), last)
        return Outcome(Status.CANCEL if last.remaining and cancelled() else last.final)

    outcome = guarded(run, Status.UNABLE_TO_PROCESS)
    _send_counters(session, message, outcome, last)
    session.counts.update(completed=last.completed, failed=last.failed, warning=last.warning)
    return outcome.status


def _send_counters(session: Session, message: Message, outcome: Outcome, counters: SubOperations) -> None:
    # Remaining only while there is a rest: pending and cancel (PS3.4 C.4.2.1.6). The list of what failed stands in
    # final responses alone (C.4.2.1.3).
    command = final(message, outcome)
    unfinished = outcome.status in {Status.PENDING, Status.CANCEL}
    command.remaining = counters.remaining if unfinished else None
    command.completed, command.failed, command.warning = counters.completed, counters.failed, counters.warning
    dataset = None
    if counters.failed_uids and outcome.status not in {Status.PENDING, Status.SUCCESS}:
        identifier = Attributes.of({"FailedSOPInstanceUIDList": counters.failed_uids})
        dataset = identifier.encode(implicit=message.context.transfer_syntax == IMPLICIT)
    session.exchange.send(message.context.id, command, dataset)


def _destination(command: Command) -> str:
    try:
        return ae_title(command.destination or "")
    except InvalidAETitle:
        raise Refused("move destination is no AE title", Status.MOVE_DESTINATION_UNKNOWN) from None


@contextmanager
def _closing(stream: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """Let a handler that is a generator clean up at once when its operation ends before it does."""
    try:
        yield stream
    finally:
        if isinstance(stream, Generator):
            stream.close()

"""What serving a request has in common at both ends of an association: outcomes, responses, data sets, C-STORE in.

A handler's :class:`~gateway.errors.GatewayError` becomes the status it carries. What no one expected is logged here,
at the root of the operation, and answered with a failure; the association goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import InvalidIdentifier
from gateway.dicom.status import Status
from gateway.dimse.command import Command, Field, response
from gateway.dimse.exchange import Exchange, Message
from gateway.dimse.pdu import ProtocolError
from gateway.dimse.ports import EventHandler, EventReport, Originator, Receiver, StoreRequest
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Lost
from gateway.errors import GatewayError, Refused
from gateway.logs import get_logger

_log = get_logger("dimse")
_T = TypeVar("_T")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class Outcome(NamedTuple):
    """How an operation ended, for its final response."""

    status: int
    comment: str | None = None
    offending: tuple[int, ...] = ()


def answer(exchange: Exchange, message: Message, outcome: Outcome) -> int:
    """Send the one response to a request; returns its status."""
    exchange.send(message.context.id, final(message, outcome))
    return outcome.status


def final(message: Message, outcome: Outcome) -> Command:
    """The command set of the response that says how the operation ended."""
    return response(message.command, outcome.status, comment=outcome.comment, offending=outcome.offending)


def guarded(run: Callable[[], Outcome], failure: int) -> Outcome:
    """Run a handler at the operation's root; what it raises becomes the outcome, ``failure`` what nobody expected."""
    return or_outcome(run, failure)


def or_outcome(run: Callable[[], _T], failure: int) -> _T | Outcome:
    """As :func:`guarded`, for what returns something else."""
    try:
        return run()
    except (Lost, ProtocolError):
        raise  # of this association: there is nobody to answer
    except InvalidIdentifier as error:
        return Outcome(Status.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, error.comment, error.offending)
    except MalformedDataset:
        return Outcome(failure, "data set cannot be read")
    except Refused as error:
        return Outcome(error.status, error.comment, error.offending)
    except GatewayError as error:
        return Outcome(error.status, error.comment)
    except Exception:  # noqa: BLE001 - the root of the operation
        _log.exception("operation failed")
        return Outcome(failure, "internal error")


def read_attributes(exchange: Exchange, message: Message) -> Attributes:
    """The data set of the message just received, empty when it has none.

    Raises:
        MalformedDataset: it cannot be read.
    """
    if not message.command.has_dataset:
        return Attributes()
    data = exchange.dataset(message)
    return Attributes.decode(data, implicit=message.context.transfer_syntax == IMPLICIT)


def require_response(message: Message, request: Command) -> int:
    """The status of a message that has to be a response to a request of ours.

    Raises:
        ProtocolError: it is not.
    """
    answer = message.command
    if (answer.field, answer.responding_to) != (request.field | 0x8000, request.message_id) or answer.status is None:
        raise ProtocolError("not a response to the request")
    return answer.status


def receive_instance(receiver: Receiver, exchange: Exchange, message: Message, caller: Caller) -> Outcome:
    """Stream one C-STORE request's data set to its receiver, and say how that ended.

    Raises:
        Lost: the association ended before the data set did; nothing of it is kept.
        ProtocolError: the peer broke the protocol; likewise.
    """
    command = message.command
    originator = None
    if command.originator_aet:
        originator = Originator(command.originator_aet, command.originator_id or 0)
    request = StoreRequest(
        command.sop_class or "",
        command.sop_instance or "",
        message.context.transfer_syntax,
        caller,
        originator,
    )
    if not command.has_dataset:
        return Outcome(Status.MISTYPED_ARGUMENT, "C-STORE request without a data set")
    if request.sop_class_uid != message.context.abstract_syntax:
        exchange.discard(message)
        return Outcome(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not the presentation context's")
    if len(request.sop_instance_uid) > 64 or not _UID.fullmatch(request.sop_instance_uid):
        exchange.discard(message)  # receivers name files after it
        return Outcome(Status.INVALID_OBJECT_INSTANCE, "Affected SOP Instance UID is no UID")
    opened = or_outcome(lambda: receiver.begin(request), Status.PROCESSING_FAILURE)
    if isinstance(opened, Outcome):
        exchange.discard(message)
        return _told(opened)
    try:
        exchange.stream(message, opened.fd)
    except OSError as error:
        opened.abort()
        _log.error("instance could not be written", errno=error.errno)
        return Outcome(Status.OUT_OF_RESOURCES, "storage failed")
    except (Lost, ProtocolError):
        opened.abort()
        raise
    return _told(guarded(lambda: Outcome(opened.commit()), Status.PROCESSING_FAILURE))


def _told(outcome: Outcome) -> Outcome:
    """The outcome of a C-STORE; a disk that fails or is full is somebody's to look after."""
    if outcome.status == Status.OUT_OF_RESOURCES:
        _log.error("instance was not stored", reason=outcome.comment)
    return outcome


def event_command(message_id: int, event: EventReport) -> Command:
    """The command set of an N-EVENT-REPORT request."""
    return Command(
        Field.N_EVENT_REPORT,
        message_id=message_id,
        sop_class=event.sop_class_uid,
        sop_instance=event.sop_instance_uid,
        event_type=event.event_type,
    )


def take_event(handler: EventHandler, exchange: Exchange, message: Message, caller: Caller) -> Outcome:
    """Hand an N-EVENT-REPORT to its handler, and say how that ended.

    Raises:
        Lost: the association ended.
        ProtocolError: the peer broke the protocol.
    """
    command = message.command

    def run() -> Outcome:
        information = read_attributes(exchange, message)
        handler(
            EventReport(command.sop_class or "", command.sop_instance or "", command.event_type or 0, information),
            caller,
        )
        return Outcome(Status.SUCCESS)

    return guarded(run, Status.PROCESSING_FAILURE)

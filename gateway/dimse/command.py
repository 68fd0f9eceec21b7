"""Command sets of DIMSE messages, encoded and decoded (PS3.7 sections 6.3, 9.3, 10.3, Annex E).

A command set is always implicit VR little endian, begins with its group length and has a handful of elements, so a
value of our own is read and written here; a pending response goes out some hundred thousand times a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from struct import Struct

from gateway.dimse.pdu import AbortReason, ProtocolError

MAX_COMMAND = 1 << 16
"""Longest command set read; the longest legal one, with an attribute list, is far below."""

NO_DATASET = 0x0101
_RESPONSE = 0x8000
_ELEMENT = Struct("<HHL")
_US = Struct("<H")
_US_ELEMENT = Struct("<HHLH")
_TAG = Struct("<HH")


class Field(IntEnum):
    """Command Field (0000,0100) of the requests (PS3.7 E.1); a response has the bit 8000H."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


@dataclass(slots=True)
class Command:
    """A command set; an absent element is ``None``.

    Attributes:
        field: Command Field with its response bit.
        sop_class: Affected or Requested SOP Class UID; which of the two follows from ``field``.
        sop_instance: Affected or Requested SOP Instance UID, likewise.
        offending: Offending Element (0000,0901).
        originator_aet: Move Originator Application Entity Title.
    """

    field: int
    message_id: int | None = None
    responding_to: int | None = None
    has_dataset: bool = False
    sop_class: str | None = None
    sop_instance: str | None = None
    priority: int | None = None
    status: int | None = None
    destination: str | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    originator_aet: str | None = None
    originator_id: int | None = None
    event_type: int | None = None
    action_type: int | None = None
    offending: tuple[int, ...] = ()
    comment: str | None = None

    @property
    def is_response(self) -> bool:
        """Whether this is a response; C-CANCEL is a request without one."""
        return bool(self.field & _RESPONSE)

    def encode(self) -> bytes:
        """The command set with its group length."""
        requested, none = self.field in _REQUESTED, b""
        parts = [
            none if self.sop_class is None else _uid(0x0003 if requested else 0x0002, self.sop_class),
            _us(0x0100, self.field),
            none if self.message_id is None else _us(0x0110, self.message_id),
            none if self.responding_to is None else _us(0x0120, self.responding_to),
            none if self.destination is None else _ae(0x0600, self.destination),
            none if self.priority is None else _us(0x0700, self.priority),
            _us(0x0800, 0x0001 if self.has_dataset else NO_DATASET),
            none if self.status is None else _us(0x0900, self.status),
            none if not self.offending else _offending(self.offending),
            none if not self.comment else _text(0x0902, self.comment),
            none if self.sop_instance is None else _uid(0x1001 if requested else 0x1000, self.sop_instance),
            none if self.event_type is None else _us(0x1002, self.event_type),
            none if self.action_type is None else _us(0x1008, self.action_type),
            none if self.remaining is None else _us(0x1020, self.remaining),
            none if self.completed is None else _us(0x1021, self.completed),
            none if self.failed is None else _us(0x1022, self.failed),
            none if self.warning is None else _us(0x1023, self.warning),
            none if self.originator_aet is None else _ae(0x1030, self.originator_aet),
            none if self.originator_id is None else _us(0x1031, self.originator_id),
        ]
        body = b"".join(parts)
        return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


_REQUESTED = frozenset({Field.N_GET, Field.N_SET, Field.N_ACTION, Field.N_DELETE})


def response(request: Command, status: int, **values: object) -> Command:
    """The response to a request, which repeats its SOP class and instance (PS3.7 9.3, 10.3)."""
    answer = Command(
        request.field | _RESPONSE,
        responding_to=request.message_id,
        sop_class=request.sop_class,
        sop_instance=request.sop_instance,
        status=status,
        event_type=request.event_type,
        action_type=request.action_type,
    )
    for name, value in values.items():
        setattr(answer, name, value)
    return answer


def plain_response(request: Command, status: int, *, has_dataset: bool = False) -> bytes:
    """The encoded response that says nothing but a status, for a request without a SOP instance.

    All but the message ID is the same for every request of a SOP class, and encoded once.
    """
    before, after = _template(request.field, request.sop_class, status, has_dataset)
    return before + _US.pack(request.message_id or 0) + after


@lru_cache(maxsize=256)
def _template(field: int, sop_class: str | None, status: int, has_dataset: bool) -> tuple[bytes, bytes]:  # noqa: FBT001
    request = Command(field, message_id=0, sop_class=sop_class)
    encoded = response(request, status, has_dataset=has_dataset).encode()
    at = encoded.index(_ELEMENT.pack(0, 0x0120, 2)) + 8
    return encoded[:at], encoded[at + 2 :]


def cancel(message_id: int) -> Command:
    """C-CANCEL of the operation that was asked for with ``message_id`` (PS3.7 9.3.2.3)."""
    return Command(Field.C_CANCEL, responding_to=message_id)


def _us(element: int, value: int) -> bytes:
    # Counters are US: 65,535 at most (PS3.7 E.1).
    return _US_ELEMENT.pack(0, element, 2, min(value, 0xFFFF))


def _raw(element: int, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _ELEMENT.pack(0, element, len(value)) + value


def _uid(element: int, value: str) -> bytes:
    return _raw(element, value.encode("ascii", "replace"), b"\0")


def _ae(element: int, value: str) -> bytes:
    return _raw(element, value.encode("ascii", "replace"), b" ")


def _text(element: int, value: str) -> bytes:
    return _raw(element, value[:64].encode("ascii", "replace"), b" ")


def _offending(tags: Iterable[int]) -> bytes:
    return _raw(0x0901, b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in tags), b"")


_NUMBERS = {
    0x0100: "field",
    0x0110: "message_id",
    0x0120: "responding_to",
    0x0700: "priority",
    0x0900: "status",
    0x1002: "event_type",
    0x1008: "action_type",
    0x1020: "remaining",
    0x1021: "completed",
    0x1022: "failed",
    0x1023: "warning",
    0x1031: "originator_id",
}
_TEXTS = {
    0x0002: "sop_class",
    0x0003: "sop_class",
    0x0600: "destination",
    0x0902: "comment",
    0x1000: "sop_instance",
    0x1001: "sop_instance",
    0x1030: "originator_aet",
}


def decode(data: bytes) -> Command:
    """Read a command set; elements without a meaning here are passed over.

    Raises:
        ProtocolError: the bytes are no command set, or it has no Command Field.
    """
    command = Command(-1)
    pos, end = 0, len(data)
    while pos < end:
        if pos + 8 > end:
            raise ProtocolError("truncated command set", AbortReason.INVALID_PARAMETER)
        group, element, length = _ELEMENT.unpack_from(data, pos)
        pos += 8
        if group or pos + length > end:
            raise ProtocolError("malformed command set", AbortReason.INVALID_PARAMETER)
        _take(command, element, data[pos : pos + length])
        pos += length
    if command.field < 0:
        raise ProtocolError("command set without Command Field", AbortReason.INVALID_PARAMETER)
    return command


def _take(command: Command, element: int, value: bytes) -> None:
    if name := _NUMBERS.get(element):
        if len(value) != 2:
            raise ProtocolError(f"(0000,{element:04X}) is not one US value", AbortReason.INVALID_PARAMETER)
        setattr(command, name, _US.unpack(value)[0])
    elif name := _TEXTS.get(element):
        # Latin-1 never fails; what is no UID or AE title is refused where it is used.
        setattr(command, name, value.decode("latin-1").strip(" \0"))
    elif element == 0x0800:
        command.has_dataset = value != b"\x01\x01"
    elif element == 0x0901 and len(value) % 4 == 0:
        halves = [_US.unpack_from(value, at)[0] for at in range(0, len(value), 2)]
        command.offending = tuple(a << 16 | b for a, b in zip(halves[::2], halves[1::2], strict=True))

"""Protocol data units as bytes, without a socket (PS3.8 section 9.3).

:class:`PduReader` is fed whatever arrived and hands out what can be said so far: a whole control PDU, or the part of
a presentation data value that is already there. Data sets are never gathered here, so memory stays constant whatever
an instance's size; :func:`cut` is the same for the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from gateway.errors import UpstreamError, UpstreamKind

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

MAX_PDU = 131072
"""Maximum length we announce (PS3.8 D.1); DCMTK's own maximum, so no peer is asked for more than it knows."""

MAX_CONTROL = 1 << 20
"""Longest A-ASSOCIATE PDU read: 128 contexts of every transfer syntax are a third of it."""

RECEIVE_BUFFER = 1 << 18

_HEADER = Struct(">BxL")
_PDV = Struct(">LBB")
_PDU_AND_PDV = Struct(">BxLLBB")
_CONTROL_LENGTHS = {ASSOCIATE_RJ: 4, RELEASE_RQ: 4, RELEASE_RP: 4, ABORT: 4}

RELEASE_REQUEST = _HEADER.pack(RELEASE_RQ, 4) + bytes(4)
RELEASE_REPLY = _HEADER.pack(RELEASE_RP, 4) + bytes(4)

Buffer = bytes | bytearray | memoryview


class AbortReason:
    """Reasons of an A-ABORT by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNISED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class ProtocolError(UpstreamError):
    """The peer broke the protocol; ``reason`` goes into our A-ABORT."""

    def __init__(self, message: str, reason: int = AbortReason.NOT_SPECIFIED) -> None:
        super().__init__(message, UpstreamKind.PROTOCOL)
        self.reason = reason


class Control(NamedTuple):
    """A whole PDU other than P-DATA-TF; ``data`` includes its header."""

    type: int
    data: bytes


class Fragment(NamedTuple):
    """A part of one message's command set or data set.

    ``data`` is a view of the reader's buffer: it holds until more bytes are received.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


def abort(reason: int | None = None) -> bytes:
    """A-ABORT: by the service user, or by the provider with a reason (PS3.8 9.3.8)."""
    source = 0 if reason is None else 2
    return _HEADER.pack(ABORT, 4) + bytes((0, 0, source, reason or 0))


def cut(context_id: int, data: Buffer, max_length: int, *, command: bool, last: bool = True) -> Iterator[Buffer]:
    """Cut data into P-DATA-TF PDUs of one PDV each: header, part, header, part ...

    Args:
        max_length: the receiver's maximum length (PS3.8 D.1), which does not count the PDU's own header.
        last: whether the data's end is the end of the command set or data set.
    """
    room = max_length - 6
    view = memoryview(data)
    flag = 1 if command else 0
    full = _PDU_AND_PDV.pack(P_DATA, room + 6, room + 2, context_id, flag)
    pos, end = 0, len(view)
    while end - pos > room:
        yield full
        yield view[pos : pos + room]
        pos += room
    size = end - pos
    yield _PDU_AND_PDV.pack(P_DATA, size + 6, size + 2, context_id, flag | (2 if last else 0))
    yield view[pos:]


def last_header(context_id: int, size: int) -> bytes:
    """The header of a PDU that holds a data set, or its last part, of ``size`` bytes."""
    return _PDU_AND_PDV.pack(P_DATA, size + 6, size + 2, context_id, 2)


def message(context_id: int, command: bytes, dataset: Buffer | None, max_length: int) -> bytes:
    """One whole small message: its command set and, where it has one, its data set."""
    if dataset is None and len(command) + 6 <= max_length:
        size = len(command)
        return _PDU_AND_PDV.pack(P_DATA, size + 6, size + 2, context_id, 3) + command
    parts: list[Iterable[Buffer]] = [cut(context_id, command, max_length, command=True)]
    if dataset is not None:
        parts.append(cut(context_id, dataset, max_length, command=False))
    return b"".join(piece for part in parts for piece in part)


class PduReader:
    """Takes bytes as they come; says what they are, piece by piece.

    Receive into :attr:`space`, tell :meth:`received` how much, then call :meth:`next` until it returns ``None``.
    """

    def __init__(self, max_length: int = MAX_PDU, capacity: int = RECEIVE_BUFFER) -> None:
        self._max_length = max_length
        self._view = memoryview(bytearray(capacity))
        self._start = 0
        self._end = 0
        self._pdu_left = 0  # of the current P-DATA-TF, bytes not yet handed out
        self._pdv_left = 0
        self._in_pdv = False
        self._context_id = 0
        self._control = 0
        self._gathered: bytearray | None = None  # a control PDU longer than what has arrived
        self._missing = 0
        self._count = 0

    @property
    def space(self) -> memoryview:
        """Where to receive the next bytes; never empty once :meth:`next` has returned ``None``."""
        return self._view[self._end :]

    @property
    def mid_pdu(self) -> bool:
        """Whether a PDU has begun and not ended: the peer owes us its rest."""
        return self._start != self._end or self._pdu_left > 0 or self._gathered is not None

    @property
    def mark(self) -> tuple[int, bool]:
        """Changes when another PDU begins, so that a deadline for each can be kept."""
        return self._count, self.mid_pdu

    def received(self, count: int) -> None:
        """``count`` bytes were put into :attr:`space`."""
        self._end += count

    def next(self) -> Control | Fragment | None:
        """The next thing the bytes say, or ``None`` when more are needed.

        Raises:
            ProtocolError: an unknown PDU type, or a length that is too long or does not add up.
        """
        while True:
            if self._gathered is not None:
                return self._gather()
            if self._in_pdv:
                return self._fragment()
            if self._pdu_left:
                if not self._begin_pdv():
                    break
                continue
            if self._end - self._start < 6:
                break
            self._begin_pdu()
        self._wait()
        return None

    def _wait(self) -> None:
        """Move the few bytes of an incomplete header to the front."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._view) - self._end < 4096:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _begin_pdu(self) -> None:
        pdu_type, length = _HEADER.unpack_from(self._view, self._start)
        self._count += 1
        if pdu_type == P_DATA:
            if length > self._max_length:
                raise ProtocolError(f"P-DATA-TF of {length} bytes", AbortReason.INVALID_PARAMETER)
            if length < 6:
                raise ProtocolError("P-DATA-TF without a value", AbortReason.INVALID_PARAMETER)
            self._start += 6
            self._pdu_left = length
            return
        if not ASSOCIATE_RQ <= pdu_type <= ABORT:
            raise ProtocolError(f"PDU type {pdu_type:#04x}", AbortReason.UNRECOGNISED_PDU)
        expected = _CONTROL_LENGTHS.get(pdu_type)
        if length > MAX_CONTROL or (expected is not None and length != expected):
            raise ProtocolError(f"PDU type {pdu_type:#04x} of {length} bytes", AbortReason.INVALID_PARAMETER)
        self._gathered, self._missing = bytearray(), length + 6

    def _gather(self) -> Control | None:
        assert self._gathered is not None
        size = min(self._missing, self._end - self._start)
        self._gathered += self._view[self._start : self._start + size]
        self._start += size
        self._missing -= size
        if self._missing:
            self._wait()
            return None
        data, self._gathered = bytes(self._gathered), None
        return Control(data[0], data)

    def _begin_pdv(self) -> bool:
        if self._end - self._start < 6:
            if self._pdu_left < 6:
                raise ProtocolError("bytes behind the last PDV", AbortReason.INVALID_PARAMETER)
            return False
        length, self._context_id, self._control = _PDV.unpack_from(self._view, self._start)
        if length < 2 or length + 4 > self._pdu_left:
            raise ProtocolError(f"PDV of {length} bytes", AbortReason.INVALID_PARAMETER)
        self._start += 6
        self._pdu_left -= 6
        self._pdv_left = length - 2
        self._in_pdv = True
        return True

    def _fragment(self) -> Fragment | None:
        size = min(self._pdv_left, self._end - self._start)
        if not size and self._pdv_left:
            self._wait()
            return None
        data = self._view[self._start : self._start + size]
        self._start += size
        self._pdv_left -= size
        self._pdu_left -= size
        self._in_pdv = self._pdv_left > 0
        is_last = bool(self._control & 2) and not self._pdv_left
        return Fragment(self._context_id, bool(self._control & 1), is_last, data)

"""The PDU reader: whatever way the bytes come, it says the same; what is no PDU ends it."""

from __future__ import annotations

from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dimse import pdu
from gateway.dimse.pdu import Control, Fragment, PduReader, ProtocolError

Whole = tuple[int, bool, bytes] | Control


def read(data: bytes, cuts: list[int], max_length: int = pdu.MAX_PDU) -> list[Whole]:
    """Feed data in pieces that end at ``cuts``; join the fragments of each PDV."""
    reader = PduReader(max_length)
    found: list[Whole] = []
    open_value = bytearray()
    bounds = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(bounds):
        pos = start
        while pos < end:
            space = reader.space
            count = min(len(space), end - pos)
            space[:count] = data[pos : pos + count]
            reader.received(count)
            pos += count
            while (piece := reader.next()) is not None:
                if isinstance(piece, Control):
                    found.append(piece)
                    continue
                open_value += piece.data
                if piece.is_last:
                    found.append((piece.context_id, piece.is_command, bytes(open_value)))
                    open_value.clear()
    assert not reader.mid_pdu
    return found


def messages() -> tuple[bytes, list[Whole]]:
    dataset = bytes(range(256)) * 5
    data = (
        pdu.message(3, b"command" * 3, dataset, 100)
        + pdu.RELEASE_REQUEST
        + pdu.message(5, b"", None, 100)
        + pdu.message(7, b"x" * 90, b"", 64)
        + pdu.abort(2)
    )
    said: list[Whole] = [
        (3, True, b"command" * 3),
        (3, False, dataset),
        Control(pdu.RELEASE_RQ, pdu.RELEASE_REQUEST),
        (5, True, b""),
        (7, True, b"x" * 90),
        (7, False, b""),
        Control(pdu.ABORT, pdu.abort(2)),
    ]
    return data, said


def test_one_byte_at_a_time_says_the_same() -> None:
    data, said = messages()
    assert read(data, []) == said
    assert read(data, list(range(1, len(data)))) == said


def test_every_boundary_says_the_same() -> None:
    data, said = messages()
    for at in range(1, len(data)):
        assert read(data, [at]) == said


def test_a_message_longer_than_the_buffer_is_handed_out_in_parts() -> None:
    dataset = bytes(3 * pdu.RECEIVE_BUFFER)
    assert read(pdu.message(1, b"c", dataset, pdu.MAX_PDU), []) == [(1, True, b"c"), (1, False, dataset)]


def test_several_values_in_one_pdu_are_read() -> None:
    values = pack(">LBB", 5, 1, 3) + b"abc" + pack(">LBB", 4, 1, 2) + b"de"
    assert read(pack(">BxL", 4, len(values)) + values, []) == [(1, True, b"abc"), (1, False, b"de")]


@given(st.binary(max_size=3000), st.integers(7, 400), st.lists(st.integers(0, 6000)))
def test_what_is_cut_is_read_again(dataset: bytes, max_length: int, cuts: list[int]) -> None:
    data = pdu.message(9, b"command", dataset, max_length)
    cuts = [at for at in cuts if at < len(data)]
    assert read(data, cuts, max_length) == [(9, True, b"command"), (9, False, dataset)]


@given(st.binary(max_size=200), st.integers(7, 400))
def test_no_pdu_is_longer_than_agreed(data: bytes, max_length: int) -> None:
    pieces = list(pdu.cut(1, data, max_length, command=False))
    assert all(len(value) + 6 <= max_length for value in pieces[1::2])
    assert b"".join(bytes(value) for value in pieces[1::2]) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x00\x00\x00\x00\x00\x04", 1),
        (b"\x08\x00\x00\x00\x00\x04", 1),
        (pack(">BxL", 4, 0xFFFFFFFF), 6),
        (pack(">BxL", 4, pdu.MAX_PDU + 1), 6),
        (pack(">BxL", 4, 5), 6),
        (pack(">BxL", 4, 0), 6),
        (pack(">BxL", 1, pdu.MAX_CONTROL + 1), 6),
        (pack(">BxL", 5, 5), 6),
        (pack(">BxL", 7, 0), 6),
        (pack(">BxLLBB", 4, 6, 1, 1, 3), 6),
        (pack(">BxLLBB", 4, 6, 3, 1, 3), 6),
        (pack(">BxLLBB", 4, 9, 2, 1, 3) + b"abc", 6),
    ],
)
def test_what_is_no_pdu_is_refused(data: bytes, reason: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(data, [])
    assert caught.value.reason == reason


@given(st.binary(max_size=500), st.lists(st.integers(0, 500)))
def test_any_bytes_are_read_or_refused(data: bytes, cuts: list[int]) -> None:
    reader = PduReader()
    bounds = [0, *sorted(at for at in cuts if at < len(data)), len(data)]
    try:
        for start, end in pairwise(bounds):
            reader.space[: end - start] = data[start:end]
            reader.received(end - start)
            while (piece := reader.next()) is not None:
                assert isinstance(piece, Control | Fragment)
            assert len(reader.space) > 0
    except ProtocolError as error:
        assert error.reason in {0, 1, 2, 4, 5, 6}  # noqa: PT017 - both ends are right

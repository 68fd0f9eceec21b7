"""Command sets, held against pydicom and pynetdicom's own encoding."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.dsutils import decode as decode_dataset

from gateway.dimse.command import Command, Field, cancel, decode, plain_response, response
from gateway.dimse.pdu import ProtocolError

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def read_by_pydicom(data: bytes) -> Dataset:
    dataset = decode_dataset(BytesIO(data), True, True)
    assert dataset.CommandGroupLength == len(data) - 12
    return dataset


def theirs(primitive: Any) -> Command:
    """What pynetdicom sends for a primitive, read by us."""
    message = dimse_messages.__dict__[f"{type(primitive).__name__}_{'RSP' if primitive.Status is not None else 'RQ'}"]()
    message.primitive_to_message(primitive)
    return decode(next(iter(message.encode_msg(1, 16384))).presentation_data_value_list[0][1][1:])


def test_a_store_request_is_what_pynetdicom_sends() -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID, primitive.Priority = 7, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(CT), UID("1.2.3")
    primitive.MoveOriginatorApplicationEntityTitle, primitive.MoveOriginatorMessageID = "MOVER", 9
    primitive.DataSet = BytesIO(b"\0\0")
    ours = Command(
        Field.C_STORE, message_id=7, sop_class=CT, sop_instance="1.2.3", priority=0, has_dataset=True,
        originator_aet="MOVER", originator_id=9,
    )  # fmt: skip
    assert decode(ours.encode()) == theirs(primitive) == ours


def test_a_find_response_is_what_pynetdicom_sends() -> None:
    primitive: Any = dimse_primitives.C_FIND()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 3, 0xA900
    primitive.AffectedSOPClassUID = UID(FIND)
    primitive.ErrorComment, primitive.OffendingElement = "what is this", [(0x0020, 0x000D)]
    request = Command(Field.C_FIND, message_id=3, sop_class=FIND)
    ours = response(request, 0xA900, comment="what is this", offending=(0x0020000D,))
    assert decode(ours.encode()) == theirs(primitive) == ours


def test_a_move_response_is_what_pynetdicom_sends() -> None:
    primitive = dimse_primitives.C_MOVE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 3, 0xFF00
    primitive.AffectedSOPClassUID = UID(FIND)
    primitive.NumberOfRemainingSuboperations, primitive.NumberOfCompletedSuboperations = 4, 3
    primitive.NumberOfFailedSuboperations, primitive.NumberOfWarningSuboperations = 2, 1
    request = Command(Field.C_MOVE, message_id=3, sop_class=FIND)
    ours = response(request, 0xFF00, remaining=4, completed=3, failed=2, warning=1)
    assert decode(ours.encode()) == theirs(primitive) == ours


def test_a_cancel_names_the_operation() -> None:
    dataset = read_by_pydicom(cancel(5).encode())
    assert (dataset.CommandField, dataset.MessageIDBeingRespondedTo) == (0x0FFF, 5)


def test_the_requested_uids_have_tags_of_their_own() -> None:
    action = Command(Field.N_ACTION, message_id=1, sop_class="1.2", sop_instance="1.2.3", action_type=1)
    dataset = read_by_pydicom(action.encode())
    assert (dataset.RequestedSOPClassUID, dataset.RequestedSOPInstanceUID, dataset.ActionTypeID) == ("1.2", "1.2.3", 1)
    answer = read_by_pydicom(response(action, 0).encode())
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == ("1.2", "1.2.3")


@pytest.mark.parametrize("has_dataset", [True, False])
@pytest.mark.parametrize("message_id", [0, 1, 0x0120, 65535])
def test_the_plain_response_is_the_encoded_one(message_id: int, has_dataset: bool) -> None:
    request = Command(Field.C_FIND, message_id=message_id, sop_class=FIND)
    whole = response(request, 0xFF00, has_dataset=has_dataset).encode()
    assert plain_response(request, 0xFF00, has_dataset=has_dataset) == whole


numbers = st.none() | st.integers(0, 0xFFFF)
uids = st.none() | st.from_regex(r"[0-9]{1,8}(\.[0-9]{1,8}){0,5}", fullmatch=True)
titles = st.none() | st.from_regex(r"[A-Z][A-Z0-9_]{0,15}", fullmatch=True)


@given(
    st.builds(
        Command,
        field=st.sampled_from([*Field, *(value | 0x8000 for value in Field)]),
        message_id=numbers,
        responding_to=numbers,
        has_dataset=st.booleans(),
        sop_class=uids,
        sop_instance=uids,
        priority=numbers,
        status=numbers,
        destination=titles,
        remaining=numbers,
        completed=numbers,
        originator_aet=titles,
        originator_id=numbers,
        offending=st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple),
        comment=st.none() | st.from_regex(r"[a-z]{1,30}", fullmatch=True),
    )
)
def test_what_is_encoded_is_decoded(command: Command) -> None:
    data = command.encode()
    assert decode(data) == command
    assert read_by_pydicom(data).CommandField == command.field


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_set_or_refused(data: bytes) -> None:
    try:
        assert decode(data).field >= 0
    except ProtocolError as error:
        assert error.reason == 6  # noqa: PT017 - both ends are right


def test_counters_stop_at_what_their_vr_holds() -> None:
    request = Command(Field.C_MOVE, message_id=1, sop_class=FIND)
    assert decode(response(request, 0, completed=70000).encode()).completed == 65535


def test_the_command_set_is_implicit_little_endian() -> None:
    assert ImplicitVRLittleEndian.is_implicit_VR  # what read_by_pydicom assumes
    assert Command(Field.C_ECHO, message_id=1).encode()[:8] == b"\0\0\0\0\4\0\0\0"

"""Data sets that are not what they should be: answered with a status, never with anything else."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commitment.messages import (
    CommitmentRequest,
    CommitmentResult,
    Reference,
    is_uid,
    read_request,
    read_result,
    write_request,
    write_result,
)
from gateway.commitment.rejection import read_note
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.errors import Refused

CT = "1.2.840.10008.5.1.4.1.1.2"
REFERENCES = tuple(Reference(CT, f"1.2.3.{i}") for i in range(3))
REQUEST = write_request(CommitmentRequest("2.25.1", REFERENCES))
RESULT = write_result(CommitmentResult("2.25.1", REFERENCES[:1], dict.fromkeys(REFERENCES[1:], 0x0112)))
CODE = Attributes.of({"SpecificCharacterSet": "ISO_IR 192", "CodeValue": "113001", "CodingSchemeDesignator": "DCM"})


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Attributes, bool] | None:
    """A data set of ours with some bytes changed, cut or put in, where it is still one."""
    implicit = draw(st.booleans())
    data = bytearray(draw(st.sampled_from([REQUEST, RESULT, CODE])).encode(implicit=implicit))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    try:
        return Attributes.decode(bytes(data), implicit=implicit), implicit
    except MalformedDataset:
        return None


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_damaged_data_sets_are_refused_or_read_as_what_they_say(found: tuple[Attributes, bool] | None) -> None:
    if found is None:
        return
    information, _ = found
    try:
        request = read_request(information)
        assert is_uid(request.transaction_uid)
        assert request.references
        assert all(is_uid(one.sop_class_uid) and is_uid(one.sop_instance_uid) for one in request.references)
    except (Refused, MalformedDataset):
        pass
    try:
        result = read_result(information)
        assert not set(result.committed) & set(result.failed)
    except (Refused, MalformedDataset):
        pass
    with contextlib.suppress(MalformedDataset):
        read_note(information)

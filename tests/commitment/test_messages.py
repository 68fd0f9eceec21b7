"""N-ACTION and N-EVENT-REPORT data sets, written by us and by pydicom."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from gateway.commitment.messages import (
    ALL_COMMITTED,
    SOME_FAILED,
    CommitmentRequest,
    CommitmentResult,
    Reason,
    Reference,
    is_uid,
    read_request,
    read_result,
    write_request,
    write_result,
)
from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.errors import Refused

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B, C = (Reference(CT, f"1.2.3.{i}") for i in range(3))


def from_pydicom(dataset: Dataset, *, implicit: bool) -> Attributes:
    raw = DicomBytesIO()
    raw.is_little_endian, raw.is_implicit_VR = True, implicit
    write_dataset(raw, dataset)
    return Attributes.decode(raw.getvalue(), implicit=implicit)


def items(*references: Reference) -> list[Dataset]:
    found = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class_uid, reference.sop_instance_uid
        found.append(item)
    return found


@pytest.mark.parametrize("implicit", [True, False])
def test_a_request_written_by_pydicom_is_read(implicit: bool) -> None:
    dataset = Dataset()
    dataset.TransactionUID = "2.25.1"
    dataset.ReferencedSOPSequence = items(A, B, A)
    assert read_request(from_pydicom(dataset, implicit=implicit)) == CommitmentRequest("2.25.1", (A, B))


@pytest.mark.parametrize("implicit", [True, False])
def test_a_result_written_by_us_is_read_by_pydicom(implicit: bool) -> None:
    result = CommitmentResult("2.25.1", (A,), {B: Reason.NO_SUCH_OBJECT_INSTANCE})
    raw = write_result(result, retrieve_aet="GATEWAY").encode(implicit=implicit)
    dataset = read_dataset(io.BytesIO(raw), is_implicit_VR=implicit, is_little_endian=True)
    assert dataset.TransactionUID == "2.25.1"
    assert dataset.RetrieveAETitle == "GATEWAY"
    assert [one.ReferencedSOPInstanceUID for one in dataset.ReferencedSOPSequence] == [A.sop_instance_uid]
    assert [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in dataset.FailedSOPSequence] == [
        (B.sop_instance_uid, 0x0112)
    ]


@pytest.mark.parametrize("implicit", [True, False])
def test_requests_and_results_survive_the_wire(implicit: bool) -> None:
    request = CommitmentRequest("2.25.1", (A, B, C))
    result = CommitmentResult("2.25.1", (A, C), {B: 0xC123})
    assert (
        read_request(Attributes.decode(write_request(request).encode(implicit=implicit), implicit=implicit)) == request
    )
    assert read_result(Attributes.decode(write_result(result).encode(implicit=implicit), implicit=implicit)) == result


def test_the_event_type_follows_the_failures() -> None:
    assert CommitmentResult("2.25.1", (A,), {}).event_type == ALL_COMMITTED
    assert CommitmentResult("2.25.1", (A,), {B: 0x0112}).event_type == SOME_FAILED


def test_empty_sequences_are_left_out() -> None:
    written = write_result(CommitmentResult("2.25.1", (A,), {}))
    assert 0x00081199 in written
    assert 0x00081198 not in written


def test_an_instance_both_committed_and_failed_is_failed() -> None:
    dataset = Dataset()
    dataset.TransactionUID = "2.25.1"
    dataset.ReferencedSOPSequence = items(A, B)
    dataset.FailedSOPSequence = items(B)
    result = read_result(from_pydicom(dataset, implicit=True))
    assert result.committed == (A,)
    assert result.failed == {B: Reason.PROCESSING_FAILURE}  # a missing reason is a failure all the same


def broken_requests() -> list[Dataset]:
    without_transaction, without_sequence, empty, bad_uid = Dataset(), Dataset(), Dataset(), Dataset()
    without_transaction.ReferencedSOPSequence = items(A)
    without_sequence.TransactionUID = "2.25.1"
    empty.TransactionUID, empty.ReferencedSOPSequence = "2.25.1", []
    bad_uid.TransactionUID = "2.25.1"
    bad_uid.ReferencedSOPSequence = items(Reference(CT, ""))
    return [without_transaction, without_sequence, empty, bad_uid]


@pytest.mark.parametrize("dataset", broken_requests())
def test_a_request_that_names_nothing_is_an_invalid_argument(dataset: Dataset) -> None:
    with pytest.raises(Refused) as refused:
        read_request(from_pydicom(dataset, implicit=False))
    assert refused.value.status == Status.INVALID_ARGUMENT_VALUE


def test_only_digits_and_dots_make_a_uid() -> None:
    assert is_uid("1.2.840")
    assert not any(map(is_uid, ["", "1..2", "../etc", "1.2 ", "1." + "2" * 63]))

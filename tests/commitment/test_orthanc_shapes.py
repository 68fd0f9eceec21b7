"""JSON as Orthanc's users send and read it."""

from __future__ import annotations

import pytest

from gateway.commitment import orthanc
from gateway.commitment.inquiries import Inquiry
from gateway.commitment.inquiry import State
from gateway.commitment.messages import Reason, Reference
from gateway.commitment.records import Decided

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")


def test_identifiers_are_grouped_sha1_of_the_dicom_identifiers() -> None:
    # echo -n '12345' | sha1sum; echo -n '12345|1.2.3' | sha1sum
    assert orthanc.identifier("12345") == "8cb2237d-0679ca88-db6464ea-c60da963-45513964"
    assert orthanc.identifier("12345", "1.2.3") == "89ec6378-dd54857e-a1581506-9ae2f179-533111e7"
    assert orthanc.is_identifier(orthanc.identifier("12345", "1.2.3", "1.2.3.4", "1.2.3.4.5"))
    assert not orthanc.is_identifier("1.2.3")


def test_instances_are_objects_or_pairs() -> None:
    body = {"DicomInstances": [{"SOPClassUID": CT, "SOPInstanceUID": "1.2.3.1"}, [CT, "1.2.3.2"]], "Resources": ["x"]}
    assert orthanc.read_ask(body) == orthanc.Ask((A, B), ("x",))


@pytest.mark.parametrize(("body", "resources"), [({"Resources": "x"}, ("x",)), (["x", "y"], ("x", "y")), ("x", ("x",))])
def test_resources_are_one_or_a_list(body: object, resources: tuple[str, ...]) -> None:
    assert orthanc.read_ask(body).resources == resources


@pytest.mark.parametrize(
    "body",
    [
        {},
        17,
        {"DicomInstances": {}},
        {"DicomInstances": [["1.2"]]},
        {"DicomInstances": [{"SOPClassUID": CT}]},
        {"DicomInstances": [[CT, "../../etc"]]},
        {"Resources": [1]},
        {"Resources": [""]},
        {"Resources": ["x"], "Timeout": "soon"},
    ],
)
def test_other_bodies_are_bad_requests(body: object) -> None:
    with pytest.raises(orthanc.BadRequest):
        orthanc.read_ask(body)


def inquiry(state: State, note: str = "") -> Inquiry:
    return Inquiry("2.25.1", "vna", "VNA", state, 1.0, 2.0, 3.0, note, 2)


def test_a_pending_report_has_no_instances() -> None:
    for state in (State.REQUESTING, State.PENDING):
        assert orthanc.report(inquiry(state), [Decided(A, None)]) == {
            "RemoteAET": "VNA",
            "Status": "Pending",
            "State": state.value,
        }


def test_a_report_lists_success_and_failures() -> None:
    found = orthanc.report(inquiry(State.FAILURE), [Decided(A, 0), Decided(B, Reason.NO_SUCH_OBJECT_INSTANCE)])
    assert found["Status"] == "Failure"
    assert found["Success"] == [{"SOPClassUID": CT, "SOPInstanceUID": "1.2.3.1"}]
    assert found["Failures"] == [
        {
            "SOPClassUID": CT,
            "SOPInstanceUID": "1.2.3.2",
            "FailureReason": 274,
            "Description": "One or more of the elements in the Referenced SOP Instance Sequence was not available",
        }
    ]


def test_what_expired_has_failed_and_says_so() -> None:
    found = orthanc.report(inquiry(State.EXPIRED, "no report in time"), [Decided(A, None)])
    assert (found["Status"], found["State"], found["Note"]) == ("Failure", "expired", "no report in time")
    assert found["Failures"] == [
        {
            "SOPClassUID": CT,
            "SOPInstanceUID": "1.2.3.1",
            "FailureReason": 272,
            "Description": "A general failure in processing the operation was encountered",
        }
    ]


def test_every_reason_of_the_standard_is_described() -> None:
    assert set(orthanc.DESCRIPTIONS) == {0, *Reason}

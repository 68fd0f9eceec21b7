"""Storage commitment as Orthanc's REST users know it: identifiers, JSON bodies, JSON answers. Pure.

Orthanc names a resource by the SHA-1 of its DICOM identifiers joined by ``|``, written as five groups of eight
hexadecimal digits: the Patient ID for a patient, with the Study Instance UID for a study, and so on down. The shapes
here are those of Orthanc 1.10, held against the real one by tests; what we have more to say goes into keys of our own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.commitment.inquiries import Inquiry
from gateway.commitment.inquiry import State
from gateway.commitment.messages import Reason, Reference, is_uid
from gateway.commitment.records import Decided

_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")

DESCRIPTIONS = {
    0: "Success",
    Reason.PROCESSING_FAILURE: "A general failure in processing the operation was encountered",
    Reason.NO_SUCH_OBJECT_INSTANCE: "One or more of the elements in the Referenced SOP Instance Sequence was not"
    " available",
    Reason.RESOURCE_LIMITATION: "The SCP does not currently have enough resources to store the requested SOP"
    " Instance(s)",
    Reason.SOP_CLASS_NOT_SUPPORTED: "Storage Commitment has been requested for a SOP Instance with a SOP Class that is"
    " not supported by the SCP",
    Reason.CLASS_INSTANCE_CONFLICT: "The SOP Class of an element in the Referenced SOP Instance Sequence did not"
    " correspond to the SOP class registered for this SOP Instance at the SCP",
    Reason.DUPLICATE_TRANSACTION_UID: "The Transaction UID of the Storage Commitment Request is already in use",
}
"""Descriptions of failure reasons (PS3.3 C.14.1.1) by value."""


class BadRequest(ValueError):
    """A JSON body that is not what the route takes."""


def identifier(patient_id: str, study_uid: str = "", series_uid: str = "", sop_instance_uid: str = "") -> str:
    """Orthanc's name of the lowest resource given."""
    parts = [patient_id, study_uid, series_uid, sop_instance_uid]
    while not parts[-1] and len(parts) > 1:
        parts.pop()
    digest = hashlib.sha1("|".join(parts).encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


def is_identifier(text: str) -> bool:
    """Whether a text is one of Orthanc's names."""
    return _IDENTIFIER.fullmatch(text) is not None


@dataclass(frozen=True)
class Ask:
    """The body of ``POST /modalities/{peer}/storage-commitment``.

    Attributes:
        references: instances named by class and instance UID, whether they are here or not.
        resources: DICOM UIDs, Patient IDs or Orthanc identifiers of what is here.
        timeout: seconds for the request to be answered; ``None``, or 0 in the body, for the configured ones.
    """

    references: tuple[Reference, ...]
    resources: tuple[str, ...]
    timeout: float | None = None


def read_ask(body: object) -> Ask:
    """Read the body of a commitment request.

    A bare list of resources, as some clients send it to ``/store``, is taken as well.

    Raises:
        BadRequest: it is of another shape.
    """
    if isinstance(body, str | list):
        body = {"Resources": body}
    if not isinstance(body, dict):
        raise BadRequest("an object with DicomInstances or Resources is expected")
    if "DicomInstances" not in body and "Resources" not in body:
        raise BadRequest('one of the fields "DicomInstances" and "Resources" is mandatory')
    listed = body.get("DicomInstances", [])
    if not isinstance(listed, list):
        raise BadRequest("DicomInstances is a list")
    timeout = body.get("Timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout < 0):
        raise BadRequest("Timeout is a number of seconds")
    return Ask(tuple(_reference(one) for one in listed), read_resources(body), timeout or None)


def read_resources(body: dict[str, object]) -> tuple[str, ...]:
    """The ``Resources`` of a body: one, or a list.

    Raises:
        BadRequest: they are no strings.
    """
    found = body.get("Resources", [])
    resources = [found] if isinstance(found, str) else found
    if not isinstance(resources, list) or not all(isinstance(one, str) and one for one in resources):
        raise BadRequest("Resources is a list of identifiers")
    return tuple(resources)


def _reference(entry: object) -> Reference:
    match entry:
        case {"SOPClassUID": str(sop_class), "SOPInstanceUID": str(instance)}:
            reference = Reference(sop_class, instance)
        case [str(sop_class), str(instance)]:
            reference = Reference(sop_class, instance)
        case _:
            raise BadRequest("an entry of DicomInstances has SOPClassUID and SOPInstanceUID, or is a pair of them")
    if not (is_uid(reference.sop_class_uid) and is_uid(reference.sop_instance_uid)):
        raise BadRequest("an entry of DicomInstances is no pair of UIDs")
    return reference


def started(transaction_uid: str) -> dict[str, str]:
    """The answer to a commitment request."""
    return {"ID": transaction_uid, "Path": f"/storage-commitment/{transaction_uid}"}


_STATUS = {State.REQUESTING: "Pending", State.PENDING: "Pending", State.SUCCESS: "Success"}


def report(inquiry: Inquiry, instances: Sequence[Decided]) -> dict[str, object]:
    """The answer of ``GET /storage-commitment/{id}``.

    An inquiry that was refused or expired is a Failure of all its instances; the key ``State`` tells which.
    """
    status = _STATUS.get(inquiry.state, "Failure")
    answer: dict[str, object] = {"RemoteAET": inquiry.aet, "Status": status, "State": inquiry.state.value}
    if inquiry.note:
        answer["Note"] = inquiry.note
    if status == "Pending":
        return answer
    answer["Success"] = [_named(one.reference) for one in instances if one.reason == 0]
    answer["Failures"] = [
        {**_named(one.reference), "FailureReason": reason, "Description": describe(reason)}
        for one in instances
        if (reason := Reason.PROCESSING_FAILURE.value if one.reason is None else one.reason)
    ]
    return answer


def _named(reference: Reference) -> dict[str, object]:
    return {"SOPClassUID": reference.sop_class_uid, "SOPInstanceUID": reference.sop_instance_uid}


def describe(reason: int) -> str:
    """A Failure Reason in words; 0 is success."""
    return DESCRIPTIONS.get(reason, "Unknown failure reason")

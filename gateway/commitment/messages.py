"""What N-ACTION and N-EVENT-REPORT of the Storage Commitment Push Model carry (PS3.4 J.3.2, J.3.3).

A request names instances under a Transaction UID; a result names each of them once, as committed or as failed with a
reason. Both are read from, and written to, :class:`~gateway.dicom.attributes.Attributes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from gateway.dicom import encoding
from gateway.dicom.attributes import Attributes, element_of
from gateway.dicom.encoding import Element
from gateway.dicom.status import Status
from gateway.errors import Refused

PUSH_MODEL = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance that all its requests and reports are about (PS3.4 J.3.5)."""

REQUEST_COMMITMENT = 1
"""Action Type ID of the request (PS3.4 table J.3-1)."""

ALL_COMMITTED = 1
SOME_FAILED = 2
"""Event Type IDs of the report (PS3.4 table J.3-2)."""

RetrieveAETitle = 0x00080054
ReferencedSOPClassUID = 0x00081150
ReferencedSOPInstanceUID = 0x00081155
TransactionUID = 0x00081195
FailureReason = 0x00081197
FailedSOPSequence = 0x00081198
ReferencedSOPSequence = 0x00081199

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class Reason(IntEnum):
    """Why an instance was not committed: the values of Failure Reason (0008,1197) (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance a request or a result speaks of."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentRequest:
    """The action information of an N-ACTION request.

    Attributes:
        references: each once, in the order of the request; never empty.
    """

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class CommitmentResult:
    """The event information of an N-EVENT-REPORT.

    Attributes:
        failed: by instance, the Failure Reason as the peer gave it; a value outside :class:`Reason` is kept.
    """

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int]

    @property
    def event_type(self) -> int:
        """The Event Type ID that goes with this result."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


def is_uid(text: str) -> bool:
    """Whether a text is a UID: digits and dots, 1 to 64 characters (PS3.5 9.1)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def read_request(information: Attributes) -> CommitmentRequest:
    """The request in a peer's action information.

    Raises:
        Refused: 0115H, the Transaction UID or the Referenced SOP Sequence is missing or is not one.
    """
    references = tuple(dict.fromkeys(_references(information, ReferencedSOPSequence)))
    if not references:
        raise _invalid("no Referenced SOP Sequence", ReferencedSOPSequence)
    return CommitmentRequest(_transaction(information), references)


def write_request(request: CommitmentRequest) -> Attributes:
    """The action information of a request."""
    return Attributes(
        {
            TransactionUID: element_of(TransactionUID, request.transaction_uid, ()),
            ReferencedSOPSequence: _sequence(_item(one) for one in request.references),
        }
    )


def read_result(information: Attributes) -> CommitmentResult:
    """The result in a peer's event information.

    The sequences decide, not the Event Type ID; an instance in both is failed, for a promise is not to be guessed.

    Raises:
        Refused: 0115H, the Transaction UID is missing, or an item names no instance.
    """
    failed: dict[Reference, int] = {}
    for item, reference in zip(
        information.sequence(FailedSOPSequence), _references(information, FailedSOPSequence), strict=True
    ):
        numbers = item.numbers(FailureReason)
        failed[reference] = int(numbers[0]) if numbers else Reason.PROCESSING_FAILURE
    committed = dict.fromkeys(_references(information, ReferencedSOPSequence))
    return CommitmentResult(_transaction(information), tuple(one for one in committed if one not in failed), failed)


def write_result(result: CommitmentResult, *, retrieve_aet: str = "") -> Attributes:
    """The event information of a result; an empty sequence is left out (PS3.4 table J.3-2)."""
    elements = {TransactionUID: element_of(TransactionUID, result.transaction_uid, ())}
    if retrieve_aet and result.committed:
        elements[RetrieveAETitle] = element_of(RetrieveAETitle, retrieve_aet, ())
    if result.failed:
        elements[FailedSOPSequence] = _sequence(_item(one, reason) for one, reason in result.failed.items())
    if result.committed:
        elements[ReferencedSOPSequence] = _sequence(_item(one) for one in result.committed)
    return Attributes(elements)


def _transaction(information: Attributes) -> str:
    uid = information.text(TransactionUID)
    if not is_uid(uid):
        raise _invalid("no Transaction UID", TransactionUID)
    return uid


def _references(information: Attributes, sequence: int) -> list[Reference]:
    found: list[Reference] = []
    for item in information.sequence(sequence):
        reference = Reference(item.text(ReferencedSOPClassUID), item.text(ReferencedSOPInstanceUID))
        if not (is_uid(reference.sop_class_uid) and is_uid(reference.sop_instance_uid)):
            raise _invalid("an item without a SOP Class or SOP Instance UID", sequence)
        found.append(reference)
    return found


def _item(reference: Reference, reason: int | None = None) -> bytes:
    elements = {
        ReferencedSOPClassUID: element_of(ReferencedSOPClassUID, reference.sop_class_uid, ()),
        ReferencedSOPInstanceUID: element_of(ReferencedSOPInstanceUID, reference.sop_instance_uid, ()),
    }
    if reason is not None:
        elements[FailureReason] = element_of(FailureReason, str(reason), ())
    return encoding.item(Attributes(elements).encode(implicit=False))


def _sequence(items: Iterable[bytes]) -> Element:
    return Element("SQ", b"".join(items))


def _invalid(message: str, offending: int) -> Refused:
    return Refused(message, Status.INVALID_ARGUMENT_VALUE, offending=(offending,))

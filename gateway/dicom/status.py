"""Status codes of DIMSE responses by service (PS3.7 Annex C, PS3.4)."""

from __future__ import annotations

from enum import Enum, IntEnum


class Status(IntEnum):
    """A status this gateway sends or gives a meaning to; other values of a class are classified by :func:`kind`."""

    SUCCESS = 0x0000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_UNSUPPORTED_KEYS = 0xFF01
    """C-FIND: an optional key was not supported for matching (PS3.4 C.4.1.1.4)."""

    OUT_OF_RESOURCES = 0xA700
    UNABLE_TO_CALCULATE_MATCHES = 0xA701
    UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    DATASET_DOES_NOT_MATCH_SOP_CLASS = 0xA900  # the same value in the Storage Service (PS3.4 B.2.3)
    SUBOPERATIONS_COMPLETE_WITH_FAILURES = 0xB000
    UNABLE_TO_PROCESS = 0xC001
    CANNOT_UNDERSTAND = 0xC000

    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORISED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNISED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    DUPLICATE_TRANSACTION_UID = 0x0131


class Kind(Enum):
    """The five classes of status (PS3.7 Annex C)."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


def kind(status: int) -> Kind:
    """The class of any status value; what is none of the others is a failure."""
    if status == Status.SUCCESS:
        return Kind.SUCCESS
    if status in {Status.PENDING, Status.PENDING_UNSUPPORTED_KEYS}:
        return Kind.PENDING
    if status == Status.CANCEL:
        return Kind.CANCEL
    if status & 0xF000 == 0xB000 or status in {0x0001, 0x0107, 0x0116}:
        return Kind.WARNING
    return Kind.FAILURE

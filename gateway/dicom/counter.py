"""Counting C-STORE sub-operations of a C-MOVE or C-GET (PS3.4 C.4.2.1, C.4.3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.dicom.status import Kind, Status, kind


@dataclass
class SubOperations:
    """Counters of one retrieve and the final status that follows from them.

    Attributes:
        remaining: sub-operations not yet begun or not yet answered.
        failed_uids: SOP Instance UIDs for Failed SOP Instance UID List (0008,0058).
    """

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, sop_instance_uid: str, status: int) -> None:
        """Count one sub-operation by the status its C-STORE ended with."""
        self.remaining -= 1
        match kind(status):
            case Kind.SUCCESS:
                self.completed += 1
            case Kind.WARNING:
                self.warning += 1
            case _:
                self.failed += 1
                self.failed_uids.append(sop_instance_uid)

    @property
    def final(self) -> Status:
        """The status of the final response when the retrieve was neither cancelled nor refused.

        Nothing to send is Success with zero counters; nothing that could be sent is A702H.
        """
        if self.failed == 0 and self.warning == 0:
            return Status.SUCCESS
        if self.completed == 0 and self.warning == 0:
            return Status.UNABLE_TO_PERFORM_SUBOPERATIONS
        return Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES

"""Storage commitment and rejection notes."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from pydantic import Field

from gateway.config.models.section import Section
from gateway.config.types import ConfigPath, Count, Duration


class Verify(Enum):
    """How closely an instance is looked at before it is committed."""

    EXISTENCE = "existence"
    SIZE = "size"
    CHECKSUM = "checksum"


class CommitmentRetry(Section):
    """How long a report that nobody answers is repeated."""

    first: Duration = timedelta(seconds=5)
    """Pause after the first attempt; doubled after each further one."""
    longest: Duration = timedelta(hours=1)
    """The longest pause."""
    attempts: Annotated[Count, Field(ge=1)] = 40
    """Attempts in all; then the job is abandoned until it is resumed by hand."""


class Commitment(Section):
    """Storage commitment, asked of us and asked by us."""

    ledger: ConfigPath | None = None
    """Its file; without this key ``commitment.sqlite`` in the folder of the index."""
    verify: Verify = Verify.SIZE
    """``existence`` of the file, its ``size``, or its ``checksum`` too, which reads every file."""
    count_leading: bool = False
    """Whether instances that only a leading archive has are committed."""
    decision: str = ""
    """Name of an entry point in ``dicom_gateway.commitment`` that decides instead."""
    retry: CommitmentRetry = CommitmentRetry()
    timeout: Duration = timedelta(days=1)
    """How long a report to us is awaited."""
    linger: Duration = timedelta(seconds=10)
    """How long the association of our request is kept open for peers that report on it."""
    max_transactions: Annotated[Count, Field(ge=1)] = 10_000
    """Kept in each direction; the oldest ended ones are forgotten first."""
    max_age: Duration = timedelta(days=30)
    """After which an ended transaction is forgotten."""
    max_instances: Annotated[Count, Field(ge=1)] = 100_000
    """In one transaction; more are refused."""


class RejectionAction(Enum):
    """What a rejection note does to the instances it names."""

    IGNORE = "ignore"
    HIDE = "hide"
    DELETE = "delete"


class OnResend(Enum):
    """What happens when a rejected instance is stored again."""

    RESTORE = "restore"
    REFUSE = "refuse"
    IGNORE = "ignore"


class Rejection(Section):
    """Rejection notes of IHE IOCM, from peers with the permission ``delete``.

    ``ignore`` stores the note and nothing else, ``hide`` takes the instances out of every answer, ``delete`` removes
    their files, too.
    """

    quality: RejectionAction = RejectionAction.HIDE
    """Rejected for Quality Reasons (113001)."""
    patient_safety: RejectionAction = RejectionAction.HIDE
    """Rejected for Patient Safety Reasons (113037)."""
    worklist: RejectionAction = RejectionAction.HIDE
    """Incorrect Modality Worklist Entry (113038)."""
    retention: RejectionAction = RejectionAction.DELETE
    """Data Retention Policy Expired (113039)."""
    keep_notes: bool = True
    """Whether the notes themselves are stored as documents of their studies."""
    on_resend: OnResend = OnResend.RESTORE
    """A rejected instance that is stored again: ``restore`` or ``refuse`` it (0124H), or ``ignore`` it with Success."""

"""Whether an instance is really there: the decision behind a commitment, and how to replace it.

By default an instance is committed when the archive's index has it under the SOP class asked for, its file is there,
and, by the level of verification, its size and its digest are what they were when it was stored. An index is not
believed by itself: what is gone from the disk is not committed.

Another package may replace the decision with an entry point of the group ``dicom_gateway.commitment``. It names a
:data:`DeciderFactory`: a callable that takes the default decider and returns another one, which may ask the default
first, or not at all::

    [project.entry-points."dicom_gateway.commitment"]
    pathology = "acme_gateway:decider"

    def decider(default: Decider) -> Decider:
        return lambda references, requester: (
            reason or (0 if on_tape(reference) else Reason.RESOURCE_LIMITATION)
            for reference, reason in zip(references, default(references, requester))
        )
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from gateway.commitment.messages import Reason, Reference
from gateway.dicom.caller import Caller
from gateway.errors import ConfigError, GatewayError
from gateway.logs import get_logger

ENTRY_POINTS = "dicom_gateway.commitment"
"""The group of entry points that replace the decision."""

_PAGE = 500
_log = get_logger("commitment")


class Decider(Protocol):
    """Decides what we take responsibility for."""

    def __call__(self, references: Sequence[Reference], requester: Caller) -> Iterator[int]:
        """Yield for each reference, in order, 0 to commit it, else a Failure Reason (PS3.3 C.14.1.1).

        It is drawn from as needed: a job that is cancelled meanwhile is not decided to its end. An error it raises ends
        the attempt; the job is decided again later.
        """


DeciderFactory = Callable[[Decider], Decider]
"""What an entry point names: makes a decider out of the default one."""


class Verify(Enum):
    """How closely the file of an instance is looked at."""

    EXISTENCE = "existence"
    """It is a file that can be opened."""
    SIZE = "size"
    """It has the size it was stored with."""
    CHECKSUM = "checksum"
    """Its bytes have the digest they were stored with; the whole file is read."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the archive's index says of an instance.

    Attributes:
        size: of the file in bytes.
        digest: SHA-256 of the file in hexadecimal; empty where none was recorded.
    """

    sop_class_uid: str
    path: str
    size: int
    digest: str = ""


class Holdings(Protocol):
    """The archive's index."""

    def __call__(self, sop_instance_uids: Sequence[str]) -> Mapping[str, Holding]:
        """What the index has of these instances, by SOP Instance UID.

        Raises:
            StorageError: the index cannot be read.
        """


class Elsewhere(Protocol):
    """The leading archive, where its holdings count as ours."""

    def __call__(self, sop_instance_uids: Sequence[str], requester: Caller) -> Mapping[str, str]:
        """The SOP Class UIDs of the instances it has, by SOP Instance UID.

        Raises:
            UpstreamError: it could not tell.
        """


class ArchiveDecider:
    """Commits what the archive really holds.

    Args:
        elsewhere: asked for what the index does not have; ``None`` counts only what is here.
    """

    def __init__(self, holdings: Holdings, verify: Verify, elsewhere: Elsewhere | None = None) -> None:
        self._holdings = holdings
        self._verify = verify
        self._elsewhere = elsewhere

    def __call__(self, references: Sequence[Reference], requester: Caller) -> Iterator[int]:
        """Decide as :class:`Decider` says, a page of look-ups at a time."""
        for start in range(0, len(references), _PAGE):
            page = references[start : start + _PAGE]
            found = self._holdings([one.sop_instance_uid for one in page])
            missing = [one.sop_instance_uid for one in page if one.sop_instance_uid not in found]
            remote = self._remote(missing, requester)
            for one in page:
                holding = found.get(one.sop_instance_uid)
                if holding is None:
                    yield self._far(one, remote)
                else:
                    yield self._near(one, holding)

    def _near(self, reference: Reference, holding: Holding) -> int:
        if holding.sop_class_uid != reference.sop_class_uid:
            return Reason.CLASS_INSTANCE_CONFLICT
        problem = damage(holding, self._verify)
        if problem:
            _log.error("an indexed instance cannot be committed", sop_instance=reference.sop_instance_uid, why=problem)
            return Reason.NO_SUCH_OBJECT_INSTANCE if problem == "missing" else Reason.PROCESSING_FAILURE
        return 0

    def _far(self, reference: Reference, remote: Mapping[str, str] | None) -> int:
        if remote is None:
            return Reason.PROCESSING_FAILURE
        found = remote.get(reference.sop_instance_uid)
        if found is None:
            return Reason.NO_SUCH_OBJECT_INSTANCE
        return 0 if found == reference.sop_class_uid else Reason.CLASS_INSTANCE_CONFLICT

    def _remote(self, uids: Sequence[str], requester: Caller) -> Mapping[str, str] | None:
        """What the leading archive has of them; ``None`` when it could not tell."""
        if self._elsewhere is None or not uids:
            return {}
        try:
            return self._elsewhere(uids, requester)
        except GatewayError as error:
            _log.warning("the leading archive could not be asked for instances to commit", error=error.message)
            return None


def damage(holding: Holding, verify: Verify) -> str:
    """What is wrong with an instance's file: ``missing``, ``unreadable``, ``size``, ``digest``, or empty."""
    try:
        with Path(holding.path).open("rb", buffering=0) as file:
            if verify is not Verify.EXISTENCE and file.seek(0, 2) != holding.size:
                return "size"
            if verify is Verify.CHECKSUM and holding.digest:
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != holding.digest:
                    return "digest"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return ""


def load_decider(name: str, default: Decider) -> Decider:
    """The decider of the entry point of that name; an empty name is the default.

    Raises:
        ConfigError: there is no such entry point, or it cannot be loaded.
    """
    if not name:
        return default
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        known = ", ".join(sorted(entry_points(group=ENTRY_POINTS).names)) or "none"
        raise ConfigError([f"commitment.decision: no entry point {name!r} in {ENTRY_POINTS} (installed: {known})"])
    try:
        factory: DeciderFactory = next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"commitment.decision: entry point {name!r} cannot be loaded: {error}"]) from error
    return factory(default)

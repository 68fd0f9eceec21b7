"""Whether an instance is really there: the decision behind a commitment, and how to replace it.

By default an instance is committed when the archive's index has it under the SOP class asked for, its file is there,
and, by the level of verification, its size is the index's and its bytes still have the digest they had when they were
first read for a commitment. An index is not believed by itself: what is gone from the disk is not committed.

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
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from gateway.commitment.digests import Digest, DigestLedger
from gateway.commitment.messages import Reason, Reference
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
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
    """It has the size that the index knows."""
    CHECKSUM = "checksum"
    """The whole file is read, and has the digest of the first time it was read for a commitment."""


class Damage(Enum):
    """What can be wrong with an instance's file."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    SIZE = "size"
    DIGEST = "digest"


class Holdings(Protocol):
    """The archive's index."""

    def __call__(self, *, sop_uids: Sequence[str]) -> Sequence[StoredInstance]:
        """What the index has of these instances.

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
        digests: for :attr:`Verify.CHECKSUM`; without them files are read, but compared with nothing.
        elsewhere: asked for what the index does not have; ``None`` counts only what is here.
    """

    def __init__(
        self,
        holdings: Holdings,
        verify: Verify,
        *,
        digests: DigestLedger | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._holdings = holdings
        self._verify = verify
        self._digests = digests
        self._elsewhere = elsewhere

    def __call__(self, references: Sequence[Reference], requester: Caller) -> Iterator[int]:
        """Decide as :class:`Decider` says, a page of look-ups at a time."""
        for start in range(0, len(references), _PAGE):
            yield from self._page(references[start : start + _PAGE], requester)

    def _page(self, page: Sequence[Reference], requester: Caller) -> Iterator[int]:
        uids = [one.sop_instance_uid for one in page]
        found = {one.sop_instance_uid: one for one in self._holdings(sop_uids=uids)}
        remote = self._remote([uid for uid in uids if uid not in found], requester)
        known = self._digests.known(uids) if self._digests and self._verify is Verify.CHECKSUM else {}
        new: dict[str, Digest] = {}
        for one in page:
            instance = found.get(one.sop_instance_uid)
            yield self._far(one, remote) if instance is None else self._near(one, instance, known, new)
        if self._digests and new:
            self._digests.remember(new)

    def _near(
        self, reference: Reference, instance: StoredInstance, known: Mapping[str, Digest], new: dict[str, Digest]
    ) -> int:
        if instance.sop_class_uid != reference.sop_class_uid:
            return Reason.CLASS_INSTANCE_CONFLICT
        uid = reference.sop_instance_uid
        damage, digest = examine(instance, self._verify, known.get(uid))
        if digest is not None:
            new[uid] = digest
        if not damage:
            return 0
        _log.error("an indexed instance cannot be committed", sop_instance_uid=uid, damage=damage.value)
        return Reason.NO_SUCH_OBJECT_INSTANCE if damage is Damage.MISSING else Reason.PROCESSING_FAILURE

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
            _log.warning("the leading archive could not be asked for instances to commit", error=error)
            return None


def examine(
    instance: StoredInstance, verify: Verify, known: Digest | None = None
) -> tuple[Damage | None, Digest | None]:
    """Look at an instance's file.

    Args:
        known: the digest to compare with; one of a file that was replaced since counts as none.

    Returns:
        What is wrong with it, and a digest that was not known before.
    """
    try:
        with Path(instance.path).open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if verify is not Verify.EXISTENCE and status.st_size != instance.size:
                return Damage.SIZE, None
            if verify is not Verify.CHECKSUM:
                return None, None
            found = Digest(
                f"{status.st_ino} {status.st_size} {status.st_mtime_ns}",
                hashlib.file_digest(file, "sha256").hexdigest(),
            )
    except FileNotFoundError:
        return Damage.MISSING, None
    except OSError:
        return Damage.UNREADABLE, None
    if known is None or known.file != found.file:
        return None, found
    return (None if known.sha256 == found.sha256 else Damage.DIGEST), None


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

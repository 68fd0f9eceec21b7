"""Old instances out, new ones in: by the archive's own verbs, so its promises hold here as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.rewrite import write_dataset
from gateway.coercion.rules import Where
from gateway.dicom.caller import Caller
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.dimse.ports import Incoming, StoreRequest
from gateway.errors import StorageError
from gateway.reconcile.difference import RULES, StudyDifference
from gateway.reconcile.staging import Staging, leftovers, stage


class Archive(Protocol):
    """What is asked of the local archive."""

    def instances(self, *, study_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()) -> list[StoredInstance]:
        """The stored instances."""

    def delete(self, level: Level, uid: str, *, reason: str) -> object:
        """Hide an entity at once."""

    def purge(self) -> int:
        """Take out what has no instances left."""

    def begin(self, request: StoreRequest) -> Incoming:
        """Take an instance in."""


class Reconciler:
    """Writes the leading archive's attributes into stored files and, with them, into the index.

    Args:
        staging: folder on the archive's disk, outside the file-set.
        aet: our AE title, which Original Attributes Sequence names as the modifying system.
    """

    def __init__(self, archive: Archive, staging: Path, aet: str) -> None:
        self._archive = archive
        self._staging = staging
        self._aet = aet

    def resume(self, progress: Callable[[], None] = lambda: None) -> int:
        """Carry out what an earlier run had staged completely; how many studies there were.

        Raises:
            StorageError: the disk or the index refuses.
        """
        found = list(leftovers(self._staging))
        for staging in found:
            self._swap(staging)
            progress()
        return len(found)

    def reconcile(self, difference: StudyDifference) -> int:
        """Bring one study in line; how many instances were rewritten.

        Raises:
            BadInstance: an instance cannot be read; the study is as it was.
            StorageError: the disk or the index refuses; :meth:`resume` ends what was begun.
        """
        context = Context(sending=self._aet, receiving=self._aet, system=self._aet, leading=difference.leading)
        made = plan(RULES, Where.RECEIVED, context)
        uid = difference.study_instance_uid
        staging = stage(self._staging, uid, self._archive.instances(study_uids=[uid]), made.apply_to_instance)
        if not all(one.is_current() for one in staging.instances):
            staging.drop()
            raise StorageError("the study changed meanwhile; it is as it was", hint="run it again")
        self._swap(staging)
        return len(staging.instances)

    def _swap(self, staging: Staging) -> None:
        """Each step may be repeated: deleting what is gone, storing what is stored, are no failures."""
        for one in staging.instances:
            self._archive.delete(Level.IMAGE, one.sop_instance_uid, reason="reconcile")
        self._archive.purge()
        for one in staging.instances:
            path = staging.folder / one.file
            self._store(
                Outgoing(
                    one.sop_class_uid,
                    one.sop_instance_uid,
                    one.transfer_syntax_uid,
                    b"",
                    str(path),
                    one.dataset_offset,
                    path.stat().st_size - one.dataset_offset,
                )
            )
        staging.drop()

    def _store(self, outgoing: Outgoing) -> None:
        uids = outgoing.sop_class_uid, outgoing.sop_instance_uid, outgoing.transfer_syntax_uid
        incoming = self._archive.begin(StoreRequest(*uids, Caller(self._aet)))
        try:
            write_dataset(outgoing, incoming.fd)
        except BaseException:
            incoming.abort()
            raise
        if incoming.commit() != Status.SUCCESS:
            raise StorageError("the archive did not take a changed instance back")

"""A study's files, and with them the index, brought in line with what the leading archive says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.rules import Where
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.reconcile.difference import RULES, StudyDifference


class Archive(Protocol):
    """What is asked of the local archive."""

    def exchange(self, study_uid: str, change: Callable[[StoredInstance], Outgoing]) -> int:
        """Put changed files in the place of a study's, all at once."""


class Reconciler:
    """Writes the leading archive's attributes into stored files and, with them, into the index.

    Args:
        aet: our AE title, which Original Attributes Sequence names as the modifying system.
    """

    def __init__(self, archive: Archive, aet: str) -> None:
        self._archive = archive
        self._aet = aet

    def reconcile(self, difference: StudyDifference) -> int:
        """Bring one study in line; how many instances were rewritten.

        Raises:
            BadInstance: an instance cannot be read; the study is as it was.
            StorageError: the disk or the index refuses, or the study changed meanwhile; it is as it was.
        """
        context = Context(sending=self._aet, receiving=self._aet, system=self._aet, leading=difference.leading)
        made = plan(RULES, Where.RECEIVED, context)
        return self._archive.exchange(difference.study_instance_uid, made.apply_to_instance)

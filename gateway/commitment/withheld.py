"""Rejected instances that a leading archive still offers: left out of its answers at IMAGE level.

So neither a query nor a retrieve gets them from there, and what is not asked for is not taken when it comes with the
rest of its series. Counts and higher levels are the leading archive's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.commitment.notes import RejectionLedger
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.models import Level
from gateway.query.ports import Evidence, Leading, Request


class WithholdingLeading:
    """A leading archive without what was rejected here."""

    def __init__(self, inner: Leading, rejected: RejectionLedger) -> None:
        self._inner = inner
        self._rejected = rejected

    def find(self, request: Request) -> Iterator[Attributes]:
        """As :class:`~gateway.query.ports.Leading` says."""
        for batch in self.batches(request):
            yield from batch

    def batches(self, request: Request) -> Iterator[Sequence[Attributes]]:
        """As :class:`~gateway.query.ports.Leading` says."""
        if request.query.level is not Level.IMAGE:
            yield from self._inner.batches(request)
            return
        for batch in self._inner.batches(request):
            uids = [one.text(tags.SOPInstanceUID) for one in batch]
            rejected = self._rejected.among(uids)
            yield [one for one, uid in zip(batch, uids, strict=True) if uid not in rejected] if rejected else batch

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """As :class:`~gateway.query.ports.Leading` says."""
        return self._inner.studies(uids, caller, evidence)

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """As :class:`~gateway.query.ports.Leading` says."""
        return self._inner.remembered(uids)

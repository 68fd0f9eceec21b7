"""Several leading archives as one: in their order, the first that knows a study is the authority for it.

An answer of a later archive counts only if no earlier one knows its study; otherwise the earlier one has decided
already, by answering or by not answering, whether the study matches. An archive may be limited to some callers or to
patients of one issuer; outside that it is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.models import Level
from gateway.dicom.tags import tag_of
from gateway.errors import UpstreamError
from gateway.query.ports import Evidence, Leading, Nothing, Request

_ISSUER = tag_of("IssuerOfPatientID")


@dataclass(frozen=True)
class Member:
    """A leading archive and when it counts.

    Attributes:
        callers: AE titles it is asked for; empty for all.
        issuer: of the patient IDs it is the authority for; empty for all. What comes without an issuer counts.
    """

    archive: Leading
    callers: frozenset[str] = frozenset()
    issuer: str = ""

    def concerns(self, caller: Caller, query: Query | None = None) -> bool:
        """Whether it is asked at all."""
        issuer = query.keys.text(_ISSUER) if query else ""
        return (not self.callers or caller.aet in self.callers) and (
            not self.issuer or issuer in {"", "*", self.issuer}
        )

    def speaks_for(self, answer: Attributes) -> bool:
        """Whether it is the authority for the patient of an answer."""
        return not self.issuer or answer.text(_ISSUER) in {"", self.issuer}

    def asking(self, request: Request) -> Request:
        """The request, with the issuer among its return keys where that decides."""
        if not self.issuer or _ISSUER in request.query.keys:
            return request
        keys = Attributes({**request.query.keys, _ISSUER: Element("LO", b"")})
        return request.asking(replace(request.query, keys=keys))

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """What it knows of these studies, as far as it is their authority."""
        found = self.archive.studies(uids, caller, evidence) if uids and self.concerns(caller) else {}
        return {uid: one for uid, one in found.items() if self.speaks_for(one)}


class FirstKnown:
    """Leading archives in their order; a :class:`~gateway.query.ports.Leading` itself."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = tuple(members)

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield each entity as its authority has it; see :class:`~gateway.query.ports.QuerySource`."""
        for batch in self.batches(request):
            yield from batch

    def batches(self, request: Request) -> Iterator[Sequence[Attributes]]:
        """As ``find``; when an archive fails the others are asked all the same, and it is raised at the end."""
        asked = [one for one in self._members if one.concerns(request.caller, request.query)]
        failure: UpstreamError | None = None
        seen: set[str] = set()
        for position, member in enumerate(asked):
            try:
                for batch in member.archive.batches(member.asking(request)):
                    new = [one for one in batch if _key(one, request) not in seen and member.speaks_for(one)]
                    decided = self._known_to(asked[:position], new, request)
                    mine = [one for one in new if one.text(tags.StudyInstanceUID) not in decided]
                    seen.update(_key(one, request) for one in mine)
                    yield mine
            except UpstreamError as error:
                failure = error
        if failure is not None:
            raise failure

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """What the authority of each study knows of it; see :class:`~gateway.query.ports.Leading`."""
        known: dict[str, Attributes] = {}
        for member in self._members:
            known.update(member.studies([uid for uid in uids if uid not in known], caller, evidence))
        return known

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """What is still known without asking; see :class:`~gateway.query.ports.Leading`."""
        known: dict[str, Attributes] = {}
        for member in self._members:
            found = member.archive.remembered([uid for uid in uids if uid not in known])
            known.update({uid: one for uid, one in found.items() if member.speaks_for(one)})
        return known

    @staticmethod
    def _known_to(earlier: list[Member], answers: list[Attributes], request: Request) -> set[str]:
        """The studies among the answers that an earlier archive is the authority for."""
        if request.query.level is not Level.STUDY:
            return set()
        left = [one.text(tags.StudyInstanceUID) for one in answers]
        known: set[str] = set()
        for member in earlier:
            unknown = [uid for uid in left if uid not in known]
            try:
                known.update(member.studies(unknown, request.caller, request.evidence))
            except UpstreamError:  # raised already, or about to be, by the query to that archive
                known.update(member.archive.remembered(unknown))
                request.evidence.append(Nothing())
        return known


def _key(answer: Attributes, request: Request) -> str:
    return answer.text(request.query.level.unique_key)

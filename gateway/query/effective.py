"""The effective view: what the leading archive says of a study where it knows it, else what is stored here.

A query goes to the leading archive first, whose answers are joined, page by page, with the local entities of the same
UIDs; then to the local index, where only matches that the leading archive has not already answered need a look-up,
again by the page. Whatever results is held against the query's keys once more, because a leading archive ignores keys
it does not support, and because a local match may be known there under other attributes.

When the leading archive does not answer, what is remembered of it is used, then the local attributes; this is
counted, logged and never remembered by anybody as an answer. It never becomes an empty answer.

PATIENT level answers are the patients of the effective studies, so that a patient whose studies were all moved to
another in the leading archive is no answer any more. The leading archive needs to support Study Root only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from gateway import metrics
from gateway.dicom import matching, tags
from gateway.dicom.attributes import Attributes, element_of
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query, Retrieve
from gateway.dicom.keys import Empties
from gateway.dicom.matching import Matcher
from gateway.dicom.models import Level, Model
from gateway.errors import UpstreamError
from gateway.logs import get_logger
from gateway.query import rewriting
from gateway.query.merging import Availability, marked, merge
from gateway.query.paging import chunks, pages
from gateway.query.patients import Patients
from gateway.query.ports import Evidence, Leading, Nothing, QuerySource, Request

PAGE = 100
"""Studies in one look-up."""

_log = get_logger("query")


class Scope(Enum):
    """Which studies are answers: ``all``, also those that only the leading archive has, or ``local`` ones."""

    ALL = "all"
    LOCAL = "local"


@dataclass
class _Run:
    """One query on its way: what it matches, and which UIDs have been decided on."""

    request: Request
    matcher: Matcher
    decided: set[str] = field(default_factory=set)
    down: bool = False

    def failed(self, error: UpstreamError) -> None:
        """From here on without the leading archive: one time-out a query is enough."""
        self.down = True
        self.request.evidence.append(Nothing())
        metrics.LEADING_DEGRADED.labels(error.kind.value).inc()
        _log.warning("leading archive failed, answering without it", kind=error.kind.value, reason=error.message)

    @property
    def key(self) -> int:
        return self.request.query.level.unique_key

    def entity(self, local: Attributes | None, leading: Attributes | None) -> Attributes | None:
        """The effective entity if it is an answer."""
        if local is not None:
            entity, availability = merge(local, leading), Availability.ONLINE
        elif leading is not None:
            entity, availability = leading, Availability.NEARLINE
        else:
            return None
        return marked(entity, availability) if self.matcher.matches(entity) else None


class EffectiveView:
    """A query source over a local one and a leading one."""

    def __init__(
        self,
        local: QuerySource,
        leading: Leading | None,
        *,
        scope: Scope = Scope.ALL,
        empties: Empties | None = None,
    ) -> None:
        self._local = local
        self._leading = leading
        self._scope = scope
        self._empties = empties or Empties()

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the entities whose effective attributes match; see :class:`~gateway.query.ports.QuerySource`.

        Raises:
            InvalidIdentifier: a key's value is impossible.
        """
        match request.query.level:
            case Level.PATIENT:
                patients = Patients(request.query)
                studies = request.asking(patients.asking(rewriting.studies_of(request.query)))
                return patients.of(self._studies(self._run(studies)))
            case Level.STUDY:
                return self._studies(self._run(request))
            case _:
                return self._below(self._run(request))

    def studies(
        self, uids: Iterable[str], caller: Caller, evidence: list[Evidence] | None = None
    ) -> dict[str, Attributes]:
        """What the leading archive knows of these studies, to be put over the local attributes.

        Never raises for a leading archive that fails: what is remembered of it is used then.
        """
        asking = Query(Model.STUDY_ROOT, Level.STUDY, Attributes())
        request = Request(asking, caller, evidence=[] if evidence is None else evidence)
        return self._known(list(dict.fromkeys(uids)), self._run(request))

    def resolve(self, retrieve: Retrieve, caller: Caller) -> dict[str, Attributes | None]:
        """The studies a retrieve touches, each with what the leading archive knows of it, or None.

        Studies named together with a patient are those whose effective patient it is. A retrieve that names a patient
        only, or only series or instances as relational retrieve allows, is resolved by a query.
        """
        named = retrieve.uids.get(Level.STUDY, ())
        if not named or Level.PATIENT in retrieve.uids:
            found = self.find(Request(_question(retrieve), caller))
            named = tuple(dict.fromkeys(one.text(tags.StudyInstanceUID) for one in found))
        known = self.studies(named, caller)
        return {uid: known.get(uid) for uid in named}

    def _run(self, request: Request) -> _Run:
        return _Run(request, matching.compile(request.query, empties=self._empties))

    def _studies(self, run: _Run) -> Iterator[Attributes]:
        if self._leading is not None:
            yield from self._guarded(self._studies_from_leading(self._leading, run), run)
        yield from self._studies_from_local(run)

    def _studies_from_leading(self, leading: Leading, run: _Run) -> Iterator[Attributes]:
        upstream = run.request.asking(rewriting.for_leading(run.request.query))
        for page in (page for batch in leading.batches(upstream) for page in chunks(batch, PAGE)):
            run.request.check()
            here = self._local_by_uid(run.request, [answer.text(tags.StudyInstanceUID) for answer in page])
            for answer in page:
                uid = answer.text(tags.StudyInstanceUID)
                local = here.get(uid)
                if uid in run.decided or (local is None and self._scope is Scope.LOCAL):
                    continue
                run.decided.add(uid)
                if entity := run.entity(local, answer):
                    yield entity

    def _studies_from_local(self, run: _Run) -> Iterator[Attributes]:
        for page in pages(self._local.find(run.request), PAGE):
            run.request.check()
            left = {uid: one for one in page if (uid := one.text(tags.StudyInstanceUID)) not in run.decided}
            known = self._known(list(left), run)
            for uid, local in left.items():
                if entity := run.entity(local, known.get(uid)):
                    yield entity

    def _below(self, run: _Run) -> Iterator[Attributes]:
        """SERIES and IMAGE level: by the page of studies, or by the local index alone when no study is named."""
        query = run.request.query
        if named := query.uids(Level.STUDY):
            for page in chunks(list(named), PAGE):
                yield from self._below_studies(run, page)
        elif rewriting.restricts_upper(query):
            above = self._run(run.request.asking(rewriting.studies_of(query)))
            for found in pages(self._studies(above), PAGE):
                yield from self._below_studies(run, [one.text(tags.StudyInstanceUID) for one in found])
        else:
            yield from self._below_local(run, query, None)

    def _below_studies(self, run: _Run, studies: Sequence[str]) -> Iterator[Attributes]:
        query = run.request.query
        known = self._known(studies, run) if rewriting.asks_leading(query) else {}
        here = rewriting.keyed(rewriting.without_upper(query), Level.STUDY, studies)
        yield from self._below_local(run, here, known)
        if self._leading is not None and self._scope is Scope.ALL:
            for uid in studies:
                if not run.down:
                    yield from self._guarded(self._below_leading(self._leading, run, uid, known.get(uid)), run)

    def _below_local(self, run: _Run, query: Query, known: dict[str, Attributes] | None) -> Iterator[Attributes]:
        ask = known is None and rewriting.asks_leading(query)
        for page in pages(self._local.find(run.request.asking(query)), PAGE):
            run.request.check()
            if ask:
                studies = list({one.text(tags.StudyInstanceUID) for one in page})
                known = self._known(studies, run)
            for local in page:
                run.decided.add(local.text(run.key))
                if entity := run.entity(local, (known or {}).get(local.text(tags.StudyInstanceUID))):
                    yield entity

    def _below_leading(
        self, leading: Leading, run: _Run, study: str, attributes: Attributes | None
    ) -> Iterator[Attributes]:
        for query in self._questions_below(leading, run.request, study):
            for answer in leading.find(run.request.asking(query)):
                run.request.check()
                uid = answer.text(run.key)
                if uid in run.decided:
                    continue
                run.decided.add(uid)
                if entity := run.entity(None, merge(answer, attributes)):
                    yield entity

    def _questions_below(self, leading: Leading, request: Request, study: str) -> Iterator[Query]:
        """Hierarchical queries (PS3.4 C.4.1.2.1) for what a leading archive has below a study."""
        query = rewriting.for_leading(rewriting.keyed(rewriting.without_upper(request.query), Level.STUDY, [study]))
        if query.level is Level.SERIES:
            yield query
            return
        series = query.uids(Level.SERIES)
        if not series:
            every = Query(
                query.model, Level.SERIES, Attributes.of({"StudyInstanceUID": study, "SeriesInstanceUID": ""})
            )
            found = leading.find(request.asking(every))
            series = tuple(one.text(tags.SeriesInstanceUID) for one in found)
        for uid in series:
            yield rewriting.keyed(query, Level.SERIES, [uid])

    def _local_by_uid(self, request: Request, uids: list[str]) -> dict[str, Attributes]:
        if not uids:
            return {}
        asking = request.asking(rewriting.returning(request.query, Level.STUDY, uids))
        return {one.text(tags.StudyInstanceUID): one for one in self._local.find(asking)}

    def _known(self, uids: Sequence[str], run: _Run) -> dict[str, Attributes]:
        """What the leading archive knows of these studies; when it fails, what is remembered."""
        known: dict[str, Attributes] = {}
        if self._leading is None:
            return known
        for page in chunks(uids, PAGE):
            if not run.down:
                try:
                    known.update(self._leading.studies(page, run.request.caller, run.request.evidence))
                    continue
                except UpstreamError as error:
                    run.failed(error)
            known.update(self._leading.remembered(page))
        return known

    @staticmethod
    def _guarded(answers: Iterator[Attributes], run: _Run) -> Iterator[Attributes]:
        """End where the leading archive fails, so that the local archive has its say."""
        try:
            yield from answers
        except UpstreamError as error:
            run.failed(error)


def _question(retrieve: Retrieve) -> Query:
    """The query for the studies of a retrieve."""
    at = max(Level.STUDY, min(retrieve.uids))
    keys = {tags.StudyInstanceUID: element_of(tags.StudyInstanceUID, "", ())}
    for level, uids in retrieve.uids.items():
        if level <= at:
            keys[level.unique_key] = element_of(level.unique_key, "\\".join(uids), ())
    return Query(retrieve.model, at, Attributes(keys), Negotiated(relational=True))

"""The cache in front of one leading archive, for its answers and for its studies' attributes.

Three kinds of outcome have three lifetimes: an answer, a complete answer without a match, and a failure. A failure
never becomes an answer, and never pushes one out: while the archive fails, what it said last is given as long as
``stale_if_error`` allows. Only an answer that the archive ended with 0000H, that nobody cancelled and no limit cut, is
kept. Equal questions at the same time are one question upstream, whose failure is everybody's failure.

The cache stands below coercion: it keeps what the archive said, so that a changed rule needs no flush and no caller
sees what was made for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isinf
from time import monotonic
from typing import Protocol

from gateway import metrics
from gateway.dicom import encoding, tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.models import LEADING_ATTRIBUTES
from gateway.dicom.tags import keyword_of
from gateway.query.answers import QueryCache
from gateway.query.ports import Evidence, QuerySource, Request, StudyAttributesSource
from gateway.query.shelf import NoShelf, Shelf
from gateway.query.studies import StudyCache
from gateway.query.ttl import Lifetimes, Limits, check


class Archive(QuerySource, StudyAttributesSource, Protocol):
    """What is cached: a leading archive."""


@dataclass(frozen=True)
class Settings:
    """How one archive is cached; each of the two caches has its own limits."""

    queries: Limits = field(default_factory=Limits)
    studies: Limits = field(default_factory=lambda: Limits(max_entries=100_000))
    lifetimes: Lifetimes = field(default_factory=Lifetimes)


@dataclass(frozen=True)
class Shown:
    """One entry as an admin sees it.

    Attributes:
        cache: ``queries`` or ``studies``.
        key: a query's level and keys without their values, or a study's UID.
        answers: how many; 0 is a remembered emptiness.
        age: seconds since it was fetched.
        fresh_for: seconds left, negative when stale; None for ever.
    """

    archive: str
    cache: str
    key: str
    answers: int
    bytes: int
    age: float
    fresh_for: float | None


class CachedLeading:
    """A leading archive behind its cache: the :class:`~gateway.query.ports.Leading` of the effective view.

    Args:
        shelf: what other processes of this gateway have asked the archive; closed with the cache.

    Raises:
        UnboundedCache: the settings would keep everything for ever.
    """

    def __init__(
        self,
        name: str,
        archive: Archive,
        settings: Settings | None = None,
        clock: Callable[[], float] = monotonic,
        shelf: Shelf | None = None,
    ) -> None:
        settings = settings or Settings()
        self._shelf = shelf or NoShelf()
        check(settings.lifetimes, settings.queries)
        check(settings.lifetimes, settings.studies)
        self.name = name
        self._clock = clock
        self._studies = StudyCache(name, archive, settings.studies, settings.lifetimes, clock, self._shelf)
        self._queries = QueryCache(name, archive, settings.queries, settings.lifetimes, clock, self._saw, self._shelf)

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the archive's answers, remembered or as they arrive; see :class:`~gateway.query.ports.QuerySource`."""
        for batch in self._queries.batches(request):
            for answer in batch:
                request.check()
                yield answer

    def batches(self, request: Request) -> Iterator[Sequence[Attributes]]:
        """As ``find``, as many answers at a time as are there; see :class:`~gateway.query.ports.Leading`."""
        return self._queries.batches(request)

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """What the archive knows of these studies; see :class:`~gateway.query.ports.Leading`."""
        return self._studies.studies(uids, caller, evidence)

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """What is still known without asking; see :class:`~gateway.query.ports.Leading`."""
        return self._studies.remembered(uids)

    def _saw(self, answers: Iterable[Attributes]) -> None:
        """Identities from answers: without Patient ID and name an old and a new patient could be mixed up."""
        for answer in answers:
            if answer.text(tags.PatientID) and answer.text(tags.PatientName):
                attributes = answer.only([tag for tag in LEADING_ATTRIBUTES if tag in answer])
                self._studies.saw(answer.text(tags.StudyInstanceUID), attributes)

    def entries(self) -> list[Shown]:
        """Everything that is kept."""
        kept, looked_up = self._queries.entries(), self._studies.entries()
        now = self._clock()

        def shown(cache: str, key: str, answers: int, size: int, stored: float, until: float) -> Shown:
            return Shown(self.name, cache, key, answers, size, now - stored, None if isinf(until) else until - now)

        queries = [
            shown("queries", _describe(key), len(entry.value), entry.size, entry.stored_at, entry.fresh_until)
            for key, entry in kept
        ]
        studies = [
            shown("studies", uid, int(entry.value is not None), entry.size, entry.stored_at, entry.fresh_until)
            for uid, entry in looked_up
        ]
        return queries + studies

    def flush(self, *, study: str = "", patient: str = "") -> int:
        """Forget a study, a patient, or everything; empty answers go as well, for the study may match them now.

        Returns:
            How many entries were dropped.
        """
        everything = not study and not patient
        self._shelf.flush()

        def touched(one: Attributes) -> bool:
            of_study = bool(study) and one.text(tags.StudyInstanceUID) == study
            return of_study or (bool(patient) and one.text(tags.PatientID) == patient)

        dropped = self._queries.flush(lambda answers: everything or not answers or any(map(touched, answers)))
        dropped += self._studies.flush(
            lambda uid, one: everything or uid == study or (one is not None and touched(one))
        )
        metrics.CACHE_FLUSHED.labels(self.name).inc(dropped)
        return dropped

    def close(self) -> None:
        """End what goes on in the background."""
        self._queries.close()
        self._studies.close()
        self._shelf.close()


def _describe(key: bytes) -> str:
    """A query without its values: keys that restrict are marked with ``=``."""
    head, _, body = key.partition(b"\0")
    elements, _ = encoding.read(body, implicit=False)
    keys = [keyword_of(tag) + ("=" if element.value.strip(b" \0*") else "") for tag, element in elements.items()]
    return f"{head.decode().split('/')[1]} {' '.join(keys)}"

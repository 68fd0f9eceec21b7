"""The one small interface that everything in front of an archive wraps: a source answers ``find``.

The local archive, the leading archive, the cache, the effective view and the rules are all query sources; a chain of
them is built in ``gateway.daemon``. A source either ends its iterator normally, which means *these were all answers*
(the peer said 0000H), or raises. A failed, cancelled or shortened query never ends normally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.errors import Cancelled


def never() -> bool:
    """A cancel signal that is never given."""
    return False


class Evidence(Protocol):
    """What an answer rests on; as long as it holds, the answer may be given again."""

    def holds(self) -> bool:
        """Whether nothing has changed and nothing has expired."""

    def use(self) -> None:
        """The answer was given again: count that as a use of what it rests on."""


@dataclass(frozen=True)
class Nothing:
    """Evidence that never holds: the answer was a makeshift and must not be remembered."""

    def holds(self) -> bool:
        """Never."""
        return False

    def use(self) -> None:
        """It is not used."""


@dataclass(frozen=True)
class Request:
    """A query together with who asks and whether they still want the answer.

    Attributes:
        cancelled: polled between answers; true after C-CANCEL or when the association is gone.
        evidence: where sources put what their answer rests on, for one that wants to remember it.
    """

    query: Query
    caller: Caller
    cancelled: Callable[[], bool] = field(default=never, compare=False)
    evidence: list[Evidence] = field(default_factory=list, compare=False)

    def asking(self, query: Query) -> Request:
        """The same caller asking something else, with the same evidence to be gathered."""
        return replace(self, query=query)

    def check(self) -> None:
        """Stop here if nobody wants the answer any more.

        Raises:
            Cancelled: the caller cancelled or is gone.
        """
        if self.cancelled():
            raise Cancelled("cancelled by the caller")


class QuerySource(Protocol):
    """Answers C-FIND queries."""

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the entities that match.

        Each answer has at least the keys of the query that the source knows a value for, and every unique key of the
        query's level and above; a source may return more attributes than were asked for.

        Raises:
            Cancelled: ``request.cancelled()`` became true.
            UpstreamError: the archive behind this source did not answer completely.
            Refused: the query cannot be answered as asked.
        """


class StudyAttributesSource(Protocol):
    """Looks up patient and study attributes by Study Instance UID, many at a time."""

    def studies(self, uids: Sequence[str], caller: Caller) -> dict[str, Attributes]:
        """The attributes of the studies this source knows; a UID it does not know is not among the keys.

        Raises:
            UpstreamError: the source could not tell. Nothing is returned for any of them then.
        """


class Leading(QuerySource, Protocol):
    """A leading archive, or several, behind their cache.

    ``find`` is asked at STUDY, SERIES and IMAGE level of Study Root only.
    """

    def batches(self, request: Request) -> Iterator[Sequence[Attributes]]:
        """As ``find``, as many answers at a time as are there, so that none waits for company that is late."""

    def studies(self, uids: Sequence[str], caller: Caller, evidence: list[Evidence]) -> dict[str, Attributes]:
        """As :meth:`StudyAttributesSource.studies`; puts down what the answer rests on."""

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """What is still known, stale or not, without asking anybody: for when the archive does not answer."""

"""``query.max_answers``: a query with more matches ends with A700H and says so, it is never cut silently."""

from __future__ import annotations

from collections.abc import Iterator

from gateway import metrics
from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.errors import Refused
from gateway.query.ports import QuerySource, Request


class LimitedSource:
    """Ends a query after so many answers."""

    def __init__(self, source: QuerySource, max_answers: int) -> None:
        self._source = source
        self._max_answers = max_answers

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the answers; see :class:`~gateway.query.ports.QuerySource`.

        Raises:
            Refused: there are more (A700H); those within the limit have been yielded.
        """
        for number, answer in enumerate(self._source.find(request)):
            if number == self._max_answers:
                metrics.QUERY_LIMITED.inc()
                raise Refused(f"more than {self._max_answers} matches, narrow the query", Status.OUT_OF_RESOURCES)
            yield answer

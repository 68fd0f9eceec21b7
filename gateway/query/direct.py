"""The short way of a query: where nobody but the local archive has a say in the answers, it writes them itself.

Without a leading archive, and without rules for keys or answers, the effective view of an entity is the local one. The
long way, through view, rules and projection, would decode every answer to change nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Query
from gateway.dicom.models import Level
from gateway.query import rewriting
from gateway.query.ports import QuerySource, Request
from gateway.query.projection import Projection


class Answering(Protocol):
    """A source that can write answers as they go out, faster than others make them of its entities."""

    def answers(self, request: Request, projection: Projection) -> Iterator[Attributes]:
        """Yield the answers to a query at STUDY level or below, on entities that are their own authority.

        Raises: as :meth:`gateway.query.ports.QuerySource.find`.
        """


class DirectSource:
    """Takes the short way where it leads to the same answers.

    Args:
        source: the long way.
        alone: whether nobody but the local archive has a say now.
    """

    def __init__(self, source: QuerySource, local: Answering, retrieve_aet: str, alone: Callable[[], bool]) -> None:
        self._source = source
        self._local = local
        self._retrieve_aet = retrieve_aet
        self._alone = alone

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield answers as they go out; see :class:`~gateway.query.ports.QuerySource`."""
        if _through_studies(request.query) or not self._alone():
            return self._source.find(request)
        return self._local.answers(request, Projection(request.query, self._retrieve_aet))


def _through_studies(query: Query) -> bool:
    """Whether the answers are what belongs to studies that have to be found first."""
    if query.level is Level.PATIENT:
        return True
    return query.level is not Level.STUDY and not query.uids(Level.STUDY) and rewriting.restricts_upper(query)

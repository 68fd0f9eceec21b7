"""The way of a request, built in reading order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gateway.archive.local import LocalArchive
from gateway.config import Config
from gateway.daemon.coercing import CoercedSource, Rules, SentCoercion, coerced_receiver, touch_queries
from gateway.daemon.retrieving import build_retrieving
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.keys import Empties
from gateway.dimse.ports import Cancelled
from gateway.dimse.services import Handlers
from gateway.query.direct import DirectSource
from gateway.query.effective import EffectiveView, Scope
from gateway.query.limit import LimitedSource
from gateway.query.memo import Memo
from gateway.query.ports import Leading, QuerySource, Request
from gateway.query.projection import ProjectedSource

NEGOTIATED = Negotiated(relational=True, combined_datetime=True, empty_value=True, multiple_value=True)
"""What of extended negotiation the view does (PS3.4 C.5.1.1): neither fuzzy matching of names nor time zones."""


def build_handlers(config: Config, archive: LocalArchive, leading: Leading | None, rules: Rules) -> Handlers:
    """Everything between an association in and an association out."""
    title = config.ae.title
    view = EffectiveView(
        archive,
        leading,
        scope=Scope(config.query.scope.value),
        empties=Empties(empty=config.query.empty_matches, absent=config.query.empty_matches),
    )
    answers: QuerySource = ProjectedSource(CoercedSource(view, rules, title), title)
    if leading is None:
        answers = DirectSource(answers, archive, title, alone=lambda: not touch_queries(rules()))
    answers = Memo(answers, lambda: (archive.generation, rules().version), max_bytes=config.query.memo_bytes)
    if config.query.max_answers:
        answers = LimitedSource(answers, config.query.max_answers)
    retrieving = build_retrieving(config, archive, view, leading, SentCoercion(rules, title))
    return Handlers(
        find=partial(_find, answers),
        move=retrieving.move,
        get=retrieving.get,
        store=coerced_receiver(config, archive.root, retrieving.store, rules, leading),
        rest=archive.rest,
        lenient=config.query.lenient,
        negotiated=NEGOTIATED,
    )


def _find(source: QuerySource, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
    return source.find(Request(query, caller, cancelled))

"""The way of a request, built in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.archive.local import LocalArchive
from gateway.config import Config
from gateway.daemon import peers
from gateway.daemon.coercing import CoercedSource, Rules, SentCoercion
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.keys import Empties
from gateway.dimse.ports import Cancelled
from gateway.dimse.requestor import connect
from gateway.dimse.services import Handlers
from gateway.query.effective import EffectiveView, Scope
from gateway.query.limit import LimitedSource
from gateway.query.memo import Memo
from gateway.query.ports import Leading, QuerySource, Request
from gateway.query.projection import ProjectedSource
from gateway.retrieve.get import GetService
from gateway.retrieve.move import MoveService
from gateway.retrieve.plan import Plan, plan_retrieve


@dataclass(frozen=True)
class StudiesOfView:
    """The effective view as a retrieve asks it: which studies, each with what the leading archive knows."""

    view: EffectiveView

    def resolve(self, retrieve: Retrieve, caller: Caller) -> Mapping[str, Attributes | None]:
        """See :class:`gateway.retrieve.ports.View`."""
        studies = self.view.resolve(retrieve, caller)
        known = self.view.studies(studies, caller)
        return {uid: known.get(uid) for uid in studies}


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
    answers = Memo(answers, lambda: (archive.generation, rules().version), max_bytes=config.query.memo_bytes)
    if config.query.max_answers:
        answers = LimitedSource(answers, config.query.max_answers)
    callable_peers = peers.callable_peers(config)
    planner = partial(_plan, StudiesOfView(view), archive)
    coercion = SentCoercion(rules, title)
    return Handlers(
        find=partial(_find, answers),
        move=MoveService(
            planner,
            peers.destinations(config, callable_peers),
            coercion,
            lambda peer, contexts: connect(peer, title, contexts),
        ),
        get=GetService(planner, coercion),
        store=archive,
        lenient=config.query.lenient,
    )


def _find(source: QuerySource, query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
    return source.find(Request(query, caller, cancelled))


def _plan(view: StudiesOfView, archive: LocalArchive, retrieve: Retrieve, caller: Caller) -> Plan:
    return plan_retrieve(retrieve, caller, view, archive)

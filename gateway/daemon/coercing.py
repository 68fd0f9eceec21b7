"""Coercion on the way of a request: around the query chain, and before an instance is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import metrics
from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.rules import BUILT_IN, Rule, RuleSet, Where
from gateway.config import Config
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dimse.ports import Receiver
from gateway.errors import UpstreamError
from gateway.intake.receiver import CoercedReceiver
from gateway.logs import get_logger
from gateway.query.effective import PAGE, EffectiveView
from gateway.query.paging import pages
from gateway.query.ports import Leading, Request
from gateway.retrieve.ports import Coerce, Recipient

_log = get_logger("daemon")

Rules = Callable[[], RuleSet]
"""The rules in force now. Each operation takes them once, so that an edit does not change it half-way."""


def touch_queries(rules: RuleSet) -> bool:
    """Whether there is a rule for keys or answers, other than what the effective view does by itself."""
    return bool(_answering(rules) or rules.at(Where.KEYS))


def _answering(rules: RuleSet) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules.at(Where.ANSWERS) if rule.name != BUILT_IN.name)


class CoercedSource:
    """Rules for query keys before a source is asked, and for its answers; the answers show the keys as asked.

    The built-in rule has nothing to do here: the effective view has put the leading archive's attributes into the
    answers before, since it had to match on them. Other rules can take more from it, so it is looked up for them.
    """

    def __init__(self, view: EffectiveView, rules: Rules, aet: str) -> None:
        self._view = view
        self._rules = rules
        self._aet = aet

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield coerced answers; see :class:`~gateway.query.ports.QuerySource`."""
        rules = self._rules()
        if not touch_queries(rules):
            return self._view.find(request)
        answering = _answering(rules)
        caller = request.caller
        asked = Context(sending=caller.aet, receiving=self._aet, host=caller.address)
        keys, undo = plan(rules, Where.KEYS, asked).apply_to_keys(request.query.keys)
        found = self._view.find(request.asking(replace(request.query, keys=keys)))
        coerced = self._coerced(found, request, replace(rules, rules=answering)) if answering else found
        return map(undo, coerced)

    def _coerced(self, answers: Iterator[Attributes], request: Request, rules: RuleSet) -> Iterator[Attributes]:
        caller = request.caller
        context = Context(sending=self._aet, receiving=caller.aet, host=caller.address)
        requested = frozenset(request.query.keys)
        for page in pages(answers, PAGE):
            studies = {uid for answer in page if (uid := answer.text(tags.StudyInstanceUID))}
            known = self._view.studies(studies, caller, request.evidence)
            for answer in page:
                leading = known.get(answer.text(tags.StudyInstanceUID))
                made = plan(rules, Where.ANSWERS, replace(context, leading=leading))
                yield made.apply_to_answer(answer, requested)


@dataclass(frozen=True)
class SentCoercion:
    """The :class:`~gateway.retrieve.ports.Coercion` of the rules in force."""

    rules: Rules
    aet: str

    def for_study(self, leading: Attributes | None, recipient: Recipient) -> Coerce:
        """Decide once what the rules make of a study that goes to a recipient."""
        context = Context(sending=self.aet, receiving=recipient.aet, host=recipient.host, leading=leading)
        return plan(self.rules(), Where.SENT, context).apply_to_instance


def coerced_receiver(
    config: Config, root: Path, receiver: Receiver, rules: Rules, leading: Leading | None
) -> CoercedReceiver:
    """The receiver that applies the rules for received objects, in front of the one that stores.

    Args:
        root: of the file-set; its neighbours hold what is arriving and what was put aside.
    """
    quarantine = config.coercion.quarantine or root.with_name(f"{root.name}.quarantine")
    spool = root.with_name(f"{root.name}.intake")

    def ask(study: str, caller: Caller) -> Attributes | None:
        if leading is None:
            return None
        try:
            return leading.studies([study], caller, []).get(study)
        except UpstreamError as error:
            metrics.LEADING_DEGRADED.labels(error.kind.value).inc()
            _log.warning("received without the leading archive", reason=error.message)
            return leading.remembered([study]).get(study)

    made = CoercedReceiver(receiver, rules, config.ae.title, spool=spool, quarantine=quarantine, leading=ask)
    made.sweep()
    return made

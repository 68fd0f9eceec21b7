"""Plans: the rules for one operation on one study, decided once and applied to each of its data sets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property

from gateway import metrics
from gateway.coercion.conditions import reads_of
from gateway.coercion.convert import PIXELS, decoded
from gateway.coercion.draft import Context, Draft
from gateway.coercion.heads import Syntax, Window, outline
from gateway.coercion.identity import ANY_TAG
from gateway.coercion.layouts import Glance
from gateway.coercion.original import ORIGINAL_ATTRIBUTES, record
from gateway.coercion.patch import Patch
from gateway.coercion.rules import CoercionFailed, OnFailure, Rule, RuleSet, Where
from gateway.coercion.splice import read_head, splice
from gateway.coercion.undo import Undo, undo
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.tags import SpecificCharacterSet

_MOST_GLANCES = 8
_MOST_RECIPES = 256


@dataclass(frozen=True)
class Ran:
    """What a run over the rules came to: which were applied, and which failed and were passed over or refused."""

    applied: tuple[Rule, ...] = ()
    failed: tuple[Rule, ...] = ()

    def count(self) -> None:
        """Count one data set of which this is true; a patch that many share is counted for each."""
        for step in self._steps:
            step()

    @cached_property
    def _steps(self) -> tuple[Callable[[], object], ...]:
        applied = [metrics.RULES_APPLIED.tally(rule.name) for rule in self.applied]
        return *applied, *(metrics.RULES_FAILURES.labels(rule.name, rule.on_failure.value).inc for rule in self.failed)


@dataclass(frozen=True)
class Recipe:
    """The changes for one data set, or for many that are alike, and how they came about."""

    patch: Patch
    ran: Ran


@dataclass(frozen=True)
class Plan:
    """What is to be done to the data sets of one study in one operation.

    Safe to share between threads.

    Attributes:
        rules: those that apply, or may apply once the data set is known.
        ready: the changes, when nothing about the single data set matters.
        recorded: whether Original Attributes Sequence is to say what was changed.
        looked: for instances whose attributes do matter, the tags of those, ascending; whatever else an instance
            has, equal values there give equal changes. None: all of them matter.
    """

    rules: tuple[Rule, ...]
    context: Context
    ready: Recipe | None
    recorded: bool
    looked: tuple[int, ...] | None
    _glances: dict[Syntax, tuple[Glance, ...]] = field(default_factory=dict, compare=False, repr=False)
    _recipes: dict[tuple[bytes, ...], Recipe] = field(default_factory=dict, compare=False, repr=False)

    def outcome(self, attributes: Attributes) -> tuple[Draft, Ran]:
        """One data set under the rules, and which were applied; only a failure is counted here.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        draft = Draft(attributes, self.context)
        try:
            ran = run(self.rules, draft)
        except CoercionFailed as error:
            Ran(failed=error.failed).count()
            raise
        if self.recorded:
            record(draft)
        return draft, ran

    def apply_to_instance(self, stored: StoredInstance) -> Outgoing:
        """A stored instance with the changes in it.

        Raises:
            CoercionFailed: a rule could not be applied.
            BadInstance: the file cannot be read as what it claims to be.
            StorageError: the file cannot be read.
        """
        if not self.rules:
            return Outgoing.untouched(stored)
        if self.ready is not None:
            outgoing, recipe = splice(stored, self.ready.patch), self.ready
        elif self.looked is None:
            recipe = self._recipe(read_head(stored))
            outgoing = splice(stored, recipe.patch)
        else:
            outgoing, recipe = self._alike(stored)
        recipe.ran.count()
        return outgoing

    def _recipe(self, attributes: Attributes) -> Recipe:
        if self.ready is not None:
            return self.ready
        draft, ran = self.outcome(attributes)
        return Recipe(Patch(draft.changes()), ran)

    def _alike(self, stored: StoredInstance) -> tuple[Outgoing, Recipe]:
        """The changed instance, by a recipe that it shares with those that are alike where it matters."""
        found: list[Recipe] = []

        def choose(window: Window, syntax: Syntax) -> Patch:
            found.append(self._shared(window, syntax))
            return found[-1].patch

        return splice(stored, choose), found[-1]

    def _shared(self, window: Window, syntax: Syntax) -> Recipe:
        seen = self._seen(window, syntax)
        recipe = self._recipes.get(seen)
        if recipe is None:
            recipe = self._recipe(Attributes(decoded(b"".join(seen), syntax)))
            if len(self._recipes) >= _MOST_RECIPES:
                self._recipes.clear()
            self._recipes[seen] = recipe
        return recipe

    def _seen(self, window: Window, syntax: Syntax) -> tuple[bytes, ...]:
        """The elements that matter, as they are encoded."""
        for glance in self._glances.get(syntax, ()):
            if glance.marks.fit(window):
                return glance.elements(window.data)
        assert self.looked is not None
        glance = Glance.of(window, outline(window, self.looked[-1], syntax), self.looked)
        self._glances[syntax] = (glance, *self._glances.get(syntax, ()))[:_MOST_GLANCES]
        return glance.elements(window.data)

    def apply_to_answer(self, answer: Attributes, requested: Collection[int] | None = None) -> Attributes:
        """An answer with the changes in it.

        Args:
            requested: the tags asked for; no other is added to the answer. None: any may be.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        recipe = self._recipe(answer)
        recipe.ran.count()
        changes = recipe.patch.changes
        if requested is not None:
            changes = changes.only({*requested, *answer})
        return changes.apply_to(answer)

    def apply_to_keys(self, keys: Attributes) -> tuple[Attributes, Undo]:
        """Query keys with the changes in them, and what turns the answers back.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        draft, ran = self.outcome(keys)
        ran.count()
        changes = draft.changes()
        return changes.apply_to(keys), undo(keys, changes, ran.applied)


def plan(rules: RuleSet, where: Where, context: Context) -> Plan:
    """Decide which rules apply to one operation on one study."""
    chosen: list[Rule] = []
    certain = True
    for rule in rules.at(where):
        verdict = rule.when.holds(context, None)
        if verdict is False:
            continue
        chosen.append(rule)
        certain = certain and verdict is True
        if verdict is True and rule.stop:
            break
    selected = tuple(chosen)
    recorded = where in rules.recorded
    ready = _ready(selected, context) if certain and not recorded else None
    return Plan(selected, context, ready, recorded, _looked(selected, recorded=recorded))


def _ready(rules: tuple[Rule, ...], context: Context) -> Recipe | None:
    """The changes, if they are the same for every data set."""
    if any(action.reads for rule in rules for action in rule.then):
        return None
    try:
        draft = Draft(Attributes(), context, blind=True)
        ran = run(rules, draft)
        return Recipe(Patch(draft.changes()), ran)
    except CoercionFailed:
        return None  # each data set will meet the failure by itself, and be refused by itself


def _looked(rules: tuple[Rule, ...], *, recorded: bool) -> tuple[int, ...] | None:
    """The tags that the rules look at or change; None where that may be any."""
    seen = {SpecificCharacterSet, *([ORIGINAL_ATTRIBUTES] if recorded else [])}
    for rule in rules:
        seen |= reads_of(rule.when)
        for action in rule.then:
            seen |= action.reads | action.writes
    return None if ANY_TAG in seen or max(seen) >= PIXELS else tuple(sorted(seen))


def run(rules: tuple[Rule, ...], draft: Draft) -> Ran:
    """Apply rules in order to a draft whose data set is known.

    Raises:
        CoercionFailed: a rule could not be applied, and its failure is not to be passed over.
    """
    applied: list[Rule] = []
    failed: list[Rule] = []
    for rule in rules:
        if not rule.when.holds(draft.context, draft):
            continue
        mark = draft.mark()
        draft.rule = rule.name
        try:
            for action in rule.then:
                action.apply(draft)
        except ValueError as error:
            failed.append(rule)
            if rule.on_failure is not OnFailure.PASS:
                raise CoercionFailed(tuple(failed), str(error)) from error
            draft.back_to(mark)
            continue
        applied.append(rule)
        if rule.stop:
            break
    return Ran(tuple(applied), tuple(failed))

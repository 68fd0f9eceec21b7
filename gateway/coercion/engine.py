"""Plans: the rules for one operation on one study, decided once and applied to each of its data sets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from gateway import metrics
from gateway.coercion.changes import Changes
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
_MOST_PATCHES = 256


@dataclass(frozen=True)
class Plan:
    """What is to be done to the data sets of one study in one operation.

    Safe to share between threads.

    Attributes:
        rules: those that apply, or may apply once the data set is known.
        patch: the ready changes, when nothing about the single data set matters.
        recorded: whether Original Attributes Sequence is to say what was changed.
        looked: for instances whose attributes do matter, the tags of those, ascending; whatever else an instance
            has, equal values there give equal changes. None: all of them matter.
    """

    rules: tuple[Rule, ...]
    context: Context
    patch: Patch | None
    recorded: bool
    looked: tuple[int, ...] | None
    _glances: dict[Syntax, tuple[Glance, ...]] = field(default_factory=dict, compare=False, repr=False)
    _patches: dict[tuple[bytes, ...], Patch] = field(default_factory=dict, compare=False, repr=False)

    def changes_for(self, attributes: Attributes) -> Changes:
        """What the rules change in one data set.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        if self.patch is not None:
            return self.patch.changes
        return self.outcome(attributes)[0].changes()

    def outcome(self, attributes: Attributes) -> tuple[Draft, tuple[Rule, ...]]:
        """One data set under the rules, and the rules that were applied.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        draft = Draft(attributes, self.context)
        applied = run(self.rules, draft)
        if self.recorded:
            record(draft)
        return draft, applied

    def apply_to_instance(self, stored: StoredInstance) -> Outgoing:
        """A stored instance with the changes in it.

        Raises:
            CoercionFailed: a rule could not be applied.
            BadInstance: the file cannot be read as what it claims to be.
            StorageError: the file cannot be read.
        """
        if not self.rules:
            return Outgoing.untouched(stored)
        if self.patch is not None:
            return splice(stored, self.patch)
        if self.looked is None:
            return splice(stored, Patch(self.changes_for(read_head(stored))))
        return splice(stored, self._patch_for)

    def _patch_for(self, window: Window, syntax: Syntax) -> Patch:
        """The patch for one instance; instances that are alike where it matters share one."""
        seen = self._seen(window, syntax)
        patch = self._patches.get(seen)
        if patch is None:
            patch = Patch(self.changes_for(Attributes(decoded(b"".join(seen), syntax))))
            if len(self._patches) >= _MOST_PATCHES:
                self._patches.clear()
            self._patches[seen] = patch
        return patch

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
        changes = self.changes_for(answer)
        if requested is not None:
            changes = changes.only({*requested, *answer})
        return changes.apply_to(answer)

    def apply_to_keys(self, keys: Attributes) -> tuple[Attributes, Undo]:
        """Query keys with the changes in them, and what turns the answers back.

        Raises:
            CoercionFailed: a rule could not be applied.
        """
        draft, applied = self.outcome(keys)
        changes = draft.changes()
        return changes.apply_to(keys), undo(keys, changes, applied)


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
    patch = _ready(selected, context) if certain and not recorded else None
    return Plan(selected, context, patch, recorded, _looked(selected, recorded=recorded))


def _ready(rules: tuple[Rule, ...], context: Context) -> Patch | None:
    """The changes, if they are the same for every data set."""
    if any(action.reads for rule in rules for action in rule.then):
        return None
    try:
        draft = Draft(Attributes(), context, blind=True)
        run(rules, draft)
        return Patch(draft.changes())
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


def run(rules: tuple[Rule, ...], draft: Draft) -> tuple[Rule, ...]:
    """Apply rules in order to a draft whose data set is known; returns those that were applied.

    Raises:
        CoercionFailed: a rule could not be applied, and its failure is not to be passed over.
    """
    applied: list[Rule] = []
    for rule in rules:
        if not rule.when.holds(draft.context, draft):
            continue
        mark = draft.mark()
        draft.rule = rule.name
        try:
            for action in rule.then:
                action.apply(draft)
        except ValueError as error:
            metrics.RULES_FAILURES.labels(rule.name, rule.on_failure.value).inc()
            if rule.on_failure is not OnFailure.PASS:
                quarantine = rule.on_failure is OnFailure.QUARANTINE
                raise CoercionFailed(rule.name, str(error), quarantine=quarantine) from error
            draft.back_to(mark)
            continue
        applied.append(rule)
        if rule.stop:
            break
    return tuple(applied)

"""Lint: what a rule file says that it can hardly mean. Warnings only; such a file still works."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.coercion.actions import Default, Map, Replace
from gateway.coercion.conditions import ALWAYS, All, AnyCondition, Not, OneOf, Title
from gateway.coercion.every_action import AnyAction
from gateway.coercion.identity import RemapUIDs
from gateway.coercion.rules import Rule, RuleSet, Where
from gateway.coercion.sources import FromLeading, Policy
from gateway.dicom.tags import keyword_of


def lint(rules: RuleSet) -> list[str]:
    """Every warning, each with the names of the rules it is about."""
    found: list[str] = []
    for where in Where:
        here = rules.at(where)
        found += [*_unreachable(here), *_overwritten(here, where), *_out_of_place(here, where)]
    enabled = tuple(rule for rule in rules.rules if rule.enabled)
    found += [*_impossible(enabled), *_twice(enabled)]
    return list(dict.fromkeys(found))


def _unreachable(rules: tuple[Rule, ...]) -> Iterator[str]:
    for number, rule in enumerate(rules):
        for before in rules[:number]:
            if before.stop and _covers(before.when, rule.when):
                yield f"{_named(rule)} is never reached: {_named(before)} stops before it"
                break


def _covers(first: AnyCondition, second: AnyCondition) -> bool:
    """Whether the first surely holds wherever the second does."""
    if first in {ALWAYS, second}:
        return True
    if isinstance(second, All):
        return any(_covers(first, part) for part in second.parts)
    if isinstance(first, Title) and isinstance(second, Title) and first.side == second.side:
        return isinstance(second.test, OneOf) and all(first.test.accepts(one) for one in second.test.values)
    return False


def _overwritten(rules: tuple[Rule, ...], where: Where) -> Iterator[str]:
    for number, rule in enumerate(rules):
        for later in rules[number + 1 :]:
            if not _covers(later.when, rule.when):
                continue
            lost = frozenset().union(*(one.writes for one in rule.then)) & _sets_anew(later)
            if lost and rule.line:
                names = ", ".join(sorted(keyword_of(tag) for tag in lost)[:4])
                yield f"what {_named(rule)} does to {names} ({where.value}) is overwritten by {_named(later)}"


def _sets_anew(rule: Rule) -> frozenset[int]:
    """Tags that a rule always sets without looking at what they were."""
    tags: set[int] = set()
    for action in rule.then:
        sure = not isinstance(action, Default | FromLeading)
        tags |= (action.writes - action.reads) if sure else set()
    read = frozenset().union(*(action.reads for action in rule.then))
    return frozenset(tags - read)


def _out_of_place(rules: tuple[Rule, ...], where: Where) -> Iterator[str]:
    for rule in rules:
        for action in rule.then:
            if where is Where.KEYS and isinstance(action, FromLeading):
                yield f"{_named(rule)} asks for the leading archive's attributes, which query keys do not have"
            if where in {Where.KEYS, Where.ANSWERS} and isinstance(action, RemapUIDs):
                yield f"{_named(rule)} changes UIDs in {where.value}: a retrieve by the new UIDs will find nothing"
            if where is Where.KEYS and _one_way(action):
                yield f"{_named(rule)} replaces query keys without an 'undo': answers keep the replaced values"


def _one_way(action: AnyAction) -> bool:
    if isinstance(action, Map):
        return len(action.table.backwards) < len(action.table.values)
    return isinstance(action, Replace) and action.back is None


def _impossible(rules: tuple[Rule, ...]) -> Iterator[str]:
    for rule in rules:
        parts = rule.when.parts if isinstance(rule.when, All) else (rule.when,)
        for number, one in enumerate(parts):
            if any(_exclude(one, other) for other in parts[:number]):
                yield f"{_named(rule)} can never apply: its conditions exclude each other"
        if any(isinstance(one, FromLeading) and one.policy is Policy.PRESERVE for one in rule.then):
            yield f"{_named(rule)} takes attributes with policy preserve, which changes nothing"


def _exclude(one: AnyCondition, other: AnyCondition) -> bool:
    if Not(one) == other or one == Not(other):
        return True
    if not (isinstance(one, Title) and isinstance(other, Title) and one.side == other.side):
        return False
    both = isinstance(one.test, OneOf) and isinstance(other.test, OneOf)
    return both and not set(one.test.values) & set(other.test.values)  # type: ignore[union-attr]


def _twice(rules: tuple[Rule, ...]) -> Iterator[str]:
    for number, rule in enumerate(rules):
        for before in rules[:number]:
            if (rule.when, rule.then) == (before.when, before.then) and rule.where & before.where and rule.then:
                yield f"{_named(rule)} does the same as {_named(before)}"
        if len(set(rule.then)) < len(rule.then):
            yield f"{_named(rule)} has the same action twice"
        if not rule.then:
            yield f"{_named(rule)} does nothing"


def _named(rule: Rule) -> str:
    return f"rule {rule.name}" + (f" (line {rule.line})" if rule.line else " (built in)")

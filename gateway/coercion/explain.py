"""Explanations for the admin: which rules would apply and why the others not, and what they would change."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.coercion.changes import UTF8
from gateway.coercion.conditions import (
    All,
    Any,
    AnyCondition,
    Attribute,
    Code,
    Empty,
    Host,
    Not,
    OneOf,
    Present,
    Regex,
    Title,
    Verdict,
)
from gateway.coercion.draft import Context, Draft, text_of
from gateway.coercion.engine import Plan
from gateway.coercion.rules import Rule, RuleSet, Where
from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import SpecificCharacterSet, keyword_of


@dataclass(frozen=True)
class Explained:
    """One rule's part in an operation.

    Attributes:
        verdict: ``applies``, ``depends`` on the data set, ``skipped``.
        why: in words; empty where a rule applies without a condition.
    """

    rule: Rule
    verdict: str
    why: str


def explain(rules: RuleSet, where: Where, context: Context, attributes: Attributes | None = None) -> list[Explained]:
    """Every rule in order, with what becomes of it. Without attributes, conditions on them are left open."""
    draft = None if attributes is None else Draft(attributes, context)
    found: list[Explained] = []
    stopped = ""
    for rule in rules.rules:
        one = _one(rule, where, context, draft, stopped)
        found.append(one)
        if one.verdict == "applies" and rule.stop:
            stopped = rule.name
    return found


def _one(rule: Rule, where: Where, context: Context, draft: Draft | None, stopped: str) -> Explained:
    if not rule.enabled:
        return Explained(rule, "skipped", "not enabled")
    if where not in rule.where:
        return Explained(rule, "skipped", "is for " + ", ".join(one.value for one in Where if one in rule.where))
    if stopped:
        return Explained(rule, "skipped", f"rule {stopped} stops before it")
    verdict = rule.when.holds(context, draft)
    why = "; ".join(reasons(rule.when, context, draft, verdict))
    return Explained(rule, {True: "applies", False: "skipped", None: "depends"}[verdict], why)


def reasons(condition: AnyCondition, context: Context, draft: Draft | None, verdict: Verdict) -> list[str]:
    """The parts of a condition that decide its verdict, in words."""
    match condition:
        case All(parts) | Any(parts):
            wanted = [part for part in parts if part.holds(context, draft) is verdict] or list(parts)
            return [text for part in wanted for text in reasons(part, context, draft, part.holds(context, draft))]
        case Not(part):
            inner = part.holds(context, draft)
            return [f"not ({text})" if verdict is None else text for text in reasons(part, context, draft, inner)]
        case _:
            return [_leaf(condition, context, verdict)]


def _leaf(condition: Title | Host | Attribute, context: Context, verdict: Verdict) -> str:
    link = {True: "is", False: "is not", None: "may be"}[verdict]
    match condition:
        case Title(side, test):
            is_ = context.sending if side == "sending" else context.receiving
            return f"{side} {is_ or '(unknown)'} {link} {_words(test)}"
        case Host(names):
            return f"host {context.host or '(unknown)'} {link} in {', '.join(names)}"
        case Attribute(path, test):
            return f"{path} {link} {_words(test)}"


def _words(test: OneOf | Regex | Empty | Present | Code) -> str:
    match test:
        case OneOf(values):
            return " or ".join(values)
        case Regex(pattern):
            return f"like {pattern.pattern}"
        case Empty(wanted):
            return "empty" if wanted else "with a value"
        case Present(wanted):
            return "present" if wanted else "absent"
        case Code(value, scheme):
            return f"code {value}" + (f" of {scheme}" if scheme else "")


@dataclass(frozen=True)
class Difference:
    """One attribute before and after; None where it was or is absent."""

    tag: int
    before: str | None
    after: str | None
    rule: str

    @property
    def keyword(self) -> str:
        """The element keyword, or the tag where there is none."""
        return keyword_of(self.tag)


def differences(plan: Plan, attributes: Attributes, *, charset: bool = True) -> list[Difference]:
    """What a plan would change in one data set, attribute by attribute.

    Args:
        charset: tell of a change of the character set as well.

    Raises:
        CoercionFailed: a rule could not be applied.
    """
    draft, _ = plan.outcome(attributes)
    changes = draft.changes()
    after = changes.apply_to(attributes)
    found = [
        Difference(tag, shown(attributes, tag), shown(after, tag), draft.author(tag) or "original attributes")
        for tag in changes.tags
    ]
    if charset and after.terms != attributes.terms:
        found.insert(0, Difference(SpecificCharacterSet, _terms(attributes), _terms(after), "character set"))
    return found


def _terms(attributes: Attributes) -> str | None:
    return "\\".join(attributes.terms) or None


def shown(attributes: Attributes, tag: int) -> str | None:
    """A value as a person reads it; a sequence by its items."""
    if tag not in attributes:
        return None
    if attributes[tag].vr == "SQ":
        return "; ".join(_item(one) for one in attributes.sequence(tag)) or "(no item)"
    text = text_of(attributes, tag)
    size = len(attributes[tag].value)
    return text if text or not size else f"({size} bytes)"


def _item(item: Attributes) -> str:
    in_utf8 = item.in_charset(UTF8)
    return "{" + ", ".join(f"{keyword_of(t)}={shown(in_utf8, t)}" for t in item if t != SpecificCharacterSet) + "}"

"""The way back from answers to coerced query keys: the asker sees the keys that were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.coercion.actions import Map, Replace, change_values
from gateway.coercion.changes import Changes
from gateway.coercion.draft import Context, Draft
from gateway.coercion.rules import Rule
from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import SpecificCharacterSet

Undo = Callable[[Attributes], Attributes]
"""Turns an answer to coerced keys into one to the keys that were asked."""


def undo(asked: Attributes, changes: Changes, applied: Iterable[Rule]) -> Undo:
    """What gives each answer the asker's own keys back.

    A key that a rule gave another value gets the asked one back where the answer has exactly the coerced one. A value
    mapped by a table is mapped back where only one key has it, and one replaced by a pattern by the ``undo`` beside it;
    that holds for every answer, since a wildcard was asked in the same words. A key taken out is put back, one added
    is taken out.
    """
    added = frozenset(tag for tag in changes.tags if tag not in asked)
    removed = [tag for tag in changes.removed if tag in asked]
    given = [tag for tag in changes.values if tag in asked and tag != SpecificCharacterSet and asked.text(tag)]
    turns = [action for rule in applied for action in rule.then if isinstance(action, Map | Replace)]

    def back(answer: Attributes) -> Attributes:
        same = [tag for tag in given if answer.text(tag) == changes.values.text(tag)]
        restored = Changes(
            asked.only([*same, *(tag for tag in removed if tag not in answer)]), added & frozenset(answer)
        )
        turned = Draft(answer.without(same), Context())
        for action in reversed(turns):
            _turn_back(action, turned)
        return restored.apply_to(turned.changes().apply_to(answer))

    return back


def _turn_back(action: Map | Replace, draft: Draft) -> None:
    if isinstance(action, Map):
        keys = action.table.backwards
        change_values(draft, action.path, lambda one: keys.get(one, one))
    elif action.back is not None:
        pattern, text = action.back
        change_values(draft, action.path, lambda one: pattern.sub(text, one))

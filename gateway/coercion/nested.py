"""Changes inside sequences: the items are taken apart, changed, and the sequence is put back whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.coercion.changes import UTF8, sequence_of
from gateway.coercion.draft import Draft
from gateway.coercion.paths import Path, Step
from gateway.dicom.attributes import Attributes, Element

Change = Callable[[Attributes], Mapping[int, Element]]
"""Makes the elements of a data set or item from those that were in it; text in ISO_IR 192."""


def change_items(draft: Draft, path: Path, change: Change, *, make: bool = True) -> None:
    """Apply a change to every data set in which the attribute of a path stands or may stand.

    Args:
        make: an item that the path numbers, and that would be the next one, is made.

    Raises:
        ValueError: the path numbers an item that neither is there nor is the next one.
    """
    if not path.nested:
        before = draft.holder(path.tag)
        draft.put(path.tag, change(before)[path.tag])
        return
    holder = draft.holder(path.top)
    draft.put(path.top, sequence_of(_changed(holder, path.steps, change, make=make)))


def _changed(holder: Attributes, steps: tuple[Step, ...], change: Change, *, make: bool) -> list[Attributes]:
    """The items of the sequence named by the first step, after the change."""
    step, rest = steps[0], steps[1:]
    items = list(holder.sequence(step.tag))
    if make and step.item is not None and step.item == len(items):
        items.append(Attributes())
    if step.item is not None and step.item >= len(items):
        if make:
            raise ValueError(f"there is no item {step.item}")
        return items
    for number in range(len(items)) if step.item is None else [step.item]:
        one = items[number].in_charset(UTF8)
        if len(rest) == 1:
            items[number] = Attributes(change(one))
        elif make or rest[0].tag in one:
            items[number] = Attributes({**one, rest[0].tag: sequence_of(_changed(one, rest, change, make=make))})
    return items

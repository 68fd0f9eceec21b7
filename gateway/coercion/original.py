"""Original Attributes Sequence (0400,0561): what was changed, by which rule, and from which source (PS3.3 C.12.1).

One item for each rule that changed something: Modified Attributes Sequence holds the values as they were; Modifying
System names this gateway and the rule; Source of Previous Values is the application entity the data set came from.
An item that says the same as one that is there is not added again, and there are at most 32 items and 256 KiB: the
first, which has the values of the modality, and the latest ones stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.coercion.changes import UTF8, sequence_of
from gateway.coercion.draft import Draft
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.tags import SpecificCharacterSet, tag_of

ORIGINAL_ATTRIBUTES = tag_of("OriginalAttributesSequence")
MODIFIED = tag_of("ModifiedAttributesSequence")
_WHEN = tag_of("AttributeModificationDateTime")
_MOST_ITEMS = 32
_MOST_BYTES = 256 * 1024
_MOST_VALUE = 16 * 1024


def record(draft: Draft) -> None:
    """Add what the draft changes to the draft's own Original Attributes Sequence."""
    changes = draft.changes()
    by_rule: dict[str, list[int]] = {}
    for tag in changes.tags:
        if tag in draft.base and tag != ORIGINAL_ATTRIBUTES:
            by_rule.setdefault(draft.author(tag), []).append(tag)
    before = list(draft.holder(ORIGINAL_ATTRIBUTES).sequence(ORIGINAL_ATTRIBUTES))
    known = {_essence(one) for one in before}
    added = [item for rule, tags in by_rule.items() if _essence(item := _item(draft, rule, tags)) not in known]
    if added:
        draft.put(ORIGINAL_ATTRIBUTES, _bounded([*before, *added]))


def _item(draft: Draft, rule: str, tags: Iterable[int]) -> Attributes:
    context = draft.context
    at = (context.at or datetime.now(UTC)).astimezone(UTC)
    described = Attributes.of(
        {
            "SourceOfPreviousValues": context.source or context.sending,
            "AttributeModificationDateTime": at.strftime("%Y%m%d%H%M%S") + "+0000",
            "ModifyingSystem": f"{context.system or context.receiving} {rule}".strip()[:64],
            "ReasonForTheAttributeModification": "COERCE",
        }
    )
    old = draft.base.only(tag for tag in tags if len(draft.base[tag].value) <= _MOST_VALUE)
    return Attributes({**described.in_charset(UTF8), MODIFIED: sequence_of([old])})


def _essence(item: Attributes) -> Attributes:
    """What two items have in common that say the same at different times."""
    return item.in_charset(UTF8).without([_WHEN, SpecificCharacterSet])


def _bounded(items: list[Attributes]) -> Element:
    kept = items
    while True:
        element = sequence_of(kept)
        if len(kept) <= _MOST_ITEMS and (len(element.value) <= _MOST_BYTES or len(kept) <= 2):
            return element
        kept = [kept[0], *kept[2:]]

"""Which studies differ from the leading archive's idea of them, and in what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.explain import Difference, differences
from gateway.coercion.rules import Rule, RuleSet, Where
from gateway.coercion.sources import FromLeading, Policy
from gateway.dicom.attributes import Attributes

Studies = Callable[[Sequence[str]], Mapping[str, Attributes]]
"""Patient and study attributes by Study Instance UID, of the studies that are known."""

RULES = RuleSet(
    (
        Rule(
            name="reconcile",
            where=frozenset({Where.ANSWERS, Where.RECEIVED}),
            then=(FromLeading(Policy.MERGE, ("patient", "study")),),
        ),
    ),
    version="reconcile",
)
"""The built-in rule alone: other rules may be for one receiver only, and are no truth about the study."""


@dataclass(frozen=True)
class StudyDifference:
    """One study that is known otherwise.

    Attributes:
        leading: what the leading archive says of it.
        changes: attribute by attribute; before is local, after is the leading archive's.
    """

    study_instance_uid: str
    leading: Attributes
    changes: tuple[Difference, ...]


def compare(uids: Sequence[str], local: Studies, leading: Studies, batch: int = 100) -> Iterator[list[StudyDifference]]:
    """The studies that differ, batch by batch; an empty list says that a batch went by without one.

    Attributes that are empty in the leading archive are no difference: they would not be taken over.

    Raises:
        UpstreamError: the leading archive could not tell.
    """
    for start in range(0, len(uids), batch):
        some = uids[start : start + batch]
        here, there = local(some), leading(some)
        found = (_difference(uid, here[uid], there[uid]) for uid in some if uid in here and uid in there)
        yield [one for one in found if one.changes]


def _difference(uid: str, local: Attributes, leading: Attributes) -> StudyDifference:
    made = plan(RULES, Where.ANSWERS, Context(leading=leading))
    return StudyDifference(uid, leading, tuple(differences(made, local, charset=False)))

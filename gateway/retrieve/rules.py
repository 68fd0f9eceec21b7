"""The coercion rules as a retrieve uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.rules import RuleSet, Where
from gateway.dicom.attributes import Attributes
from gateway.retrieve.ports import Coerce, Recipient


@dataclass(frozen=True)
class RulesForSent:
    """The :class:`~gateway.retrieve.ports.Coercion` of a gateway.

    Attributes:
        rules: the rules in force; asked for each study, so that an edit holds from the next one on.
        aet: our AE title.
    """

    rules: Callable[[], RuleSet]
    aet: str

    def for_study(self, leading: Attributes | None, recipient: Recipient) -> Coerce:
        """Decide which rules apply to what is sent of a study."""
        context = Context(sending=self.aet, receiving=recipient.aet, host=recipient.host, leading=leading)
        return plan(self.rules(), Where.SENT, context).apply_to_instance

"""Conditions: when a rule applies. Values that print back to the YAML they came from, and answer yes, no or unknown.

Unknown (None) is the answer to a question about an attribute while only the association is known; a plan is made from
such answers. Negation and combination follow Kleene's three-valued logic, so a plan may leave a rule out only for sure.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol

from gateway.coercion.draft import Context, Draft, text_of, values_of
from gateway.coercion.paths import Path
from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import tag_of

Verdict = bool | None
_CodeValue, _Scheme = tag_of("CodeValue"), tag_of("CodingSchemeDesignator")
_LONG_CODE, _URN_CODE = tag_of("LongCodeValue"), tag_of("URNCodeValue")


class Test(Protocol):
    """A question to the values of one attribute."""

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """Whether the attribute passes in any of the data sets it may stand in."""


@dataclass(frozen=True)
class OneOf:
    """Any value of the attribute is one of these, exactly; ``equals`` is the case of one."""

    values: tuple[str, ...]

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """Compare each single value, and the whole of a multi-valued one."""
        return any(
            value in self.values for one in holders for value in (*values_of(one, tag), text_of(one, tag)) if value
        )

    def accepts(self, text: str) -> bool:
        """The same question to a plain text."""
        return text in self.values


@dataclass(frozen=True)
class Regex:
    """Any value of the attribute matches the whole pattern (Python's syntax)."""

    pattern: re.Pattern[str]

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """Match each single value."""
        return any(self.pattern.fullmatch(value) for one in holders for value in values_of(one, tag))

    def accepts(self, text: str) -> bool:
        """The same question to a plain text."""
        return self.pattern.fullmatch(text) is not None


@dataclass(frozen=True)
class Empty:
    """The attribute is absent or has no value; or, with ``wanted`` False, it has one."""

    wanted: bool = True

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """A sequence has a value when it has an item."""
        return self.wanted is not any(tag in one and one[tag].value.strip(b" \0") for one in holders)


@dataclass(frozen=True)
class Present:
    """The attribute is there, with or without a value; or, with ``wanted`` False, it is not."""

    wanted: bool = True

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """Look for the element only."""
        return self.wanted is any(tag in one for one in holders)


@dataclass(frozen=True)
class Code:
    """A code sequence has this code (PS3.3 8.3); ``scheme`` may be left open."""

    value: str
    scheme: str = ""

    def __call__(self, holders: list[Attributes], tag: int) -> bool:
        """Look at every item of the sequence."""
        items = [item for one in holders for item in one.sequence(tag)]
        return any(self.value in self._values(one) and self.scheme in {"", one.text(_Scheme)} for one in items)

    @staticmethod
    def _values(code: Attributes) -> set[str]:
        return {code.text(_CodeValue), code.text(_LONG_CODE), code.text(_URN_CODE)} - {""}


class Condition(Protocol):
    """What stands under ``when``."""

    def holds(self, context: Context, draft: Draft | None) -> Verdict:
        """Whether it holds; None when that depends on attributes and ``draft`` is None."""


@dataclass(frozen=True)
class Title:
    """The AE title of the ``sending`` or ``receiving`` side passes a test."""

    side: str
    test: OneOf | Regex

    def holds(self, context: Context, draft: Draft | None) -> Verdict:  # noqa: ARG002
        """Known as soon as the association is."""
        return self.test.accepts(context.sending if self.side == "sending" else context.receiving)


@dataclass(frozen=True)
class Host:
    """The peer's address is in one of these networks, or is one of these names."""

    names: tuple[str, ...]

    def holds(self, context: Context, draft: Draft | None) -> Verdict:  # noqa: ARG002
        """Known as soon as the association is."""
        return any(context.host == name or _inside(context.host, name) for name in self.names)


def _inside(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


@dataclass(frozen=True)
class Attribute:
    """An attribute passes a test."""

    path: Path
    test: OneOf | Regex | Empty | Present | Code

    def holds(self, context: Context, draft: Draft | None) -> Verdict:  # noqa: ARG002
        """Unknown until there is a data set. An item that is not there passes no test but those for absence."""
        return None if draft is None else self.test(draft.holders(self.path), self.path.tag)


@dataclass(frozen=True)
class All:
    """Every part holds; with no part it always holds."""

    parts: tuple[AnyCondition, ...] = ()

    def holds(self, context: Context, draft: Draft | None) -> Verdict:
        """False as soon as one part is."""
        verdicts = [part.holds(context, draft) for part in self.parts]
        return False if False in verdicts else None if None in verdicts else True


@dataclass(frozen=True)
class Any:
    """At least one part holds."""

    parts: tuple[AnyCondition, ...]

    def holds(self, context: Context, draft: Draft | None) -> Verdict:
        """True as soon as one part is."""
        verdicts = [part.holds(context, draft) for part in self.parts]
        return True if True in verdicts else None if None in verdicts else False


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: AnyCondition

    def holds(self, context: Context, draft: Draft | None) -> Verdict:
        """Unknown stays unknown."""
        verdict = self.part.holds(context, draft)
        return None if verdict is None else not verdict


AnyCondition = Title | Host | Attribute | All | Any | Not
ALWAYS = All()


def reads_of(condition: AnyCondition) -> frozenset[int]:
    """Top-level tags of the data set that a condition looks at."""
    match condition:
        case Attribute(path):
            return frozenset({path.top})
        case All(parts) | Any(parts):
            return frozenset().union(*(reads_of(part) for part in parts))
        case Not(part):
            return reads_of(part)
        case _:
            return frozenset()

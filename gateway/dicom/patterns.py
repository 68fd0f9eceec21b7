"""One value of a matching key as text: taken literally, or with the wild cards ``*`` and ``?`` (PS3.4 C.2.2.2.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from unicodedata import normalize


@dataclass(frozen=True)
class Literal:
    """A value to be equal to, in comparable form."""

    text: str

    def matches(self, value: str) -> bool:
        """Whether a value in comparable form is this one."""
        return value == self.text


@dataclass(frozen=True)
class WildCard:
    """A value with wild cards, in comparable form.

    Attributes:
        text: the pattern; ``*`` is any run of characters, ``?`` any one.
        open_ended: also followed by any further components of a name.
    """

    text: str
    open_ended: bool = False

    @property
    def prefix(self) -> str:
        """What every matching value begins with: enough to seek in an index."""
        return re.split(r"[*?]", self.text, maxsplit=1)[0]

    @property
    def is_prefix(self) -> bool:
        """Whether beginning with ``prefix`` is all there is to match."""
        return not self.open_ended and self.text == f"{self.prefix}*"

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        first, *rest = (_one_each(run) for run in re.split(r"\*+", self.text))
        # Atomic groups take the leftmost fit of each run and never come back, so that `*a*a*a*b` is no trap.
        middle = "".join(f"(?>.*?{run})" for run in rest[:-1])
        last = f".*{rest[-1]}" if rest else ""
        return re.compile(first + middle + last + (r"(?:\^.*)?" if self.open_ended else ""), re.DOTALL)

    def matches(self, value: str) -> bool:
        """Whether a value in comparable form fits."""
        return self._regex.fullmatch(value) is not None


Pattern = Literal | WildCard


def _one_each(run: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in run)


def comparable(text: str) -> str:
    """Text in the one composed form of Unicode; case is kept."""
    return text if text.isascii() else normalize("NFC", text)


def pattern(text: str) -> Pattern:
    """The pattern of a key value that is already in comparable form."""
    return WildCard(text) if "*" in text or "?" in text else Literal(text)


def name_pattern(group: str) -> Pattern | None:
    """The pattern of one folded component group of a key; None when it restricts nothing.

    ``DOE^*`` is also matched by ``DOE``, since empty components at the end of a name carry no meaning.
    """
    parts = group.split("^")
    kept = len(parts)
    while kept > 1 and parts[kept - 1] == "*":
        kept -= 1
    text = "^".join(parts[:kept])
    if not text.strip("*"):
        return None
    if kept == len(parts) or text.endswith("*"):
        return pattern(text)
    return WildCard(text, open_ended=True)


__all__ = ["Literal", "Pattern", "WildCard", "comparable", "name_pattern", "pattern"]

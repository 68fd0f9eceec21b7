"""Formats: text made from other attributes, such as ``{PatientID|upper}-{StudyDate|slice:0:4}``.

Between braces stands an attribute path, ``leading.`` and a path for the leading archive's value, or ``sending``,
``receiving`` or ``host``; behind each ``|`` a function with its arguments behind ``:``. Braces themselves are doubled.
There are these functions and no others: a rule file is data, not a program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.coercion.draft import Draft, text_of
from gateway.coercion.paths import Path, parse_path

_PART = re.compile(r"\{\{|\}\}|\{(?P<reference>[^{}]*)\}|(?P<text>[^{}]+)|(?P<stray>[{}])")
_FACTS = ("sending", "receiving", "host")


class BadFormat(ValueError):
    """A text that is no format."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


class CannotFormat(ValueError):
    """A value that a function cannot work on, such as a date shift of what is no date."""


def uid_from(text: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that is always the same for the same text."""
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]) | 1 << 120}"


def shifted(text: str, days: int) -> str:
    """A DA or DT value some days later; what follows the date stays.

    Raises:
        CannotFormat: the text does not begin with a date.
    """
    if not text:
        return ""
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
        return (day + timedelta(days=days)).strftime("%Y%m%d") + text[8:]
    except (ValueError, OverflowError):
        raise CannotFormat("shift needs a date") from None


def _slice(text: str, *bounds: str) -> str:
    first, last = ([int(one) if one else None for one in bounds] + [None])[:2]
    return text[first:last]


_FUNCTIONS: dict[str, tuple[Callable[..., str], re.Pattern[str], str]] = {
    "upper": (str.upper, re.compile(r""), "upper"),
    "lower": (str.lower, re.compile(r""), "lower"),
    "trim": (lambda text: " ".join(text.split()), re.compile(r""), "trim"),
    "slice": (_slice, re.compile(r":-?\d*(:-?\d*)?"), "slice:0:8"),
    "shift": (lambda text, days: shifted(text, int(days)), re.compile(r":[+-]?\d+"), "shift:-30 (days)"),
    "hash": (
        lambda text, size="16": hashlib.sha256(text.encode()).hexdigest()[: int(size)] if text else "",
        re.compile(r"(:([1-9]|[1-5]\d|6[0-4]))?"),
        "hash or hash:8 (1 to 64 hex digits)",
    ),
    "uid": (lambda text: uid_from(text) if text else "", re.compile(r""), "uid"),
    "default": (lambda text, other: text or other, re.compile(r":[^:]*"), "default:UNKNOWN"),
}


@dataclass(frozen=True)
class Function:
    """One step of a pipeline: its name and its arguments as they were written."""

    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ":".join((self.name, *self.arguments))

    def __call__(self, text: str) -> str:
        """The text after this step."""
        return _FUNCTIONS[self.name][0](text, *self.arguments)


@dataclass(frozen=True)
class Reference:
    """A value taken from the data set, the leading archive or the association, through functions.

    Attributes:
        source: an attribute path, or ``sending``, ``receiving`` or ``host``.
        leading: the path is one of the leading archive's attributes.
    """

    source: Path | str
    functions: tuple[Function, ...] = ()
    leading: bool = False

    def __str__(self) -> str:
        return (
            "{" + "|".join([("leading." if self.leading else "") + str(self.source), *map(str, self.functions)]) + "}"
        )

    def resolve(self, draft: Draft) -> str:
        """The text to put in.

        Raises:
            CannotFormat: a function cannot work on the value.
        """
        text = self._value(draft)
        for function in self.functions:
            text = function(text)
        return text

    def _value(self, draft: Draft) -> str:
        if isinstance(self.source, str):
            return str(getattr(draft.context, self.source))
        if not self.leading:
            return draft.text(self.source)
        known = draft.context.leading
        holders = self.source.holders(known) if known is not None else ()
        return next((text for one in holders if (text := text_of(one, self.source.tag))), "")


@dataclass(frozen=True)
class Format:
    """Literal text and references, in order."""

    parts: tuple[str | Reference, ...]

    def __str__(self) -> str:
        return "".join(
            one.replace("{", "{{").replace("}", "}}") if isinstance(one, str) else str(one) for one in self.parts
        )

    @property
    def reads(self) -> frozenset[int]:
        """Top-level tags of the data set that are looked at."""
        references = [one for one in self.parts if isinstance(one, Reference) and not one.leading]
        return frozenset(one.source.top for one in references if isinstance(one.source, Path))

    @property
    def asks_leading(self) -> bool:
        """Whether a value of the leading archive is put in."""
        return any(isinstance(one, Reference) and one.leading for one in self.parts)

    def fill(self, draft: Draft) -> str:
        """The text for one data set.

        Raises:
            CannotFormat: a function cannot work on a value.
        """
        return "".join(one if isinstance(one, str) else one.resolve(draft) for one in self.parts)


def parse_format(text: str) -> Format:
    """Read a format.

    Raises:
        BadFormat: braces that do not match, an unknown function, wrong arguments.
        BadPath: an unknown keyword.
    """
    parts: list[str | Reference] = []
    for match in _PART.finditer(text):
        if match["stray"]:
            raise BadFormat(f"unmatched {match['stray']!r}", "double it to mean the character itself")
        literal = match["text"] or {"{{": "{", "}}": "}"}.get(match[0], "")
        if match["reference"] is not None:
            parts.append(_reference(match["reference"]))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += literal
        else:
            parts.append(literal)
    return Format(tuple(parts))


def _reference(text: str) -> Reference:
    source, *functions = text.split("|")
    leading = source.startswith("leading.")
    path = source if source in _FACTS else parse_path(source.removeprefix("leading."))
    return Reference(path, tuple(_function(one) for one in functions), leading)


def _function(text: str) -> Function:
    name, *arguments = text.split(":")
    if name not in _FUNCTIONS:
        raise BadFormat(f"unknown function {name!r}", f"one of {', '.join(_FUNCTIONS)}")
    _, pattern, example = _FUNCTIONS[name]
    if not pattern.fullmatch(text[len(name) :]):
        raise BadFormat(f"{text!r} is not how {name} is used", f"such as {example}")
    return Function(name, tuple(arguments))

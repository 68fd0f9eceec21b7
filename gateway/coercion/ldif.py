"""LDIF (RFC 2849) as far as directory exports use it: entries with their attributes, long lines unfolded."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One entry; attribute names are folded to lower case, since LDAP does not tell them apart.

    Attributes:
        line: where it begins, counted from 1.
    """

    line: int
    values: dict[str, list[str]] = field(default_factory=dict)

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return self.values.get(name.lower(), [])

    def one(self, name: str, default: str = "") -> str:
        """The first value of an attribute."""
        return next(iter(self.all(name)), default)

    def is_a(self, object_class: str) -> bool:
        """Whether the entry has an object class."""
        return object_class.lower() in (one.lower() for one in self.all("objectClass"))


def entries(text: str) -> Iterator[Entry]:
    """The entries of an LDIF text; what is no attribute line is passed over."""
    entry: Entry | None = None
    for number, line in _unfolded(text):
        if not line.strip():
            if entry is not None:
                yield entry
            entry = None
        elif ":" in line and not line.startswith("#"):
            entry = entry or Entry(number)
            name, value = line.split(":", 1)
            entry.values.setdefault(name.strip().split(";")[0].lower(), []).append(_decoded(value))
    if entry is not None:
        yield entry


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    held, at = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(" ") and at:
            held += line[1:]
            continue
        if at:
            yield at, held
        held, at = line, number
    if at:
        yield at, held


def _decoded(value: str) -> str:
    if not value.startswith(":"):
        return value.strip()
    try:
        return base64.b64decode(value[1:].strip()).decode("utf-8", "replace")
    except binascii.Error:
        return value[1:].strip()

"""Person names made comparable: component groups, without case, accents and width (PS3.5 6.2.1, PS3.4 C.2.2.2.1).

A name has up to three component groups separated by ``=`` (alphabetic, ideographic, phonetic), each of up to five
components separated by ``^``. Names are compared group by group in *folded* form.
"""

from __future__ import annotations

import re
from unicodedata import normalize

_ACCENTS = re.compile("[\u0300-\u036f]")


def fold(text: str) -> str:
    """Text without case, Latin, Greek and Cyrillic accents, and width; folding twice changes nothing.

    Only the combining marks U+0300 to U+036F are dropped: the voiced sound marks of kana tell words apart. The Turkish
    dotless i is an i, whose capital it shares.
    """
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", normalize("NFKD", text))
    folded = _ACCENTS.sub("", normalize("NFKD", normalize("NFKC", bare).casefold())).replace("\u0131", "i")
    return normalize("NFKC", folded)


def groups(text: str) -> tuple[str, ...]:
    """The folded component groups of one name; empty components at the end of a group carry no meaning."""
    return tuple(_trimmed(group) for group in fold(text).split("="))


def _trimmed(group: str) -> str:
    if "^" not in group:
        return group.strip(" \0")
    return "^".join(part.strip(" \0") for part in group.split("^")).rstrip("^")


__all__ = ["fold", "groups"]

"""Who asks: the peer at the other end of an association, as rules and permissions see it."""

from __future__ import annotations

from dataclasses import dataclass


class InvalidAETitle(ValueError):
    """A text that is no AE title."""


def ae_title(text: str) -> str:
    """An AE title without the padding that carries no meaning (PS3.5 6.2, PS3.8 9.3.2).

    Raises:
        InvalidAETitle: empty, over 16 characters, or with a backslash, control or non-ASCII character.
    """
    title = text.strip(" ")
    if not 1 <= len(title) <= 16:
        raise InvalidAETitle("an AE title has 1 to 16 characters")
    if not title.isascii() or not title.isprintable() or "\\" in title:
        raise InvalidAETitle("an AE title has printable ASCII characters and no backslash")
    return title


@dataclass(frozen=True)
class Caller:
    """The requesting peer.

    Attributes:
        aet: its calling AE title.
        address: its network address as text.
        peer: the name of the configured peer it was recognised as, or empty.
        called: the AE title it called.
    """

    aet: str
    address: str = ""
    peer: str = ""
    called: str = ""

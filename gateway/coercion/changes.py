"""Changes: elements to be set and tags to be removed, the value every rule comes down to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from gateway.dicom import charset
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.encoding import item, write
from gateway.dicom.tags import SpecificCharacterSet

UTF8 = (charset.UTF8,)


@dataclass(frozen=True)
class Changes:
    """What is to be done to a data set, at its top level.

    Attributes:
        values: elements to be set, in the character set they declare. Specific Character Set itself is never a
            change: it follows from the values.
        removed: tags to be taken out.
        charset: what all text is to be written in, ISO_IR 192 where that cannot represent it; None: as it is.
    """

    values: Attributes
    removed: frozenset[int] = frozenset()
    charset: charset.Terms | None = None

    @cached_property
    def tags(self) -> tuple[int, ...]:
        """The tags touched, ascending; Specific Character Set is not among them."""
        return tuple(sorted(({*self.values} | self.removed) - {SpecificCharacterSet}))

    @property
    def last(self) -> int:
        """The greatest tag touched."""
        return max(self.tags, default=0)

    def __bool__(self) -> bool:
        return bool(self.tags) or self.charset is not None

    def only(self, tags: Iterable[int]) -> Changes:
        """The changes of these tags."""
        wanted = frozenset(tags)
        return Changes(self.values.only(wanted), self.removed & wanted, self.charset)

    def apply_to(self, attributes: Attributes) -> Attributes:
        """The data set after the changes, in its own character set where that can represent them, else ISO_IR 192."""
        kept = attributes.without(self.removed) if self.removed else attributes
        try:
            return _joined(kept, self.values, kept.terms if self.charset is None else self.charset)
        except charset.Unrepresentable:
            return _joined(kept, self.values, UTF8)


def _joined(kept: Attributes, values: Attributes, terms: charset.Terms) -> Attributes:
    written = values.in_charset(terms).without([SpecificCharacterSet])
    return Attributes({**kept.in_charset(terms), **written})


def sequence_of(items: Iterable[Attributes]) -> Element:
    """A sequence of these items in canonical form, its text in ISO_IR 192."""
    bodies = (one.in_charset(UTF8).without([SpecificCharacterSet]) for one in items)
    return Element("SQ", b"".join(item(write(body.items(), implicit=False)) for body in bodies))

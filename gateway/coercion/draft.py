"""A draft: one data set under coercion, and what the rules changed on top of it so far.

Changed values are kept in ISO_IR 192, which can hold them all; whether the data set's own character set can is found
out once, when the draft is put into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.coercion.changes import UTF8, Changes
from gateway.coercion.paths import Path
from gateway.dicom.attributes import STRING_VRS, Attributes, Element
from gateway.dicom.charset import Terms
from gateway.dicom.tags import SpecificCharacterSet

_DECLARED = Element("CS", b"ISO_IR 192")
_EMPTY = Attributes()


@dataclass(frozen=True)
class Context:
    """What rules may know besides the data set itself.

    Attributes:
        sending: AE title of the application entity that sends the data set.
        receiving: AE title of the one that receives it.
        host: network address of the peer, as text.
        local: patient and study attributes as the local archive has them; looked up for what an answer does not carry.
        leading: those of the leading archive; None when it does not know the study, or could not be asked.
        source: where the data set came from first, for Original Attributes Sequence; empty: ``sending``.
        system: who changes it, for Original Attributes Sequence; empty: ``receiving``.
        at: the time of the change, for Original Attributes Sequence; None: now.
    """

    sending: str = ""
    receiving: str = ""
    host: str = ""
    local: Attributes | None = None
    leading: Attributes | None = None
    source: str = ""
    system: str = ""
    at: datetime | None = None


def values_of(attributes: Attributes, tag: int) -> tuple[str, ...]:
    """The values of a string or number attribute as texts."""
    return attributes.texts(tag) or tuple(str(one) for one in attributes.numbers(tag))


def text_of(attributes: Attributes, tag: int) -> str:
    """The value of a string or number attribute as text; several are separated by backslashes."""
    return attributes.text(tag) or "\\".join(values_of(attributes, tag))


Mark = tuple[dict[int, Element | None], dict[int, str], Terms | None]


class Draft:
    """Reads see the changes made before them.

    Attributes:
        rule: the name of the rule at work.
        charset: what the whole data set is to be written in, when a rule says so.

    Args:
        blind: the data set is not known; then every change counts, also one that might change nothing.
    """

    def __init__(self, base: Attributes, context: Context, *, blind: bool = False) -> None:
        self.base = base
        self.context = context
        self.rule = ""
        self.charset: Terms | None = None
        self._blind = blind
        self._changed: dict[int, Element | None] = {}
        self._by: dict[int, str] = {}

    def holder(self, tag: int) -> Attributes:
        """One top-level attribute as it is now, in a data set of its own."""
        if tag in self._changed:
            element = self._changed[tag]
            return Attributes([(SpecificCharacterSet, _DECLARED), (tag, element)]) if element else _EMPTY
        known = self.base
        if tag not in known and self.context.local is not None and tag in self.context.local:
            known = self.context.local
        if tag not in known:
            return _EMPTY
        elements = [(tag, known[tag])]
        if SpecificCharacterSet in known:
            elements.append((SpecificCharacterSet, known[SpecificCharacterSet]))
        return Attributes(elements)

    def holders(self, path: Path) -> list[Attributes]:
        """The data sets in which the attribute of a path may stand now."""
        return list(path.holders(self.holder(path.top)))

    def text(self, path: Path) -> str:
        """The first text that stands at a path; empty when there is none."""
        return next((text for one in self.holders(path) if (text := text_of(one, path.tag))), "")

    def put(self, tag: int, element: Element) -> None:
        """Set a top-level attribute; text in ISO_IR 192, sequences in canonical form."""
        self._changed[tag] = element
        self._by[tag] = self.rule

    def remove(self, tag: int) -> None:
        """Take a top-level attribute out."""
        self._changed[tag] = None
        self._by[tag] = self.rule

    def tags(self) -> list[int]:
        """Every tag that is there now or was there, ascending."""
        return sorted({*self.base, *self._changed})

    def vr(self, tag: int) -> str:
        """The VR of an attribute as it is now; empty when it is not there."""
        element = self._changed[tag] if tag in self._changed else self.base.get(tag)
        return element.vr if element else ""

    def mark(self) -> Mark:
        """A point to come back to."""
        return dict(self._changed), dict(self._by), self.charset

    def back_to(self, mark: Mark) -> None:
        """Undo everything since a mark."""
        self._changed, self._by, self.charset = mark

    def author(self, tag: int) -> str:
        """The name of the rule that changed a tag last; empty when none did."""
        return self._by.get(tag, "")

    def changes(self) -> Changes:
        """What is different from the data set as it came."""
        values: dict[int, Element] = {}
        removed: set[int] = set()
        for tag, element in self._changed.items():
            if element is None:
                if self._blind or tag in self.base:
                    removed.add(tag)
            elif self._blind or not self._same(tag, element):
                values[tag] = element
        if any(not one.value.isascii() for one in values.values()):
            values[SpecificCharacterSet] = _DECLARED
        return Changes(Attributes(values), frozenset(removed), self.charset)

    def _same(self, tag: int, element: Element) -> bool:
        old = self.base.get(tag)
        if old is None or old.vr != element.vr:
            return False
        if not (old.value.isascii() and b"\x1b" not in old.value):
            own = [(SpecificCharacterSet, self.base[SpecificCharacterSet])] if SpecificCharacterSet in self.base else []
            old = Attributes([(tag, old), *own]).in_charset(UTF8)[tag]
        if old.vr in STRING_VRS:
            return old.value.rstrip(b" \0") == element.value.rstrip(b" \0")
        return old == element

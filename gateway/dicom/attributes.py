"""Attributes: an immutable data set without bulk data, the value that travels through the whole gateway.

Query identifiers, answers, patient and study attributes of the leading archive and heads of stored instances are
all :class:`Attributes`. Values stay as bytes until somebody asks for text, so an answer can go from the cache to
the wire undecoded; the encoded form is kept, since the same answer is sent many times.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from struct import pack, unpack
from typing import TypeVar, overload

from gateway.dicom import charset, encoding
from gateway.dicom.encoding import Element, MalformedDataset
from gateway.dicom.tags import SpecificCharacterSet, keyword_of, tag_of, vr_of

_T = TypeVar("_T")

TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose values Specific Character Set governs (PS3.5 6.1.2.2)."""

STRING_VRS = TEXT_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_SINGLE = frozenset({"LT", "ST", "UR", "UT"})  # a backslash is a character here (PS3.5 6.4)
_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d", "AT": "HH"}


class Attributes(Mapping[int, Element]):
    """A frozen data set in ascending order of tags.

    Equality is that of tags, VRs and value bytes. Private and unknown elements are kept as they came.
    """

    __slots__ = ("_elements", "_explicit", "_implicit")

    def __init__(self, elements: Mapping[int, Element] | Iterable[tuple[int, Element]] = ()) -> None:
        given = elements if type(elements) is dict else dict(elements)
        tags = sorted(given)  # and not the items, which would compare elements
        self._elements: dict[int, Element] = {tag: given[tag] for tag in tags} if tags != list(given) else given.copy()
        self._explicit: bytes | None = None
        self._implicit: bytes | None = None

    @classmethod
    def decode(cls, data: bytes | memoryview, *, implicit: bool) -> Attributes:
        """Read a whole little endian data set.

        Raises:
            MalformedDataset: the bytes are no data set.
        """
        return cls(encoding.read(data, implicit=implicit)[0])

    @classmethod
    def of(cls, values: Mapping[str, str | int | Iterable[str]], *, terms: charset.Terms = ()) -> Attributes:
        """Build from element keywords; text that needs it makes the character set ISO_IR 192.

        Raises:
            KeyError: an unknown keyword.
        """
        tagged = {tag_of(keyword): value for keyword, value in values.items()}
        texts = {
            tag: value if isinstance(value, str) else str(value) if isinstance(value, int) else "\\".join(value)
            for tag, value in tagged.items()
        }
        try:
            return cls._of_texts(texts, terms)
        except charset.Unrepresentable:
            return cls._of_texts(texts, (charset.UTF8,))

    @classmethod
    def _of_texts(cls, texts: Mapping[int, str], terms: charset.Terms) -> Attributes:
        elements = {tag: element_of(tag, text, terms) for tag, text in texts.items()}
        if terms:
            elements[SpecificCharacterSet] = element_of(SpecificCharacterSet, "\\".join(terms), ())
        return cls(elements)

    def encode(self, *, implicit: bool) -> bytes:
        """The little endian data set; computed once for each of the two syntaxes."""
        if implicit:
            if self._implicit is None:
                self._implicit = encoding.write(self._elements.items(), implicit=True)
            return self._implicit
        if self._explicit is None:
            self._explicit = encoding.write(self._elements.items(), implicit=False)
        return self._explicit

    def __getitem__(self, tag: int) -> Element:
        return self._elements[tag]

    def __iter__(self) -> Iterator[int]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    # Mapping would make these of the methods above, several times slower.
    def keys(self) -> KeysView[int]:
        """The tags, ascending."""
        return self._elements.keys()

    def values(self) -> ValuesView[Element]:
        """The elements in ascending order of their tags."""
        return self._elements.values()

    def items(self) -> ItemsView[int, Element]:
        """Tags and elements, ascending."""
        return self._elements.items()

    @overload
    def get(self, tag: int, /) -> Element | None: ...

    @overload
    def get(self, tag: int, /, default: Element | _T) -> Element | _T: ...

    def get(self, tag: int, /, default: object = None) -> object:
        """The element of a tag, or the default."""
        return self._elements.get(tag, default)

    def __contains__(self, tag: object) -> bool:
        return tag in self._elements

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and self._elements == other._elements

    def __hash__(self) -> int:
        return hash(self.encode(implicit=False))

    def __repr__(self) -> str:
        # Never the values: a repr ends up in logs and tracebacks.
        return f"<Attributes {', '.join(keyword_of(tag) for tag in self)}>"

    @property
    def terms(self) -> charset.Terms:
        """The defined terms of Specific Character Set."""
        element = self._elements.get(SpecificCharacterSet)
        if element is None or not element.value:
            return ()
        return tuple(term.strip(" \0") for term in element.value.decode("latin-1").split("\\"))

    def text(self, tag: int) -> str:
        """The value as Unicode without padding; empty when the attribute is absent, empty or not a string."""
        element = self._elements.get(tag)
        if element is None or element.vr not in STRING_VRS:
            return ""
        terms = self.terms if element.vr in TEXT_VRS else ()
        return strip(element.vr, charset.decode(element.value, terms))

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values of a multi-valued string attribute, each without padding; empty when there is none."""
        element = self._elements.get(tag)
        if element is None:
            return ()
        whole = self.text(tag)
        if not whole or element.vr in _SINGLE:
            return (whole,) if whole else ()
        return tuple(strip(element.vr, one) for one in whole.split("\\"))

    def numbers(self, tag: int) -> tuple[int | float, ...]:
        """The values of a binary numeric attribute; an AT value is one tag. Empty when absent or odd-sized."""
        element = self._elements.get(tag)
        code = _BINARY.get(element.vr) if element else None
        if element is None or code is None:
            return ()
        size = _SIZES[element.vr]
        if len(element.value) % size:
            return ()
        if element.vr == "AT":
            halves = unpack(f"<{len(element.value) // 2}H", element.value)
            return tuple(a << 16 | b for a, b in zip(halves[::2], halves[1::2], strict=True))
        return unpack(f"<{len(element.value) // size}{code}", element.value)

    def sequence(self, tag: int) -> tuple[Attributes, ...]:
        """The items of a sequence; they inherit this data set's character set (PS3.5 7.5.3)."""
        element = self._elements.get(tag)
        if element is None or element.vr != "SQ":
            return ()
        mine = self._elements.get(SpecificCharacterSet)
        inherited = {SpecificCharacterSet: mine} if mine else {}
        return tuple(Attributes({**inherited, **one}) for one in encoding.items(element.value))

    def only(self, tags: Iterable[int]) -> Attributes:
        """The attributes among ``tags``, and the character set they are written in."""
        wanted = tags if isinstance(tags, frozenset) else frozenset(tags)
        return Attributes(
            {tag: one for tag, one in self._elements.items() if tag in wanted or tag == SpecificCharacterSet}
        )

    def without(self, tags: Iterable[int]) -> Attributes:
        """All attributes but those of ``tags``."""
        dropped = frozenset(tags)
        return Attributes({tag: element for tag, element in self._elements.items() if tag not in dropped})

    def plus(self, elements: Mapping[int, Element]) -> Attributes:
        """These attributes with elements put over them as they are: ASCII, or in this character set."""
        return Attributes({**self._elements, **elements})

    def overlay(self, other: Attributes) -> Attributes:
        """These attributes with those of ``other`` put over them, in one character set.

        Where the two sets differ and ASCII does not do, the result is in ISO_IR 192.
        """
        if SpecificCharacterSet not in self._elements and SpecificCharacterSet not in other._elements:
            return Attributes({**self._elements, **other._elements})
        if other.terms == self.terms or other.is_ascii():
            mine = self._elements.get(SpecificCharacterSet)
            both = {**self._elements, **other._elements}  # our own
            both.pop(SpecificCharacterSet, None)
            return Attributes({**both, SpecificCharacterSet: mine} if mine else both)
        if self.is_ascii():
            return Attributes({**self._elements, **other})
        return Attributes({**self.in_charset((charset.UTF8,)), **other.in_charset((charset.UTF8,))})

    def is_ascii(self) -> bool:
        """Whether every text value, nested ones included, reads the same in every character set."""
        return all(
            element.value.isascii() and b"\x1b" not in element.value
            for element in self._elements.values()
            if element.vr in TEXT_VRS or element.vr == "SQ"
        )

    def in_charset(self, terms: charset.Terms) -> Attributes:
        """The same attributes written in another character set, Specific Character Set included.

        Raises:
            Unrepresentable: a text has characters that ``terms`` lack.
        """
        if terms == self.terms:
            return self
        converted = _convert(self._elements, self.terms, terms)
        converted.pop(SpecificCharacterSet, None)
        if terms:
            converted[SpecificCharacterSet] = element_of(SpecificCharacterSet, "\\".join(terms), ())
        return Attributes(converted)


_SIZES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8, "FL": 4, "FD": 8, "AT": 4}


def _convert(elements: Mapping[int, Element], old: charset.Terms, new: charset.Terms) -> dict[int, Element]:
    converted: dict[int, Element] = {}
    for tag, (vr, value) in elements.items():
        if vr in TEXT_VRS and not (value.isascii() and b"\x1b" not in value):
            value = pad(vr, charset.encode(charset.decode(value, old).rstrip(" \0"), new))  # noqa: PLW2901
        elif vr == "SQ":
            value = b"".join(_convert_item(one, old, new) for one in encoding.items(value))  # noqa: PLW2901
        converted[tag] = Element(vr, value)
    return converted


def _convert_item(elements: Mapping[int, Element], old: charset.Terms, new: charset.Terms) -> bytes:
    own = Attributes(elements).terms if SpecificCharacterSet in elements else old
    body = _convert(elements, own, new)
    body.pop(SpecificCharacterSet, None)  # inherited from the data set (PS3.5 7.5.3)
    return encoding.item(encoding.write(sorted(body.items()), implicit=False))


def element_of(tag: int, text: str, terms: charset.Terms) -> Element:
    """One element from text; numbers of binary VRs are separated by backslashes.

    Raises:
        Unrepresentable: the text has characters that ``terms`` lack.
        ValueError: a binary VR's value is no number, or the attribute is a sequence.
    """
    vr = vr_of(tag)
    if vr in _BINARY and vr != "AT":
        cast = float if vr in {"FL", "FD"} else int
        return Element(vr, b"".join(pack(f"<{_BINARY[vr]}", cast(one)) for one in text.split("\\") if one))
    if vr not in STRING_VRS:
        raise ValueError(f"{keyword_of(tag)} ({vr}) cannot be written from text")
    return Element(vr, pad(vr, charset.encode(text, terms if vr in TEXT_VRS else ())))


def pad(vr: str, value: bytes) -> bytes:
    """Pad to even length: NUL for UI, a space for other strings (PS3.5 6.2)."""
    return value + (b"\0" if vr == "UI" else b" ") if len(value) % 2 else value


def strip(vr: str, text: str) -> str:
    """Drop padding that carries no meaning: both ends, but only the end where leading spaces count (PS3.5 6.2)."""
    return text.rstrip(" \0") if vr in {"LT", "ST", "UT", "UC", "UR"} else text.strip(" \0")


__all__ = [
    "STRING_VRS",
    "TEXT_VRS",
    "Attributes",
    "Element",
    "MalformedDataset",
    "element_of",
    "pad",
    "strip",
]

"""Answers to a query, read by element keyword."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import keyword_of, tag_of


@dataclass(frozen=True)
class Answer(Mapping[str, str]):
    """An entity that matched: text by keyword, as Unicode; several values are joined by a backslash.

    Attributes:
        attributes: the answer itself, for sequences and numbers.
    """

    attributes: Attributes

    def __getitem__(self, keyword: str) -> str:
        tag = tag_of(keyword)
        if tag not in self.attributes:
            raise KeyError(keyword)
        return self.attributes.text(tag)

    def __iter__(self) -> Iterator[str]:
        return (keyword_of(tag) for tag in self.attributes)

    def __len__(self) -> int:
        return len(self.attributes)

    def __repr__(self) -> str:
        return f"<Answer {', '.join(self)}>"  # no values: a repr ends up in logs

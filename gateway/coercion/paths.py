"""Attribute paths: ``PatientName``, ``RequestAttributesSequence[0].ScheduledProcedureStepID``, ``(0009,1001)``.

Items count from 0. A step without an index means any item when a path is tested, and every item when it is changed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pydicom.datadict import keyword_dict

from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import keyword_of, tag_of, vr_of

_STEP = re.compile(r"(?P<name>\w+|\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\))(?:\[(?P<item>\d+|\*)\])?")
_HEX = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")


class BadPath(ValueError):
    """A text that names no attribute; ``hint`` may know what was meant."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True)
class Step:
    """One attribute on the way; ``item`` is None for any, or every, item of a sequence."""

    tag: int
    item: int | None = None


@dataclass(frozen=True)
class Path:
    """Where an attribute stands in a data set."""

    steps: tuple[Step, ...]

    @property
    def top(self) -> int:
        """The tag at the data set's top level that the path begins with."""
        return self.steps[0].tag

    @property
    def tag(self) -> int:
        """The tag of the attribute itself."""
        return self.steps[-1].tag

    @property
    def nested(self) -> bool:
        """Whether the attribute stands in a sequence."""
        return len(self.steps) > 1

    def __str__(self) -> str:
        return ".".join(keyword_of(one.tag) + ("" if one.item is None else f"[{one.item}]") for one in self.steps)

    def holders(self, attributes: Attributes) -> Iterator[Attributes]:
        """The data sets, or items, in which the attribute may stand; none where a sequence lacks the item."""
        found = [attributes]
        for step in self.steps[:-1]:
            items = [one.sequence(step.tag) for one in found]
            found = [
                item
                for several in items
                for item in (several if step.item is None else several[step.item : step.item + 1])
            ]
        yield from found


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Read an attribute path.

    Raises:
        BadPath: not a path, an unknown keyword, an item of what is no sequence.
    """
    steps: list[Step] = []
    for part in re.split(r"\.(?![^(]*\))", text.strip()):
        match = _STEP.fullmatch(part)
        if match is None:
            raise BadPath(
                f"{text!r} is no attribute path", "such as PatientName or RequestAttributesSequence[0].StudyID"
            )
        item = match["item"]
        steps.append(Step(tag_named(match["name"]), None if item in {None, "*"} else int(item)))
    for step in steps[:-1]:
        if vr_of(step.tag) != "SQ":
            raise BadPath(f"{keyword_of(step.tag)} is no sequence")
    if steps[-1].item is not None:
        raise BadPath(f"{text!r} ends in an item", "name an attribute of the item")
    return Path(tuple(steps))


def tag_named(name: str) -> int:
    """The tag of a keyword, or of ``(gggg,eeee)`` or ``ggggeeee``.

    Raises:
        BadPath: an unknown keyword; the hint names the nearest one.
    """
    if match := _HEX.fullmatch(name):
        return int(match[1] + match[2], 16)
    try:
        return tag_of(name)
    except KeyError:
        raise BadPath(f"unknown keyword {name}", nearest(name)) from None


def nearest(name: str) -> str:
    """A hint with the element keyword most like a mistyped one; empty when none is alike."""
    close = difflib.get_close_matches(name, _keywords(), n=1, cutoff=0.6)
    if not close:
        folded = {one.lower(): one for one in _keywords()}
        close = [folded[name.lower()]] if name.lower() in folded else []
    return f"did you mean {close[0]}?" if close else ""


@lru_cache(maxsize=1)
def _keywords() -> tuple[str, ...]:
    return tuple(keyword_dict)

"""YAML with positions: nodes that know where they stand, and a list that gathers every problem.

PyYAML composes the node graph only; no tag is resolved to an object, and an unknown key is a problem, never ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import yaml

from gateway.errors import ConfigError

_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class Broken(Exception):
    """This part of the file cannot be read; the problem has been noted."""


@dataclass
class Problems:
    """The problems of one file.

    Attributes:
        also: other files that were read for it, with their bytes.
    """

    file: str
    also: dict[str, bytes] = field(default_factory=dict)
    found: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """One line for each, in the order of the file."""
        return [f"{self.file}:{line}:{column}: {text}" for line, column, text in sorted(self.found)]

    def add(self, mark: yaml.Mark, path: str, problem: str, hint: str = "") -> None:
        """Note a problem at a place."""
        text = f"{path + ': ' if path else ''}{problem}{f' ({hint})' if hint else ''}"
        self.found.append((mark.line + 1, mark.column + 1, text))


@dataclass
class Place:
    """A node, the way to it, and where to complain."""

    node: yaml.Node
    path: str
    problems: Problems

    @property
    def line(self) -> int:
        """The line it begins in, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def note(self, problem: str, hint: str = "") -> None:
        """Note a problem here and go on."""
        self.problems.add(self.node.start_mark, self.path, problem, hint)

    def broken(self, problem: str, hint: str = "") -> Broken:
        """Note a problem here; what is returned is to be raised."""
        self.note(problem, hint)
        return Broken()

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_null(self) -> bool:
        """Whether it is nothing, or the bare word for nothing."""
        node = self.node
        return isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in {"", "~", "null"}

    @property
    def is_sequence(self) -> bool:
        """Whether it is a sequence."""
        return isinstance(self.node, yaml.SequenceNode)

    def mapping(self, keys: Iterable[str] = ()) -> dict[str, Place]:
        """The entries of a mapping; with ``keys``, no others. Hyphens in keys count as underscores then."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.broken("must be a mapping")
        known = tuple(keys)
        found: dict[str, Place] = {}
        for key_node, value in self.node.value:
            key = Place(key_node, self.path, self.problems).text()
            name = key.replace("-", "_") if known else key
            here = Place(value, f"{self.path}.{name}" if self.path else name, self.problems)
            if known and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
                self.problems.add(key_node.start_mark, self.path, f"unknown key {key!r}", hint)
            elif name in found:
                line = found[name].line
                self.problems.add(key_node.start_mark, self.path, f"duplicate key {key!r}", f"first in line {line}")
            else:
                found[name] = here
        return found

    def entries(self) -> list[tuple[Place, Place]]:
        """The keys and values of a mapping whose keys are the admin's, each with its place."""
        named = self.mapping()
        assert isinstance(self.node, yaml.MappingNode)
        keys = {key.value: key for key, _ in reversed(self.node.value)}
        return [(Place(keys[name], value.path, self.problems), value) for name, value in named.items()]

    def sequence(self) -> list[Place]:
        """The items of a sequence; anything else is a sequence of one."""
        if not isinstance(self.node, yaml.SequenceNode):
            return [self]
        return [Place(one, f"{self.path}[{number}]", self.problems) for number, one in enumerate(self.node.value)]

    def text(self) -> str:
        """The text of a scalar as it is written."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.broken("must be a text")
        return str(self.node.value)

    def texts(self) -> tuple[str, ...]:
        """One text or a sequence of them."""
        return tuple(one.text() for one in self.sequence())

    def integer(self) -> int:
        """A whole number."""
        text = self.text()
        try:
            return int(text)
        except ValueError:
            raise self.broken(f"must be a whole number, not {text!r}") from None

    def boolean(self) -> bool:
        """True or false."""
        text = self.text().lower()
        if text not in _TRUE | _FALSE:
            raise self.broken("must be true or false")
        return text in _TRUE

    def choice(self, choices: Iterable[str]) -> str:
        """One of several words."""
        text, known = self.text(), tuple(choices)
        if text not in known:
            close = difflib.get_close_matches(text, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
            raise self.broken(f"{text!r} is not known", hint)
        return text


S = TypeVar("S")
T = TypeVar("T")


def each(places: Iterable[S], read: Callable[[S], T]) -> tuple[T, ...]:
    """Read every one of several places; those that are broken have noted why and are left out."""
    found: list[T] = []
    for place in places:
        with suppress(Broken):
            found.append(read(place))
    return tuple(found)


def compose(text: str, file: str) -> Place | None:
    """The root of a YAML text; None when it is empty.

    Raises:
        ConfigError: not YAML.
    """
    problems = Problems(file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}: " if mark else f"{file}: "
        raise ConfigError([f"{where}not YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{file}: not YAML: {error}"]) from error
    return None if root is None else Place(root, "", problems)

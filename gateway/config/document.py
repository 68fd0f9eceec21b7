"""A YAML file as plain values, with the line of every key (PyYAML's node tree keeps them, its loader does not)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

KeyPath = tuple[str | int, ...]
_MAX_BYTES = 4 * 2**20
_MAX_NODES = 200_000  # aliases of aliases would otherwise grow without bound


@dataclass
class Document:
    """What a file says.

    Attributes:
        problems: what was wrong already: (line, path, text).
        lines: the line of each key and list item, counted from 1.
    """

    file: Path
    values: dict[str, object] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def locate(self, path: KeyPath) -> str:
        """``file:line`` of a path, or of the nearest thing above it that the file names; or the variable's name."""
        for length in range(len(path), -1, -1):
            above = path[:length]
            if above in self.origins:
                return self.origins[above]
            if above in self.lines:
                return f"{self.file}:{self.lines[above]}"
        return str(self.file)

    def blame(self, path: KeyPath, text: str, hint: str = "") -> str:
        """One problem as ``file:line: path: problem (hint)``."""
        where = f"{self.locate(path)}: {spell(path)}: " if path else f"{self.locate(path)}: "
        return f"{where}{text}{f' ({hint})' if hint else ''}"


def spell(path: KeyPath) -> str:
    """A path as an admin writes it: ``peers.VIEWER.allow[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(file: Path) -> Document:
    """Read a YAML file; what is wrong with it is in ``problems``."""
    document = Document(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        document.problems.append(f"{file}: {error.strerror}")
        return document
    if len(data) > _MAX_BYTES:
        document.problems.append(f"{file}: too large for a configuration ({len(data)} bytes)")
        return document
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        document.problems.append(f"{file}:{line}: not UTF-8")
        return document
    except (yaml.YAMLError, RecursionError) as error:
        document.problems.append(_syntax(file, error))
        return document
    if root is not None and not isinstance(root, yaml.MappingNode):
        document.problems.append(f"{file}:{root.start_mark.line + 1}: a mapping of sections is wanted here")
        return document
    if root is not None:
        values = _Reader(document).value(root, ())
        assert isinstance(values, dict)
        document.values = values
    return document


def _syntax(file: Path, error: yaml.YAMLError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return f"{file}: nested too deep"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{file}:{error.problem_mark.line + 1}: not YAML: {error.problem or error.context}"
    return f"{file}: not YAML: {' '.join(str(error).split())}"


class _Reader:
    """Turns nodes into values and notes where each stood."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._constructor = yaml.SafeLoader("")
        self._nodes = 0

    def value(self, node: yaml.Node, path: KeyPath) -> object:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > 32:
            self._document.problems.append(f"{self._document.file}:{node.start_mark.line + 1}: too much nesting")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._document.problems.append(self._document.blame(path, "not a plain value"))
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*path, key)
            line = key_node.start_mark.line + 1
            if key in values:
                text = f"{self._document.file}:{line}: {spell(here)}: the key is there twice"
                self._document.problems.append(f"{text} (first in line {self._document.lines[here]})")
                continue
            self._document.lines[here] = line
            values[key] = self.value(value_node, here)
        return values

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[object]:
        values: list[object] = []
        for index, one in enumerate(node.value):
            here = (*path, index)
            self._document.lines[here] = one.start_mark.line + 1
            values.append(self.value(one, here))
        return values

"""What a Markdown document shows: its fenced blocks, the commands in them, and where its links lead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``language`` is what stands behind the opening fence."""

    language: str
    text: str


def blocks(document: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a document, or those of one language."""
    found = [Block(*match) for match in _FENCE.findall(document.read_text("utf-8"))]
    return [block for block in found if language in (None, block.language)]


def commands(document: Path) -> list[str]:
    """The command lines (``$ …``) of its ``console`` blocks, in their order."""
    lines = [line for block in blocks(document, "console") for line in block.text.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


def file_of(document: Path, name: str) -> str:
    """The block that shows a file: its first line is a comment with the file's name."""
    for block in blocks(document):
        if block.text.splitlines()[:1] == [f"# {name}"]:
            return block.text
    raise AssertionError(f"{document} shows no {name}")


def local_links(document: Path) -> list[Path]:
    """The files of the repository it links to."""
    targets = [target for target, _ in _LINK.findall(document.read_text("utf-8"))]
    return [document.parent / target for target in targets if "://" not in target and not target.startswith("mailto:")]

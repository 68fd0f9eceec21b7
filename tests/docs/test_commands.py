"""Every `dicom-gateway` command that a document or an alert names is a verb that exists, with options it has."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from gateway.cli import app

SOURCES = [*Path().glob("*.md"), *Path("docs").rglob("*.md"), Path("grafana/alerts.yml"), Path("conf/gateway.yaml")]
_SHOWN = re.compile(r"(?:`|^ *\$? *|^#  +|\()dicom-gateway ([^`#\n)]+)", re.MULTILINE)


def shown() -> list[object]:
    found = {text.strip(): source for source in SOURCES for text in _SHOWN.findall(source.read_text("utf-8"))}
    return [pytest.param(text, id=f"{source}: {text}") for text, source in sorted(found.items())]


@pytest.mark.parametrize("text", shown())
def test_the_command_exists(text: str) -> None:
    command: Any = get_command(app)
    words = shlex.split(text.split("   ", maxsplit=1)[0])
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not (words and hasattr(command, "commands")), f"no verb: {text}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
    assert given <= known


def test_there_are_many() -> None:
    assert len(shown()) > 30

"""Documents hang together: links lead somewhere, make's targets exist, YAML and JSON in them are such."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import markdown

DOCUMENTS = sorted([*Path().glob("*.md"), *Path("docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_local_links_lead_somewhere(document: Path) -> None:
    assert [link for link in markdown.local_links(document) if not link.exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_targets_of_make_exist(document: Path) -> None:
    for command in markdown.commands(document):
        if command.startswith("make "):
            assert (
                subprocess.run(["make", "-n", *command.split()[1:]], capture_output=True, check=False).returncode == 0
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_yaml_and_json_parse(document: Path) -> None:
    for block in markdown.blocks(document):
        if block.language == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.language == "json":
            json.loads(block.text)


def test_the_index_has_every_decision() -> None:
    index = Path("docs/decisions/README.md").read_text("utf-8")
    for document in Path("docs/decisions").glob("[0-9]*.md"):
        number = document.name[:4]
        title = document.read_text("utf-8").splitlines()[0].removeprefix(f"# {number}: ")
        assert f"| [{number}]({document.name}) | {title} |" in index


def test_the_changelog_keeps_its_form() -> None:
    text = Path("CHANGELOG.md").read_text("utf-8")
    assert text.startswith("# Changelog\n")
    assert "## [Unreleased]" in text
    sections = {line[4:] for line in text.splitlines() if line.startswith("### ")}
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

"""Every log call of the gateway has a fixed text, and no key whose text would be masked without anybody noticing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.logs import SAFE_KEYS, UID_KEYS

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
NUMBERS = {
    "added", "count", "dropped", "exit_status", "failed", "files", "http_port", "instances", "jobs", "left", "pid",
    "quarantined", "rules", "seconds", "warning",
}  # fmt: skip
"""Keys that always have a number: it is shown."""

EXCEPTIONS = {"error", "exc_info"}
"""Keys that always have an exception: its type is shown, and its text where that is ours."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(Path("gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                name = node.func.value
                made = isinstance(name, ast.Call) and ast.unparse(name.func) == "get_logger"
                if made or (isinstance(name, ast.Name) and name.id in {"_log", "log"}):
                    yield f"{file}:{node.lineno}", node


@pytest.mark.parametrize(("place", "call"), [pytest.param(*found, id=found[0]) for found in calls()])
def test_a_line_has_a_fixed_text_and_keys_somebody_thought_about(place: str, call: ast.Call) -> None:
    assert call.args, place
    assert isinstance(call.args[0], ast.Constant), f"{place}: the event has to be a literal"
    numbers = {None} if place.startswith("gateway/dimse/services.py") else set()  # **counts: dict[str, int]
    texts = [word.arg for word in call.keywords if word.arg in EXCEPTIONS and isinstance(word.value, ast.Attribute)]
    assert not texts, f"{place}: the exception itself is wanted, its text would be masked"
    assert {keyword.arg for keyword in call.keywords} <= numbers | SAFE_KEYS | UID_KEYS | NUMBERS | EXCEPTIONS

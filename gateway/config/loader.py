"""Reads a configuration and reports everything that is wrong with it at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config import checks, environment
from gateway.config.document import Document, KeyPath, read
from gateway.config.environment import model_at
from gateway.config.models import Config
from gateway.errors import ConfigError


def load(file: Path, variables: Mapping[str, str] | None = None) -> Config:
    """Read the file, put the environment over it, check everything.

    Args:
        file: paths in it are relative to its folder.
        variables: the environment; that of the process unless given.

    Raises:
        ConfigError: it has problems, each as ``file:line: path: problem (hint)``.
    """
    document = read(file)
    if document.problems and not document.values:
        raise ConfigError(document.problems)
    environment.overlay(document, os.environ if variables is None else variables, Config)
    values = {key: {} if value is None else value for key, value in document.values.items()}
    config, problems = _validate(document, values, file.parent)
    if problems:
        raise ConfigError(problems)
    config._document = document  # noqa: SLF001 - set once, here
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "dicom-gateway configuration"}


def _validate(document: Document, values: dict[str, object], base: Path) -> tuple[Config, list[str]]:
    """The typed values and every problem; where a value is bad, its default stands in for the checks after it."""
    problems = list(document.problems)
    context = {"base": base.absolute()}
    try:
        config = Config.model_validate(values, context=context)
    except ValidationError as error:
        problems += [_explain(document, detail) for detail in error.errors()]
        config = _what_is_good(document, values, context)
    peers = values.get("peers")
    for path, text, hint in checks.find_problems(config, peers if isinstance(peers, dict) else {}):
        problems.append(document.blame(_in_file(document, path), text, hint))
    return config, sorted(problems, key=lambda problem: _line(document, problem))


def _what_is_good(document: Document, values: dict[str, object], context: dict[str, Path]) -> Config:
    """Take out what is bad, and what lacks a key, until the rest is valid.

    An archive nothing can be said about is replaced by a file that surely exists.
    """
    rest = {**deepcopy(values), "archive": deepcopy(values.get("archive")) or _STAND_IN}
    while True:
        try:
            return Config.model_validate(rest, context=context)
        except ValidationError as error:
            for detail in error.errors():
                path = _in_file(document, detail["loc"])
                _take_out(rest, path[:-1] if detail["type"] == "missing" else path)
            rest.setdefault("archive", _STAND_IN)


_STAND_IN = {"dicomdir": os.devnull}


def _take_out(values: Any, path: KeyPath) -> None:
    """Remove a key; of a list the whole, so that the items of what stays keep their places."""
    keys = list(takewhile(lambda part: isinstance(part, str), path))
    for key in keys[:-1]:
        values = values.get(key, {})
    values.pop(keys[-1], None)


def _line(document: Document, problem: str) -> int:
    found = re.match(rf"{re.escape(str(document.file))}:(\d+):", problem)
    return int(found[1]) if found else 0


def _explain(document: Document, detail: ErrorDetails) -> str:
    path = _in_file(document, detail["loc"])
    return document.blame(path, *_in_words(path, detail))


def _in_words(path: KeyPath, detail: ErrorDetails) -> tuple[str, str]:
    """Problem and hint."""
    kind, value, limits = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return "unknown key", _did_you_mean(str(path[-1]), model_at(path[:-1], Config))
        case "missing":
            return "the key is missing", ""
        case "enum":
            choices = str(limits["expected"]).replace(" or ", ", ").replace("'", "")
            return f"{_shown(value)} is not one of {choices}", _closest(value, choices)
        case "greater_than_equal" | "less_than_equal" | "string_too_short":
            return f"{_shown(value)} is not {_BOUNDS[kind]} {next(iter(limits.values()))}", ""
    wanted = next((text for start, text in _WANTED.items() if kind.startswith(start)), None)
    if wanted is None:
        return f"{_shown(value)}: {limits.get('error', detail['msg'])}", ""
    return f"{_shown(value)} is not {wanted}", _quoting(kind, value)


_BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most", "string_too_short": "long enough: at least"}
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "model": "a mapping",
    "dict": "a mapping",
    "tuple": "a list",
    "list": "a list",
}


def _in_file(document: Document, path: KeyPath) -> KeyPath:
    """Where a path stands in the file: a single leading archive need not be written as a list of one."""
    if path[:1] == ("leading",) and not isinstance(document.values.get("leading"), list):
        return ("leading", *path[2:])
    return tuple(path)


def _shown(value: object) -> str:
    text = "nothing" if value is None else "a mapping" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoting(kind: str, value: object) -> str:
    quotable = kind.startswith("string") and isinstance(value, int | float)
    return f'text that looks like a number needs quotes: "{value}"' if quotable else ""


def _closest(value: object, choices: str) -> str:
    close = get_close_matches(str(value), choices.split(", "), 1)
    return f"did you mean '{close[0]}'?" if close else ""


def _did_you_mean(key: str, model: type[BaseModel] | None) -> str:
    known = list(model.model_fields) if model else []
    close = get_close_matches(key.lower(), known, 1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(known)}" if known else ""

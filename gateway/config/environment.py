"""Variables that override keys: ``GATEWAY__AE__PORT=11112`` is ``ae.port``; with ``_FILE`` behind, a secret's file.

A variable's name is upper-cased and joined by two underscores. Its value is the text as it stands, or YAML where it
begins with ``[`` or ``{``, so that lists can be given: ``GATEWAY__PEERS__VIEWER__ALLOW=[echo, find]``. Where no key of
the name with ``_FILE`` exists, ``GATEWAY__…_FILE=/run/secrets/x`` takes the value from that file, without its last
line end, so that the secret is neither in the environment nor in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from gateway.config.document import Document, KeyPath

PREFIX = "GATEWAY__"
_FILE = "_file"


def overlay(document: Document, environment: Mapping[str, str], model: type[BaseModel]) -> None:
    """Put the variables over the document's values; one that names no key is among its problems then."""
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX):
            continue
        parts = name[len(PREFIX) :].split("__")
        path, from_file = _resolve(parts, model, document.values)
        origin = f"environment: {name}"
        text = environment[name]
        if from_file:
            try:
                text = Path(text).read_text("utf-8").rstrip("\r\n")
            except OSError as error:
                document.problems.append(f"{origin}: {text}: {error.strerror}")
                continue
        try:
            value = yaml.safe_load(text) if text[:1] in {"[", "{"} and not from_file else text
        except yaml.YAMLError:
            document.problems.append(f"{origin}: not YAML")
            continue
        _put(document, path, value, origin)


def _put(document: Document, path: KeyPath, value: object, origin: str) -> None:
    here: object = document.values
    for part in path[:-1]:
        if not isinstance(here, dict):
            break
        if not isinstance(here.get(str(part)), dict):
            here[str(part)] = {}
        here = here[str(part)]
    if not isinstance(here, dict):
        document.problems.append(f"{origin}: no key can be there")
        return
    here[str(path[-1])] = value
    document.origins[path] = origin


def _resolve(parts: list[str], model: type[BaseModel], values: object) -> tuple[KeyPath, bool]:
    """The path a name means, and whether its value is in a file.

    Names of fields are lower case; the names of a mapping's entries are matched to those of the file, whatever the
    case, else taken as they are.
    """
    path: list[str] = []
    kind: object = model
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        model_here = next(_models(kind), None)
        if model_here is None:
            known = values if isinstance(values, dict) else {}
            name = next((one for one in known if str(one).upper() == part.upper()), part)
        else:
            name = part.lower()
        if last and model_here is not None and name not in model_here.model_fields and name.endswith(_FILE):
            return (*path, name.removesuffix(_FILE)), True
        path.append(name)
        kind = _below(kind, model_here, name)
        values = values.get(name) if isinstance(values, dict) else None
    return tuple(path), False


def _below(kind: object, model: type[BaseModel] | None, name: str) -> object:
    if model is None:
        return get_args(kind)[1] if get_origin(kind) is dict else None
    info = model.model_fields.get(name)
    return info.annotation if info else None


def _models(kind: object) -> Iterator[type[BaseModel]]:
    """The model a field's type is or may be; that of a list's items stands for a single one."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in {Union, UnionType, tuple}:
        for one in get_args(kind):
            yield from _models(one)


def model_at(path: KeyPath, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of the mapping that a path names."""
    kind: object = model
    for part in path:
        if not isinstance(part, int):
            kind = _below(kind, next(_models(kind), None), part)
    return next(_models(kind), None)

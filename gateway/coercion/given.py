"""Attributes that an admin writes down to try rules on: a mapping of paths to texts, or those of a DICOM file."""

from __future__ import annotations

from functools import partial
from pathlib import Path as FilePath

from gateway.coercion.changes import UTF8
from gateway.coercion.draft import Context, Draft
from gateway.coercion.folders import instance_of, is_dicom
from gateway.coercion.nested import change_items
from gateway.coercion.parse_conditions import attribute_path
from gateway.coercion.paths import Path
from gateway.coercion.splice import read_head
from gateway.coercion.values import InvalidValue, checked
from gateway.coercion.yamlnodes import Place, compose, each
from gateway.dicom.attributes import Attributes, Element
from gateway.errors import ConfigError


def load_attributes(file: FilePath) -> Attributes:
    """Read attributes from YAML or from a DICOM file.

    Raises:
        ConfigError: everything that is wrong with the YAML.
        BadInstance: a DICOM file that cannot be read.
    """
    try:
        if is_dicom(file):
            return read_head(instance_of(file))
        root = compose(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read"]) from error
    if root is None:
        return Attributes()
    found = each([root], attributes)
    if root.problems.lines:
        raise ConfigError(root.problems.lines)
    return found[0]


def attributes(place: Place) -> Attributes:
    """A mapping of attribute paths to texts; items of sequences are made in the order they are numbered."""
    draft = Draft(Attributes(), Context())
    for path, element in each(place.entries(), _given):
        change_items(draft, path, partial(_with, tag=path.tag, element=element))
    return draft.changes().apply_to(Attributes().in_charset(UTF8))


def _with(holder: Attributes, *, tag: int, element: Element) -> dict[int, Element]:
    return {**holder, tag: element}


def _given(entry: tuple[Place, Place]) -> tuple[Path, Element]:
    path = attribute_path(entry[0])
    try:
        return path, checked(path.tag, entry[1].text())
    except InvalidValue as error:
        raise entry[1].broken(str(error)) from error

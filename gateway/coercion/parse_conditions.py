"""Conditions from YAML."""

from __future__ import annotations

import re

from gateway.coercion.conditions import (
    All,
    Any,
    AnyCondition,
    Attribute,
    Code,
    Empty,
    Host,
    Not,
    OneOf,
    Present,
    Regex,
    Title,
)
from gateway.coercion.paths import BadPath, Path, parse_path
from gateway.coercion.yamlnodes import Place, each

TESTS = ("equals", "one_of", "regex", "empty", "present", "code")
"""The words that test an attribute."""
_KEYS = ("all", "any", "not", "sending", "receiving", "host", "attribute", *TESTS)


def condition(place: Place) -> AnyCondition:
    """What stands under ``when``: a mapping whose entries must all hold."""
    if place.is_sequence:
        raise place.broken("must be a mapping", "put the list under 'all' or 'any'")
    keys = place.mapping(_KEYS)
    if "attribute" not in keys:
        for name in keys.keys() & set(TESTS):
            keys[name].note(f"{name!r} needs an 'attribute' beside it")
    parts = each((value for name, value in keys.items() if name not in TESTS), lambda one: _part(place, one, keys))
    return parts[0] if len(parts) == 1 else All(parts)


def _part(whole: Place, value: Place, keys: dict[str, Place]) -> AnyCondition:
    match value.path.rsplit(".", 1)[-1]:
        case "all":
            return All(each(value.sequence(), condition))
        case "any":
            return Any(each(value.sequence(), condition))
        case "not":
            return Not(condition(value))
        case "sending" | "receiving" as side:
            return Title(side, _title_test(value))
        case "host":
            return Host(value.texts())
        case _:
            return _attribute(whole, value, keys)


def attribute_path(place: Place) -> Path:
    """An attribute path; the problem names the keyword that may have been meant."""
    try:
        path = parse_path(place.text())
    except BadPath as error:
        raise place.broken(str(error), error.hint) from error
    if path.top >> 16 in {0x0000, 0x0002}:
        raise place.broken("command and file meta elements are no part of the data set, and follow from it")
    if path.top >= 0x7FE00000:
        raise place.broken("rules do not look at pixel data, nor at what stands behind it, and never change it")
    return path


def pattern(place: Place) -> re.Pattern[str]:
    """A regular expression in Python's syntax."""
    try:
        return re.compile(place.text())
    except re.error as error:
        raise place.broken(f"no regular expression: {error}") from error


def _title_test(place: Place) -> OneOf | Regex:
    if place.is_mapping:
        keys = place.mapping(("regex",))
        if "regex" not in keys:
            raise place.broken("must be an AE title, a list of them, or regex: PATTERN")
        return Regex(pattern(keys["regex"]))
    return OneOf(place.texts())


def _attribute(whole: Place, place: Place, keys: dict[str, Place]) -> Attribute:
    path = attribute_path(place)
    tests = [name for name in TESTS if name in keys]
    if len(tests) != 1:
        raise whole.broken("an attribute is tested by exactly one of " + ", ".join(TESTS))
    return Attribute(path, _test(tests[0], keys[tests[0]]))


def _test(name: str, place: Place) -> OneOf | Regex | Empty | Present | Code:
    match name:
        case "equals":
            return OneOf((place.text(),))
        case "one_of":
            return OneOf(place.texts())
        case "regex":
            return Regex(pattern(place))
        case "empty":
            return Empty(place.boolean())
        case "present":
            return Present(place.boolean())
        case _:
            return _code(place)


def _code(place: Place) -> Code:
    if not place.is_mapping:
        return Code(place.text())
    keys = place.mapping(("value", "scheme"))
    if "value" not in keys:
        raise place.broken("a code needs a 'value'")
    return Code(keys["value"].text(), keys["scheme"].text() if "scheme" in keys else "")

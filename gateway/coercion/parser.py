"""From YAML to rules: one pass that gathers every problem, each with its line, column and path."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path as FilePath

from gateway.coercion.every_action import AnyAction
from gateway.coercion.parse_actions import ACTIONS, Shared
from gateway.coercion.parse_conditions import condition
from gateway.coercion.parse_shared import devices, tables
from gateway.coercion.rules import OnFailure, Rule, RuleSet, Where
from gateway.coercion.yamlnodes import Broken, Place, compose, each
from gateway.errors import ConfigError

_DIMSE = {
    ("C_STORE_RQ", "SCU"): Where.RECEIVED,
    ("C_STORE_RQ", "SCP"): Where.SENT,
    ("C_FIND_RQ", "SCU"): Where.KEYS,
    ("C_FIND_RSP", "SCU"): Where.ANSWERS,
}
"""dcm4chee's words: the DIMSE and the transfer role of the peer."""


def load_rules(path: str | FilePath) -> RuleSet:
    """Read a rule file.

    Raises:
        ConfigError: everything that is wrong with it, one line each.
    """
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from error
    return parse_rules(text, str(path), FilePath(path).parent)


def parse_rules(text: str, file: str = "rules", folder: FilePath = FilePath()) -> RuleSet:
    """Read the text of a rule file; ``file`` stands in front of problems, CSV tables are found in ``folder``.

    Raises:
        ConfigError: everything that is wrong with it, one line each.
    """
    if not text.strip():  # what a full disk or an editor that died leaves behind, hardly what somebody wrote
        raise ConfigError([f"{file}: is empty; for the built-in rule alone write 'rules: []'"])
    digest = hashlib.sha256(text.encode())
    try:
        root = compose(text, file)
        if root is None:
            return RuleSet.of((), digest.hexdigest()[:12], files=(file,))
        rules, recorded = _file(root, folder)
    except RecursionError as error:  # also by aliases of what they stand in
        raise ConfigError([f"{file}: nested too deep"]) from error
    if root.problems.found:
        raise ConfigError(root.problems.lines)
    for data in root.problems.also.values():
        digest.update(data)
    return RuleSet.of(rules, digest.hexdigest()[:12], recorded, (file, *root.problems.also))


def _file(root: Place, folder: FilePath) -> tuple[tuple[Rule, ...], frozenset[Where]]:
    keys: dict[str, Place] = {}
    shared = Shared({}, ())
    recorded: frozenset[Where] = frozenset()
    with suppress(Broken):
        keys = root.mapping(("record_originals", "tables", "devices", "rules"))
        shared = Shared(
            tables(keys["tables"], folder) if "tables" in keys else {},
            devices(keys["devices"]) if "devices" in keys else (),
        )
        if "record_originals" in keys:
            words = each(keys["record_originals"].sequence(), lambda one: one.choice(("received", "sent")))
            recorded = frozenset(Where(one) for one in words)
    return _rules(keys["rules"], shared) if "rules" in keys else (), recorded


def _rules(place: Place, shared: Shared) -> tuple[Rule, ...]:
    first: dict[str, int] = {}
    rules: list[Rule] = []
    for here, rule in each(place.sequence(), lambda one: (one, _rule(one, shared))):
        if rule.name in first:
            here.note(f"a second rule is called {rule.name!r}", f"first in line {first[rule.name]}")
        first.setdefault(rule.name, rule.line)
        rules.append(rule)
    return tuple(rules)


def _rule(place: Place, shared: Shared) -> Rule:
    """One rule; its parts are all read before a broken one gives it up."""
    keys = place.mapping(("description", *_PARTS))
    if "name" in keys and not keys["name"].is_sequence and not keys["name"].is_mapping:
        for one in keys.values():
            one.path = one.path.replace(place.path, f"rules[{keys['name'].text()}]", 1)
    missing = [name for name in ("name", "where", "then") if name not in keys]
    for name in missing:
        place.note(f"has no {name!r}")
    parts: dict[str, typing.Any] = {}
    for name, read in _PARTS.items():
        if name in keys:
            with suppress(Broken):
                parts[name] = read(keys[name], shared)
    if any(name not in parts for name in ("name", "where", "then")):
        raise Broken
    return Rule(**parts, line=place.line)


def _where(place: Place) -> frozenset[Where]:
    return frozenset(each(place.sequence(), _one_where))


def _one_where(place: Place) -> Where:
    if not place.is_mapping:
        return Where(place.choice(one.value for one in Where))
    keys = place.mapping(("dimse", "role"))
    if set(keys) != {"dimse", "role"}:
        raise place.broken("needs both dimse and role", "or one of received, sent, keys, answers")
    dimse = keys["dimse"].choice(sorted({one for one, _ in _DIMSE}))
    role = keys["role"].choice(("SCU", "SCP"))
    if (dimse, role) not in _DIMSE:
        raise place.broken(f"no data set comes here as {dimse} from a peer as {role}")
    return _DIMSE[dimse, role]


def _actions(place: Place, shared: Shared) -> tuple[AnyAction, ...]:
    several = each(place.sequence(), lambda one: _action(one, shared))
    return tuple(action for actions in several for action in actions)


def _action(place: Place, shared: Shared) -> tuple[AnyAction, ...]:
    before = len(place.problems.found)
    keys = place.mapping(tuple(ACTIONS))
    if len(place.problems.found) > before:
        raise Broken
    if len(keys) != 1:
        raise place.broken("an action is a mapping with one key", f"one of {', '.join(ACTIONS)}")
    ((name, value),) = keys.items()
    return ACTIONS[name](value, shared)


def _name(place: Place) -> str:
    if not place.text().strip():
        raise place.broken("must not be empty")
    return place.text()


def _on_failure(place: Place) -> OnFailure:
    return OnFailure(place.choice(one.value for one in OnFailure))


_PARTS: dict[str, Callable[[Place, Shared], object]] = {
    "name": lambda place, _: _name(place),
    "where": lambda place, _: _where(place),
    "when": lambda place, _: condition(place),
    "then": _actions,
    "priority": lambda place, _: place.integer(),
    "stop": lambda place, _: place.boolean(),
    "on_failure": lambda place, _: _on_failure(place),
    "enabled": lambda place, _: place.boolean(),
}

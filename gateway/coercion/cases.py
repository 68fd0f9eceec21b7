"""Test cases for rules, in YAML: what is given, and what is expected to come out.

The same idea as unit tests for alert rules: an admin writes down what the rules are for, and knows after every edit
whether they still do it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath

from gateway.coercion.draft import Context
from gateway.coercion.engine import Plan, plan
from gateway.coercion.explain import shown
from gateway.coercion.given import attributes
from gateway.coercion.parse_conditions import attribute_path
from gateway.coercion.parser import load_rules
from gateway.coercion.paths import Path
from gateway.coercion.rules import CoercionFailed, RuleSet, Where
from gateway.coercion.yamlnodes import Place, compose, each
from gateway.dicom.attributes import Attributes
from gateway.errors import ConfigError

_KEYS = ("name", "where", "sending", "receiving", "host", "leading", "given", "expect", "applied", "fails")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        expect: texts by path; None: the attribute must be absent.
        applied: the names of the rules that must have been applied, in order; None: not asked.
        fails: the rules must refuse the data set.
    """

    name: str
    where: Where
    context: Context
    given: Attributes
    expect: tuple[tuple[Path, str | None], ...]
    applied: tuple[str, ...] | None
    fails: bool


@dataclass(frozen=True)
class Result:
    """What became of a case; no problems: it is good."""

    case: Case
    problems: tuple[str, ...]


def load_cases(file: FilePath) -> tuple[RuleSet, tuple[Case, ...]]:
    """Read a file of cases and the rules it names.

    Raises:
        ConfigError: everything that is wrong with it, or with the rules.
    """
    try:
        root = compose(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read"]) from error
    if root is None:
        raise ConfigError([f"{file}: is empty"])
    found = each([root], lambda place: _file(place, file.parent))
    if root.problems.lines:
        raise ConfigError(root.problems.lines)
    return found[0]


def _file(root: Place, folder: FilePath) -> tuple[RuleSet, tuple[Case, ...]]:
    keys = root.mapping(("rules", "tests"))
    rules = load_rules(folder / keys["rules"].text()) if "rules" in keys else RuleSet.default()
    return rules, each(keys["tests"].sequence() if "tests" in keys else (), _case)


def _case(place: Place) -> Case:
    keys = place.mapping(_KEYS)
    if "where" not in keys:
        raise place.broken("has no 'where'")
    sending, receiving, host = (keys[name].text() if name in keys else "" for name in ("sending", "receiving", "host"))
    leading = attributes(keys["leading"]) if "leading" in keys else None
    return Case(
        keys["name"].text() if "name" in keys else f"line {place.line}",
        Where(keys["where"].choice(one.value for one in Where)),
        Context(sending, receiving, host, leading=leading),
        attributes(keys["given"]) if "given" in keys else Attributes(),
        each(keys["expect"].entries(), _expected) if "expect" in keys else (),
        keys["applied"].texts() if "applied" in keys else None,
        "fails" in keys and keys["fails"].boolean(),
    )


def _expected(entry: tuple[Place, Place]) -> tuple[Path, str | None]:
    return attribute_path(entry[0]), None if entry[1].is_null else entry[1].text()


def run_cases(rules: RuleSet, cases: Iterable[Case]) -> list[Result]:
    """Try every case."""
    return [Result(case, tuple(_problems(plan(rules, case.where, case.context), case))) for case in cases]


def _problems(made: Plan, case: Case) -> list[str]:
    try:
        draft, ran = made.outcome(case.given)
        after = draft.changes().apply_to(case.given)
    except CoercionFailed as error:
        return [] if case.fails else [f"failed: {error.message}"]
    if case.fails:
        return ["should have failed, but did not"]
    found = []
    names = tuple(rule.name for rule in ran.applied)
    if case.applied is not None and names != case.applied:
        found.append(f"applied {', '.join(names) or 'no rule'}, not {', '.join(case.applied) or 'no rule'}")
    for path, wanted in case.expect:
        got = next((text for one in path.holders(after) if (text := shown(one, path.tag)) is not None), None)
        if got != wanted:
            found.append(f"{path} is {_quoted(got)}, not {_quoted(wanted)}")
    return found


def _quoted(text: str | None) -> str:
    return "absent" if text is None else repr(text)

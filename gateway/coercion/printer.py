"""From rules back to YAML: what is printed here parses to the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any as AnyValue

import yaml

from gateway.coercion.actions import Copy, Default, Map, Nullify, Remove, Replace, Set, Table
from gateway.coercion.charsets import ChangeCharset, TrimISO2022
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
from gateway.coercion.every_action import AnyAction
from gateway.coercion.identity import Issuer, KeepPatientID, RemapUIDs
from gateway.coercion.rules import BUILT_IN, OnFailure, Rule, RuleSet, Where
from gateway.coercion.sources import Device, FromLeading, Supplement
from gateway.dicom import tags
from gateway.dicom.tags import keyword_of

Plain = dict[str, AnyValue]


def to_yaml(rules: RuleSet) -> str:
    """The text of a rule file that gives these rules."""
    return yaml.safe_dump(to_plain(rules), sort_keys=False, allow_unicode=True, width=110)


def to_plain(rules: RuleSet) -> Plain:
    """A rule file as plain mappings, sequences and texts; the built-in rule is left out where it is as shipped."""
    written = [rule for rule in rules.rules if rule != BUILT_IN]
    plain: Plain = {}
    if more := sorted(one.value for one in rules.recorded - {Where.RECEIVED}):
        plain["record_originals"] = ["received", *more]
    if tables := {table.name: {"values": dict(table.values)} for table in _tables(written)}:
        plain["tables"] = tables
    if devices := _devices(written):
        plain["devices"] = {device.aet: _attributes(device) for device in devices}
    plain["rules"] = [rule_to_plain(rule) for rule in written]
    return plain


def rule_to_plain(rule: Rule) -> Plain:
    """One rule; what is as by default is left out."""
    plain: Plain = {"name": rule.name, "where": _one_or_list(one.value for one in Where if one in rule.where)}
    if rule.when != All():
        plain["when"] = condition_to_plain(rule.when)
    plain["then"] = [action_to_plain(action) for action in rule.then]
    if rule.priority:
        plain["priority"] = rule.priority
    if rule.stop:
        plain["stop"] = True
    if rule.on_failure is not OnFailure.REFUSE:
        plain["on_failure"] = rule.on_failure.value
    if not rule.enabled:
        plain["enabled"] = False
    return plain


def condition_to_plain(condition: AnyCondition) -> Plain:  # one for each kind
    """One condition as the mapping it is written as."""
    match condition:
        case All(parts):
            return {"all": [condition_to_plain(part) for part in parts]}
        case Any(parts):
            return {"any": [condition_to_plain(part) for part in parts]}
        case Not(part):
            return {"not": condition_to_plain(part)}
        case Host(names):
            return {"host": _one_or_list(names)}
        case Title(side, test):
            return {side: _one_or_list(test.values) if isinstance(test, OneOf) else _test(test)}
        case Attribute(path, question):
            return {"attribute": str(path), **_test(question)}


def _test(test: OneOf | Regex | Empty | Present | Code) -> Plain:
    match test:
        case OneOf(values):
            return {"equals": values[0]} if len(values) == 1 else {"one_of": list(values)}
        case Empty(wanted):
            return {"empty": wanted}
        case Present(wanted):
            return {"present": wanted}
        case Code(value, scheme):
            return {"code": {"value": value, "scheme": scheme} if scheme else {"value": value}}
        case Regex(pattern):
            return {"regex": pattern.pattern}


def action_to_plain(action: AnyAction) -> Plain:  # noqa: PLR0911  # one for each kind
    """One action as the mapping it is written as."""
    match action:
        case Set(path, text):
            return {"set": {str(path): str(text)}}
        case Default(path, text):
            return {"default": {str(path): str(text)}}
        case Copy(path, source):
            return {"copy": {str(path): str(source)}}
        case Remove(paths):
            return {"remove": _one_or_list(map(str, paths))}
        case Nullify(paths):
            return {"nullify": _one_or_list(map(str, paths))}
        case Replace():
            return {"replace": _replace(action)}
        case Map(path, table, missing):
            return {"map": {"attribute": str(path), "table": table.name, "missing": missing.value}}
        case ChangeCharset(terms):
            return {"charset": _one_or_list(terms)}
        case TrimISO2022():
            return {"trim_iso2022": True}
        case _:
            return _whole(action)


def _whole(action: FromLeading | Supplement | Issuer | KeepPatientID | RemapUIDs) -> Plain:
    """Actions on sets of attributes and on identity."""
    match action:
        case FromLeading(policy, sets, named):
            parts = {"sets": list(sets), "attributes": [keyword_of(tag) for tag in named]}
            return {"from_leading": {name: one for name, one in parts.items() if one} | {"policy": policy.value}}
        case Supplement(side):
            return {"supplement": {"device": side}}
        case Issuer(name, universal_id, universal_type, replace):
            more = {"replace": True} if replace else {}
            return {"issuer_of_patient_id": {"name": name, **_universal(universal_id, universal_type), **more}}
        case KeepPatientID(issuer, universal_id, universal_type):
            return {"keep_patient_id": {"issuer": issuer, **_universal(universal_id, universal_type)}}
        case RemapUIDs(table):
            return {"remap_uids": "all" if table is None else {"table": table.name}}


def _universal(universal_id: str, universal_type: str) -> Plain:
    return {"universal_id": universal_id, "universal_type": universal_type} if universal_id else {}


def _replace(action: Replace) -> Plain:
    plain: Plain = {"attribute": str(action.path), "pattern": action.pattern.pattern, "with": action.text}
    if action.back is not None:
        plain["undo"] = {"pattern": action.back[0].pattern, "with": action.back[1]}
    return plain


def _one_or_list(values: Iterable[str]) -> str | list[str]:
    several = list(values)
    return several[0] if len(several) == 1 else several


def _tables(rules: Iterable[Rule]) -> Iterator[Table]:
    seen: set[str] = set()
    for rule in rules:
        for action in rule.then:
            table = action.table if isinstance(action, Map | RemapUIDs) else None
            if table is not None and table.name not in seen:
                seen.add(table.name)
                yield table


def _devices(rules: Iterable[Rule]) -> tuple[Device, ...]:
    found = (action.devices for rule in rules for action in rule.then if isinstance(action, Supplement))
    return next(found, ())


def _attributes(device: Device) -> Plain:
    known = device.attributes
    return {keyword_of(tag): "\\".join(known.texts(tag)) for tag in known if tag != tags.SpecificCharacterSet}

"""dcm4chee-arc's coercion rules as ours: both generations, from a directory export.

Legacy rules (dcmArchiveAttributeCoercion) hold several coercions each, and the first rule that matches is the only one;
they become rules with ``stop``. The newer ones (dcmArchiveAttributeCoercion2) hold one each, named by a URI. What our
language has no word for is not guessed at but listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.coercion.ldif import Entry, entries
from gateway.coercion.parser import parse_rules
from gateway.coercion.paths import BadPath, parse_path
from gateway.errors import ConfigError

_LEGACY, _NEWER = "dcmArchiveAttributeCoercion", "dcmArchiveAttributeCoercion2"
_CACHE = {"dcmLeadingCFindSCPQueryCacheStaleTimeout": "ttl", "dcmLeadingCFindSCPQueryCacheSize": "max_entries"}
_SIDES = {"SendingApplicationEntityTitle": "sending", "ReceivingApplicationEntityTitle": "receiving"}
_FAILURES = {"RETHROW": "refuse", "CONTINUE": "pass", "SUFFICIENT": "pass"}
_UNKNOWN = {
    "dcmMergeMWLMatchingKey": "request attributes from a worklist",
    "dcmMergeMWLTemplateURI": "request attributes from a worklist",
    "dcmDeIdentification": "a de-identification profile",
    "dcmRetrieveAsReceived": "objects as received",
    "dcmUseCallingAETitleAs": "the calling AE title as an attribute",
    "dcmSupplementFromDeviceName": "a device of the directory; see 'devices' and 'supplement'",
    "dcmSupplementFromDeviceReference": "a device of the directory; see 'devices' and 'supplement'",
    "dcmIssuerOfPatientIDFormat": "a format for the issuer; see 'issuer_of_patient_id'",
    "dcmCoercionParam": "parameters",
}
_REFERENCE = re.compile(r"\{([^{},]+)((?:,[^{},]*)*)\}")
_PROPERTY = re.compile(r"(?P<key>[^!=]+)(?P<not>!?)=(?P<value>.*)", re.DOTALL)
Plain = dict[str, Any]


class _CannotCarry(Exception):
    """One thing that our language has no word for."""


@dataclass
class Imported:
    """What became of an export.

    Attributes:
        rules: as mappings of our language.
        settings: for the configuration: keys of ``leading.query_cache``, and the leading archive's AE title.
        left: what could not be carried over, one line each, with the line of the export.
    """

    rules: list[Plain] = field(default_factory=list)
    settings: Plain = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A rule file; what was left, and what belongs into the configuration, stands on top as comments."""
        lines = ["# Carried over from dcm4chee."]
        if self.settings:
            lines += ["#", "# For the gateway's configuration:"]
            lines += [
                f"#   {line}" for line in yaml.safe_dump({"leading": self.settings}, sort_keys=False).splitlines()
            ]
        if self.left:
            lines += ["#", "# Not carried over:", *(f"#   {one}" for one in self.left)]
        body = yaml.safe_dump({"rules": self.rules}, sort_keys=False, allow_unicode=True, width=110)
        return "\n".join([*lines, "", body])


def import_ldif(text: str) -> Imported:
    """Carry over every coercion rule, and the leading archive's cache, of an LDIF export."""
    found = Imported()
    for entry in entries(text):
        for name, ours in _CACHE.items():
            if value := entry.one(name):
                cache = found.settings.setdefault("query_cache", {})
                cache[ours] = int(value) if value.isdigit() else value
        if entry.is_a(_LEGACY) or entry.is_a(_NEWER):
            _rule(entry, found)
    return found


def _rule(entry: Entry, found: Imported) -> None:
    name = _unique(entry.one("cn", f"line {entry.line}"), found.rules)

    def leave(problem: str) -> None:
        found.left.append(" ".join(f"line {entry.line}, {name}: {problem}".split()))

    try:
        rule = _selector(entry, name)
    except _CannotCarry as reason:
        leave(f"{reason}; without it the rule would apply too often, so it is left out")
        return
    rule["then"] = []
    for action in _actions(entry, leave, found):
        if problem := _problem({**rule, "then": [action]}):
            leave(f"{action}: {problem}")
        else:
            rule["then"].append(action)
    if not rule["then"]:
        leave("nothing of it is left")
        return
    found.rules.append({**rule, **_ends(entry)})


def _selector(entry: Entry, name: str) -> Plain:
    dimse = entry.one("dcmDIMSE")
    when = [_condition(one, dimse) for one in entry.all("dcmProperty")]
    if classes := entry.all("dcmSOPClass"):
        when.append({"attribute": "SOPClassUID", "one_of": classes})
    selector: Plain = {"name": name, "where": {"dimse": dimse, "role": entry.one("dicomTransferRole")}}
    return {**selector, "when": when[0] if len(when) == 1 else {"all": when}} if when else selector


def _ends(entry: Entry) -> Plain:
    """What stands behind the actions of a rule."""
    plain: Plain = {}
    if re.fullmatch(r"-?\d+", priority := entry.one("dcmRulePriority")):
        plain["priority"] = int(priority)
    if entry.is_a(_LEGACY) or entry.one("dcmCoercionSufficient").upper() == "TRUE":
        plain["stop"] = True
    if (failure := _FAILURES.get(entry.one("dcmCoercionOnFailure"), "refuse")) != "refuse":
        plain["on_failure"] = failure
    return plain


def _unique(name: str, rules: list[Plain]) -> str:
    taken = {rule["name"] for rule in rules}
    number = 2
    wanted = name
    while name in taken:
        name, number = f"{wanted} {number}", number + 1
    return name


def _problem(rule: Plain) -> str:
    try:
        parse_rules(yaml.safe_dump({"rules": [rule]}, allow_unicode=True))
    except ConfigError as error:
        return error.problems[0].split(": ", 1)[-1]
    return ""


def _condition(text: str, dimse: str) -> Plain:
    match = _PROPERTY.fullmatch(text.strip())
    if match is None:
        raise _CannotCarry(f"condition {text!r}")
    key, pattern = match["key"].strip(), match["value"].strip()
    try:
        re.compile(pattern)
    except re.error:
        raise _CannotCarry(f"the pattern of condition {text!r}") from None
    plain = re.fullmatch(r"[\w .^-]*", pattern) is not None and "." not in pattern
    if key in _SIDES:
        # In a C-FIND response dcm4chee calls the requestor the sending side; the answer goes to it.
        side = {"sending": "receiving", "receiving": "sending"}[_SIDES[key]] if dimse == "C_FIND_RSP" else _SIDES[key]
        condition: Plain = {side: pattern if plain else {"regex": pattern}}
    elif key in {"SendingHostname", "ReceivingHostname"}:
        if not re.fullmatch(r"[\w.:-]+", pattern):
            raise _CannotCarry(f"the pattern for a host in condition {text!r}")
        condition = {"host": pattern}
    else:
        condition = {"attribute": _path(key), **_attribute_test(pattern, plain=plain)}
    return {"not": condition} if match["not"] else condition


def _attribute_test(pattern: str, *, plain: bool) -> Plain:
    if not pattern:
        return {"empty": True}
    return {"equals": pattern} if plain else {"regex": pattern}


def _path(text: str) -> str:
    try:
        return str(parse_path(text))
    except BadPath as error:
        raise _CannotCarry(str(error)) from None


def _actions(entry: Entry, leave: Any, found: Imported) -> Iterator[Plain]:
    """Every coercion of an entry in dcm4chee's order, as actions; what cannot be carried over is left."""
    for name, words in _UNKNOWN.items():
        for value in entry.all(name):
            leave(f"{name}={value}: {words}")
    scheme, _, rest = entry.one("dcmURI").partition(":")
    if entry.is_a(_NEWER):
        yield from _by_scheme(scheme, rest, entry, leave, found)
    else:
        if scheme:
            leave("dcmURI: a style sheet")
        if leading := entry.one("dcmLeadingCFindSCP"):
            yield _from_leading(leading, entry, found)
        if entry.one("dcmTrimISO2022CharacterSet").upper() == "TRUE":
            yield {"trim_iso2022": True}
        if entry.one("dcmNullifyIssuerOfPatientID") == "ALWAYS":
            yield {"nullify": ["IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"]}
        elif matching := entry.one("dcmNullifyIssuerOfPatientID"):
            leave(f"dcmNullifyIssuerOfPatientID={matching}: only for certain issuers")
        yield from _merged(entry, leave)
    if tags := entry.all("dcmNullifyTag"):
        yield {"nullify": [str(parse_path(f"({tag[:4]},{tag[4:]})")) if re.fullmatch("[0-9A-Fa-f]{8}", tag) else tag
                           for tag in tags]}  # fmt: skip


def _by_scheme(scheme: str, rest: str, entry: Entry, leave: Any, found: Imported) -> Iterator[Plain]:
    match scheme:
        case "merge-attrs":
            yield from _merged(entry, leave)
        case "leading-arc":
            yield _from_leading(rest, entry, found)
        case "trim-ISO2022":
            yield {"trim_iso2022": True}
        case _:
            leave(f"dcmURI: {scheme}")


def _from_leading(aet: str, entry: Entry, found: Imported) -> Plain:
    found.settings.setdefault("peer", aet.strip("/ "))
    policy = entry.one("dcmAttributeUpdatePolicy", "MERGE").lower()
    return {"from_leading": {"sets": ["patient", "study"], "policy": policy}}


def _merged(entry: Entry, leave: Any) -> Iterator[Plain]:
    for text in entry.all("dcmMergeAttribute"):
        name, equals, value = text.partition("=")
        try:
            if not equals and name.endswith("!"):
                yield {"remove": _path(name[:-1])}
            elif name.strip() in {"SpecificCharacterSet", "00080005"}:
                yield {"charset": value.split("\\")}
            elif not value:
                yield {"nullify": _path(name)}
            else:
                yield {"set": {_item(_path(name)): _format(value)}}
        except _CannotCarry as reason:
            leave(f"dcmMergeAttribute {text}: {reason}")


def _item(path: str) -> str:
    """dcm4chee makes the item it names; ours does when the item has a number."""
    *sequences, last = path.split(".")
    return ".".join([*(one if one.endswith("]") else f"{one}[0]" for one in sequences), last])


def _format(text: str) -> str:
    return _REFERENCE.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    path, (_, *arguments) = _path(match[1]), match[2].split(",") if match[2] else [""]
    match arguments:
        case []:
            return f"{{{path}}}"
        case ["upper" | "lower" as case]:
            return f"{{{path}|{case}}}"
        case ["slice", *bounds]:
            return f"{{{path}|slice:{':'.join(bounds) if len(bounds) > 1 else bounds[0] + ':'}}}"
        case _:
            raise _CannotCarry(f"format {','.join(arguments)!r} makes other values here")

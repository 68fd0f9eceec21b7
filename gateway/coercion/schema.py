"""The JSON Schema of rule files, for editors: completion and checks while typing.

It knows the words of the language and their shapes. What needs the data dictionary, such as whether a keyword exists or
a value fits its VR, is for the parser to say.
"""

from __future__ import annotations

from typing import Any

from gateway.coercion.actions import Missing
from gateway.coercion.parse_actions import ACTIONS
from gateway.coercion.parse_conditions import TESTS
from gateway.coercion.rules import OnFailure, Where
from gateway.coercion.sources import SETS, Policy

Schema = dict[str, Any]

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_PATH: Schema = {
    "type": "string",
    "description": "Keyword, (gggg,eeee), or a path such as RequestAttributesSequence[0].StudyInstanceUID",
    "pattern": r"^[\w(][\w(),\[\]*.]*$",
}
_PATTERN: Schema = {"type": "string", "format": "regex"}
_CONDITION: Schema = {"$ref": "#/$defs/condition"}
_TITLES: Schema = {
    "description": "An AE title, several, or a pattern for the whole of it",
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def schema() -> Schema:
    """The schema of a rule file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Coercion rules of dicom-gateway",
        **_object(
            {
                "record_originals": _several({"enum": ["received", "sent"]})
                | {"description": "Where Original Attributes Sequence says what was changed; received always"},
                "tables": {"type": "object", "additionalProperties": {"$ref": "#/$defs/table"}},
                "devices": {
                    "description": "Attributes of devices by AE title, for 'supplement'",
                    "type": "object",
                    "additionalProperties": {"type": "object", "additionalProperties": _TEXT},
                },
                "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
            }
        ),
        "$defs": {"rule": _rule(), "condition": _condition(), "action": _action(), "table": _table()},
    }


def _rule() -> Schema:
    word = {"enum": [one.value for one in Where]}
    dimse = _object(
        {"dimse": {"enum": ["C_STORE_RQ", "C_FIND_RQ", "C_FIND_RSP"]}, "role": {"enum": ["SCU", "SCP"]}},
        "dimse",
        "role",
    )
    return _object(
        {
            "name": {"type": "string", "description": "Unique; leading-attributes replaces the built-in rule"},
            "description": {"type": "string"},
            "where": _several({"anyOf": [word, dimse]}),
            "when": _CONDITION,
            "then": _several({"$ref": "#/$defs/action"}),
            "priority": {"type": "integer", "description": "Higher goes first; default 0"},
            "stop": {"type": "boolean", "description": "No rule after this one, when it applies"},
            "on_failure": {"enum": [one.value for one in OnFailure]},
            "enabled": {"type": "boolean"},
        },
        "name",
        "where",
        "then",
    )


def _condition() -> Schema:
    titles = {**_TITLES, "oneOf": [*_TITLES["oneOf"], _object({"regex": _PATTERN}, "regex")]}
    code = {"oneOf": [{"type": "string"}, _object({"value": _TEXT, "scheme": _TEXT}, "value")]}
    return _object(
        {
            "all": _several(_CONDITION),
            "any": _several(_CONDITION),
            "not": _CONDITION,
            "sending": titles,
            "receiving": titles,
            "host": _several({"type": "string"}) | {"description": "Address, CIDR or name of the peer"},
            "attribute": _PATH,
            "equals": _TEXT,
            "one_of": _several(_TEXT),
            "regex": _PATTERN,
            "empty": {"type": "boolean"},
            "present": {"type": "boolean"},
            "code": code,
        }
    ) | {"dependentRequired": {name: ["attribute"] for name in TESTS}}


def _action() -> Schema:
    values = {"type": "object", "propertyNames": _PATH, "additionalProperties": _TEXT}
    substitution = {"pattern": _PATTERN, "with": {"type": "string"}}
    shapes: dict[str, Schema] = {
        "from_leading": _object(
            {
                "sets": _several({"enum": list(SETS)}),
                "attributes": _several(_PATH),
                "policy": {"enum": [one.value for one in Policy]},
            }
        ),
        "set": values,
        "default": values,
        "copy": {"type": "object", "propertyNames": _PATH, "additionalProperties": _PATH},
        "remove": _several(_PATH),
        "nullify": _several(_PATH),
        "replace": _object(
            {"attribute": _PATH, **substitution, "undo": _object(substitution, "pattern", "with")},
            "attribute",
            "pattern",
            "with",
        ),
        "map": _object(
            {"attribute": _PATH, "table": {"type": "string"}, "missing": {"enum": [one.value for one in Missing]}},
            "attribute",
            "table",
        ),
        "issuer_of_patient_id": _object(
            {"name": _TEXT, "universal_id": _TEXT, "universal_type": _TEXT, "replace": {"type": "boolean"}}, "name"
        ),
        "keep_patient_id": _object({"issuer": _TEXT, "universal_id": _TEXT, "universal_type": _TEXT}, "issuer"),
        "supplement": _object({"device": {"enum": ["sending", "receiving"]}}, "device"),
        "remap_uids": {"oneOf": [{"const": "all"}, _object({"table": {"type": "string"}}, "table")]},
        "charset": _several({"type": "string"}),
        "trim_iso2022": {"type": "boolean"},
    }
    return _object({name: shapes[name] for name in ACTIONS}) | {"minProperties": 1, "maxProperties": 1}


def _table() -> Schema:
    inline = _object({"values": {"type": "object", "additionalProperties": _TEXT}}, "values")
    column = {"type": "string"}
    return {"oneOf": [inline, _object(dict.fromkeys(("csv", "key", "value"), column), "csv", "key", "value")]}


def _object(properties: Schema, *required: str) -> Schema:
    shape: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | {"required": list(required)} if required else shape


def _several(one: Schema) -> Schema:
    return {"oneOf": [one, {"type": "array", "items": one}]}

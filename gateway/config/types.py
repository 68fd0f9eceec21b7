"""Types of configuration values: durations, sizes, AE titles, paths relative to the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.functional_serializers import PlainSerializer

from gateway.dicom.caller import ae_title

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W|(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?)"
)
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKMGT]i?)?B?")
_POWERS = {"k": 1, "M": 2, "G": 3, "T": 4}


def parse_duration(value: object) -> timedelta:
    """An ISO 8601 duration of weeks, or of days to seconds, such as ``PT5M`` or ``P1DT12H``.

    Raises:
        ValueError: it is none; years and months have no fixed length and are refused.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    parts = {unit: float(number) for unit, number in match.groupdict().items() if number} if match else {}
    if not parts:
        raise ValueError("not an ISO 8601 duration such as PT30S, PT5M, PT1H or P7D")
    return timedelta(**parts)


def format_duration(value: timedelta) -> str:
    """The shortest ISO 8601 spelling."""
    minutes, seconds = divmod(value.seconds + value.microseconds / 1e6, 60)
    hours, minutes = divmod(minutes, 60)
    time = "".join(f"{number:g}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
    days = f"{value.days}D" if value.days else ""
    return f"P{days}{'T' + time if time else ''}" if days or time else "PT0S"


def parse_size(value: object) -> int:
    """A number of bytes: a plain integer, or with a unit such as ``64MiB`` (1024) or ``64MB`` (1000).

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a size is not negative")
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size such as 1048576, 64MiB or 2GB")
    unit = match["unit"] or ""
    base = 1024 if unit.endswith("i") else 1000
    return int(float(match["number"]) * base ** _POWERS.get(unit[:1].replace("K", "k"), 0))


def _workers(value: object) -> object:
    return None if value == "auto" else value


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted here")
    return value


def _relative_to_file(path: Path, info: ValidationInfo) -> Path:
    base = info.context.get("base") if info.context else None
    return path if base is None else base / path.expanduser()


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


_T = TypeVar("_T")


def one_or_many(value: _T) -> list[_T] | _T:
    """Let a single mapping stand for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def one_or_many_schema(schema: JsonDict) -> None:
    """Say in the JSON Schema of a list that a single item may stand for it."""
    items = schema.pop("items")
    schema["anyOf"] = [items, {"type": schema.pop("type"), "items": items}]


def _schema(kind: str, pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "pattern": pattern, "examples": list(examples)})


def _written(write: Callable[[timedelta], str]) -> PlainSerializer:
    return PlainSerializer(write, when_used="json")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    _written(format_duration),
    _schema("string", "^P", "PT30S", "PT5M", "P7D"),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE.pattern}]}),
]
Integer = Annotated[int, BeforeValidator(_not_bool)]
Count = Annotated[Integer, Field(ge=0)]
Frequency = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, allow_inf_nan=False)]
Port = Annotated[Integer, Field(ge=0, le=65535)]
RemotePort = Annotated[Integer, Field(ge=1, le=65535)]
AETitle = Annotated[str, AfterValidator(ae_title), Field(examples=["GATEWAY"])]
Workers = Annotated[
    Annotated[Integer, Field(ge=1)] | None,
    BeforeValidator(_workers),
    PlainSerializer(lambda value: value or "auto", when_used="json"),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
ConfigPath = Annotated[Path, AfterValidator(_relative_to_file)]
Network = Annotated[str, AfterValidator(_network), Field(examples=["192.0.2.10", "192.0.2.0/24", "2001:db8::/32"])]

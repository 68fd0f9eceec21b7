"""Tables and devices from YAML: what stands beside the rules and is used in them by name."""

from __future__ import annotations

import csv
import io
from pathlib import Path as FilePath

from gateway.coercion.actions import Table
from gateway.coercion.parse_actions import needed, top_level
from gateway.coercion.sources import Device
from gateway.coercion.values import InvalidValue, checked
from gateway.coercion.yamlnodes import Place, each
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import InvalidAETitle, ae_title
from gateway.dicom.tags import keyword_of

_MOST_ROWS = 1_000_000


def tables(place: Place, folder: FilePath) -> dict[str, Table]:
    """Every table of the file; CSV files are found beside it."""
    found = each(place.mapping().items(), lambda one: _table(one[0], one[1], folder))
    return {table.name: table for table in found}


def _table(name: str, place: Place, folder: FilePath) -> Table:
    keys = place.mapping(("values", "csv", "key", "value"))
    if "values" in keys:
        return Table(name, tuple((key, value.text()) for key, value in keys["values"].mapping().items()))
    needed(place, keys, "csv", "key", "value")
    return Table(name, _csv_rows(folder, keys["csv"], keys["key"].text(), keys["value"].text()))


def _csv_rows(folder: FilePath, place: Place, key: str, value: str) -> tuple[tuple[str, str], ...]:
    path = folder / place.text()
    rows: dict[str, str] = {}
    try:
        data = place.problems.also[str(path)] = path.read_bytes()
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        for column in (key, value):
            if column not in (reader.fieldnames or ()):
                raise place.broken(f"{path.name} has no column {column!r}", ", ".join(reader.fieldnames or ()))
        for row in reader:
            _add_row(rows, row[key], row[value], place, f"line {reader.line_num} of {path.name}")
    except OSError as error:
        raise place.broken(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise place.broken(f"{path} is no CSV file in UTF-8") from error
    return tuple(rows.items())


def _add_row(rows: dict[str, str], key: str | None, value: str | None, place: Place, where: str) -> None:
    if key is None or value is None:
        raise place.broken(f"{where} is too short")
    if rows.get(key, value) != value:
        raise place.broken(f"{where} gives a second value for a key")
    if len(rows) >= _MOST_ROWS:
        raise place.broken(f"more than {_MOST_ROWS} rows")
    rows[key] = value


def devices(place: Place) -> tuple[Device, ...]:
    """Every device of the file."""
    return each(place.entries(), _device)


def _device(entry: tuple[Place, Place]) -> Device:
    try:
        aet = ae_title(entry[0].text())
    except InvalidAETitle as error:
        raise entry[0].broken(str(error)) from error
    values = dict(each(entry[1].entries(), _attribute))
    return Device(aet, Attributes.of(values))


def _attribute(entry: tuple[Place, Place]) -> tuple[str, str]:
    tag = top_level(entry[0])
    try:
        checked(tag, entry[1].text())
    except InvalidValue as error:
        raise entry[1].broken(str(error)) from error
    return keyword_of(tag), entry[1].text()

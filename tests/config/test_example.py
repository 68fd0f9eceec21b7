"""The annotated configuration loads and shows every key; the JSON Schema agrees with the loader."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from gateway.config import json_schema, load
from gateway.config.environment import model_at
from gateway.config.models import Config

CONF = Path("conf")
EXAMPLE = CONF / "gateway.yaml"


def keys_of(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in model.model_fields:
        yield (*above, name)
        if name == "peers":
            continue
        below = model_at((*above, name), Config)
        if below is not None:
            yield from keys_of(below, (*above, name))


def test_it_loads() -> None:
    config = load(EXAMPLE, {})
    assert config.ae.title == "GATEWAY"
    assert config.leading[0].peer == "QRSCP"


@pytest.mark.parametrize("path", list(keys_of(Config)), ids=".".join)
def test_every_key_is_in_it(path: tuple[str, ...]) -> None:
    values: Any = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    for part in path:
        values = values[0] if isinstance(values, list) else values  # a list of sections shows one
        assert part in values
        values = values[part]


def test_every_key_of_a_peer_is_in_it() -> None:
    peers = yaml.safe_load(EXAMPLE.read_text("utf-8"))["peers"]
    peer_model = model_at(("peers", "ANY"), Config)
    assert peer_model is not None
    shown = {key for peer in peers.values() for key in peer}
    assert shown == set(peer_model.model_fields)
    timeouts = model_at(("peers", "ANY", "timeouts"), Config)
    assert timeouts is not None
    assert {key for peer in peers.values() for key in peer.get("timeouts", {})} == set(timeouts.model_fields)


@pytest.mark.parametrize("section", ["ae", "query", "http", "audit", "logging", "leading"])
def test_it_shows_the_defaults(section: str, tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").touch()
    minimal = tmp_path / "gateway.yaml"
    peers = "peers: {QRSCP: {aet: QRSCP, host: 127.0.0.1, port: 11113}}\nleading: {peer: QRSCP}\n"
    minimal.write_text(f"archive: {{dicomdir: DICOMDIR}}\n{peers}")
    assert getattr(load(EXAMPLE, {}), section) == getattr(load(minimal, {}), section)


def test_it_fits_the_json_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text("utf-8")), schema)


@pytest.mark.parametrize("text", ["ae: {titel: A}", "ae: {port: x}", "peers: {A: {aet: A}}", "query: {scope: some}"])
def test_the_json_schema_refuses_what_the_loader_refuses(text: str) -> None:
    values = {"archive": {"dicomdir": "DICOMDIR"}, **yaml.safe_load(text)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json_schema())


def test_every_key_has_a_text() -> None:
    text = json.dumps(json_schema())
    assert text.count('"description"') > 40


def test_every_key_is_used() -> None:
    """A key that nobody reads would change nothing, silently."""
    sources = [
        *Path("gateway/daemon").glob("*.py"),
        *Path("gateway/cli").glob("*.py"),
        Path("gateway/config/checks.py"),
    ]
    text = "".join(source.read_text("utf-8") for source in sources)
    keys = {path[-1] for path in keys_of(Config)}
    assert {key for key in keys if not re.search(rf"\.{key}\b", text)} == set()

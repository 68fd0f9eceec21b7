"""What the README shows works: its configuration, its rules, and every command, in the order a reader meets them."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.coercion.parser import load_rules
from gateway.config import load
from tests.support import dicomfiles, markdown
from tests.support.gateways import serving
from tests.support.peers import RunningPeer, dcmqrscp, orthanc, storescp
from tests.support.ports import free_port

README = Path("README.md")
STUDY = "1.2.826.0.1.3680043.8.498.1"
ELSEWHERE = {"make demo": "tests/scenario", "make test": ".ci/run"}
"""Commands that other tests, or CI itself, run."""


@dataclass
class Shown:
    """Everything the README supposes, running; its ports are replaced by free ones."""

    folder: Path
    ports: dict[str, str]
    viewer: RunningPeer

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        text = re.sub(r"\b(11112|8080|4242|8042)\b", lambda match: self.ports[match[0]], command)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", text], cwd=self.folder, env={**os.environ, "PATH": path, "no_proxy": "127.0.0.1"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("readme")
    old = {"PatientName": "SMITH^JON", "PatientID": "OLD", "StudyInstanceUID": STUDY}
    new = {"PatientName": "SMYTHE^JOHN", "PatientID": "NEW", "StudyInstanceUID": STUDY}
    dicomfiles.write_file_set(folder / "var/archive", dicomfiles.study("readme", 2, **old))
    ports = {port: str(free_port()) for port in ("11112", "8080", "4242", "8042")}
    (settings,) = markdown.blocks(README, "json")
    foreign = json.loads(re.sub(r"\b(11112|4242|8042)\b", lambda match: ports[match[0]], settings.text))
    with (
        storescp(folder / "viewer") as viewer,
        dcmqrscp(folder / "leading") as leading,
        orthanc(folder / "orthanc", settings=foreign),
    ):
        leading.store(dicomfiles.write(folder / "corrected", dicomfiles.study("readme", 1, **new)))
        ports |= {"11113": str(leading.port), "11115": str(viewer.port)}
        text = markdown.file_of(README, "gateway.yaml")
        (folder / "gateway.yaml").write_text(re.sub(r"\b\d{4,5}\b", lambda match: ports.get(match[0], match[0]), text))
        (folder / "coercion.yaml").write_text(markdown.file_of(README, "coercion.yaml"))
        with serving(folder / "gateway.yaml"):
            yield Shown(folder, ports, viewer)


@pytest.mark.peers("dcmtk", "orthanc", "curl")
@pytest.mark.parametrize("command", markdown.commands(README))
def test_every_command_works(shown: Shown, command: str) -> None:
    if command in ELSEWHERE:
        assert Path(ELSEWHERE[command]).exists()
        return
    if " serve " in command:
        return  # it is what the fixture runs
    done = shown.run(command)
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert "Traceback" not in text
    if "SMYTHE" in command and "findscu" in command:
        assert "SMYTHE^JOHN" in text
        assert STUDY in text
    if command.startswith("movescu"):
        received = shown.viewer.instances()
        assert len(received) == 2
        assert {str(one.PatientName) for one in received.values()} == {"SMYTHE^JOHN"}
        assert {one.PatientID for one in received.values()} == {"NEW"}
    if "/query " in command:
        query = json.loads(text)
        url = f"http://127.0.0.1:{shown.ports['8042']}{query['Path']}/answers"
        with urllib.request.urlopen(url, timeout=30) as response:
            assert len(json.load(response)) == 1


def test_it_serves_what_it_configures() -> None:
    """The command that the fixture stands for is in the README with the configuration's name."""
    assert "dicom-gateway serve --config gateway.yaml" in markdown.commands(README)


def test_its_rules_load(tmp_path: Path) -> None:
    file = tmp_path / "coercion.yaml"
    file.write_text(markdown.file_of(README, "coercion.yaml"))
    assert [rule.name for rule in load_rules(file).rules if "viewer" in rule.name]


def test_its_configuration_loads(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(markdown.file_of(README, "gateway.yaml"))
    assert load(file, {}).leading[0].peer == "QRSCP"

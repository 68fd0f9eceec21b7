"""The Dockerfile, linted by reading it, and its steps carried out outside of a container engine."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.web.app import create_app
from gateway.web.health import READY, Check, Finding, State
from gateway.web.server import WebServer, listen

DOCKERFILE = Path("Dockerfile")


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str
    stage: int


def instructions() -> list[Instruction]:
    found: list[Instruction] = []
    stage = -1
    for line in DOCKERFILE.read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(name, text, stage))
    return found


def named(name: str, stage: int | None = None) -> list[str]:
    return [one.text for one in instructions() if one.name == name and stage in (None, one.stage)]


def test_it_begins_from_slim_images_of_one_named_version() -> None:
    images = {text.split()[0] for text in named("FROM")}
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", images.pop())


def test_it_runs_as_nobody_special() -> None:
    (user,) = named("USER", 1)
    uid, gid = user.split(":")
    assert int(uid) >= 10000
    assert int(gid) >= 10000
    names = [one.name for one in instructions() if one.stage == 1]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in {"RUN", "COPY"})


def test_it_knows_only_these_instructions() -> None:
    known = [
        "FROM",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ]
    assert {one.name for one in instructions()} <= set(known)  # no ADD, no ARG with a secret


def test_every_install_is_locked_by_hashes_or_offline() -> None:
    installs = re.findall(r"pip install ([^&]*)", " && ".join(named("RUN")))
    assert len(installs) == 3
    for options in installs:
        assert "--require-hashes" in options or {"--no-index", "--no-deps"} <= set(options.split())


def test_what_is_copied_is_there_and_reaches_the_engine() -> None:
    rules = [line for line in Path(".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    sources = [source for text in named("COPY", 0) for source in text.split()[:-1]]
    assert sources
    for source in sources:
        assert Path(source).exists()
        assert any(fnmatch.fnmatch(source, rule[1:]) for rule in rules if rule[0] == "!")


def test_entry_point_command_and_signals() -> None:
    assert [json.loads(text) for text in named("ENTRYPOINT")] == [["dicom-gateway"]]
    assert [json.loads(text) for text in named("CMD")] == [["serve"]]
    assert named("STOPSIGNAL") == ["SIGTERM"]
    assert named("EXPOSE") == ["11112 8080"]


def test_the_locks_of_the_container_are_a_part_of_the_tested_one() -> None:
    tested = pins("requirements.lock")
    for name in ("requirements-runtime.lock", "requirements-build.lock"):
        locked = pins(name)
        assert locked
        assert locked.items() <= tested.items()


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", Path(name).read_text("utf-8"), re.MULTILINE | re.IGNORECASE))


def test_its_build_steps_make_a_command_that_runs(tmp_path: Path) -> None:
    """The RUN lines of the build stage, with /opt and the base image's python replaced."""
    source = tmp_path / "src"
    for text in named("COPY", 0):
        *files, target = text.split()
        for file in files:
            if Path(file).is_dir():
                shutil.copytree(file, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (source / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, source / target)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for text in named("RUN", 0):
        command = text.replace("/opt/", f"{tmp_path}/opt/").replace("python -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=source, env=environment, capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    installed = tmp_path / "opt/gateway/bin"
    clean = {"PATH": f"{installed}:/usr/bin:/bin"}
    said = subprocess.run(
        ["dicom-gateway", "--version"], env=clean, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.startswith("dicom-gateway ")
    assert not list(installed.glob("pip*"))


Serving = Callable[[dict[str, Check]], Path]


@pytest.fixture
def serving(tmp_path: Path, request: pytest.FixtureRequest) -> Serving:
    """A server with checks, and the configuration that names its port."""

    def serve(checks: dict[str, Check]) -> Path:
        server = WebServer(create_app(checks), listen("127.0.0.1", 0))
        server.start()
        request.addfinalizer(server.stop)
        file = tmp_path / "gateway.yaml"
        file.write_text(f"archive: {{dicomdir: DICOMDIR, create: true}}\nhttp: {{port: {server.port}}}\n")
        return file

    return serve


def test_the_health_check_asks_livez(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = named("HEALTHCHECK")
    command = json.loads(text.partition(" CMD ")[2])
    assert command[0] == "dicom-gateway"
    monkeypatch.setenv("GATEWAY_CONFIG", str(serving({"archive": lambda: Finding(State.NOT_READY)})))
    assert run(command[1:]) == 0
    assert run([*command[1:], "--ready"]) == 1


def test_health_says_which_part_is_not_ready(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    file = serving({"archive": lambda: Finding(State.NOT_READY, "less than 1 GiB is free"), "dimse": lambda: READY})
    assert run(["health", "--ready", "--config", str(file)]) == 1
    assert "/readyz: not ready: archive less than 1 GiB is free" in capsys.readouterr().err
    assert run(["health", "--ready", "--json", "--config", str(file)]) == 1
    assert json.loads(capsys.readouterr().out)["parts"]["dimse"] == {"status": "ready"}


def test_health_of_a_gateway_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("archive: {dicomdir: DICOMDIR, create: true}\nhttp: {port: 1}\n")
    assert run(["health", "--config", str(file)]) == 1
    assert "Connection refused" in capsys.readouterr().err

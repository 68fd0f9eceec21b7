"""The command's conventions: exit statuses, one-line errors, JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import run


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **variables},
        check=False,
    )


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("dicom-gateway")
    said = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == command("--version").stdout == f"dicom-gateway {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek-config"], "No such command"),
        (["check-config", "--no-such-option"], "No such option"),
        (["check-config"], "give --config FILE or set GATEWAY_CONFIG"),
        (["check-config", "--config", "/does/not/exist.yaml"], "/does/not/exist.yaml: No such file or directory"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert said in err


def test_without_a_verb_it_shows_the_verbs() -> None:
    done = command()
    assert done.returncode == 2
    assert "check-config" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_check_config_reports_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("ae: {port: x}\nquery: {scop: all}\n")
    assert run(["check-config", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"error: {file}: archive: the key is missing",
        f"error: {file}:1: ae.port: 'x' is not a whole number",
        f"error: {file}:2: query.scop: unknown key (did you mean 'scope'?)",
    ]


def test_check_config_of_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--config", "conf/gateway.yaml"]) == 0
    assert "conf/gateway.yaml: good" in capsys.readouterr().out


def test_check_config_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", "conf/gateway.yaml")
    assert run(["check-config", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ae"]["workers"] == "auto"
    assert document["leading"][0]["query_cache"]["ttl"] == "PT5M"
    assert document["peers"]["VIEWER"]["allow"][0] == "echo"


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["ae"]


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m gateway check-config --schema | true",
        shell=True, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""

"""The script CI runs: it parses, needs no input, and calls targets that exist."""

import re
import subprocess
from pathlib import Path

from tests.support.tools import PACKAGES

SCRIPT = Path(".ci/run")


def test_it_parses() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True, timeout=30)
    assert SCRIPT.stat().st_mode & 0o100


def test_it_reads_no_input_and_requires_the_peers() -> None:
    text = SCRIPT.read_text("utf-8")
    assert "exec </dev/null" in text
    assert "GATEWAY_PEERS=required" in text


def test_it_installs_every_package_that_tests_need() -> None:
    assert set(re.findall(r"missing\+=\((\S+)\)", SCRIPT.read_text("utf-8"))) == set(PACKAGES)


def test_what_it_calls_without_asking_exists() -> None:
    text = SCRIPT.read_text("utf-8")
    optional = set(re.findall(r"^has_target (\S+) &&", text, re.MULTILINE))
    called = set(re.findall(r"^part .* make (\S+)", text, re.MULTILINE))
    assert called
    for target in called - optional:
        assert subprocess.run(["make", "-n", target], capture_output=True, timeout=30, check=False).returncode == 0

"""The examples for systemd and Kubernetes name commands, paths, ports and users that exist and fit one another."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Route

from gateway.cli import VERBS
from gateway.config import load
from gateway.daemon.process import DRAIN_SECONDS
from gateway.web.access import PUBLIC
from gateway.web.app import create_app

UNIT = Path("docs/examples/dicom-gateway.service")
MANIFESTS = Path("docs/examples/kubernetes.yaml")


class Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(scope="module")
def unit() -> Unit:
    parsed = Unit(strict=True, interpolation=None)
    parsed.read(UNIT)
    return parsed


def test_the_unit_runs_verbs_that_exist(unit: Unit) -> None:
    verbs = {verb.__name__.rpartition(".")[2].replace("_", "-") for verb in VERBS}
    for key in ("ExecStartPre", "ExecStart"):
        command, verb = unit["Service"][key].split()
        assert command.endswith("/bin/dicom-gateway")
        assert verb in verbs


def test_the_unit_gives_time_to_drain_and_does_not_repeat_bad_configurations(unit: Unit) -> None:
    assert int(unit["Service"]["TimeoutStopSec"]) > DRAIN_SECONDS
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert unit["Service"]["User"] not in {"", "root"}


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    text = re.sub(r"/opt/dicom-gateway/bin/dicom-gateway", "/bin/true", UNIT.read_text())
    text = re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    verify: list[str | Path] = [analyze, "verify", tmp_path / UNIT.name]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert UNIT.name not in done.stderr


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFESTS.read_text("utf-8"))}


def test_the_configuration_of_the_pod_loads(manifests: dict[str, Any], tmp_path: Path) -> None:
    text = manifests["ConfigMap"]["data"]["gateway.yaml"]
    (tmp_path / "token").write_text("x" * 32)
    file = tmp_path / "gateway.yaml"
    file.write_text(text.replace("/run/secrets/dicom-gateway", str(tmp_path)).replace("/var/lib", str(tmp_path)))
    config = load(file, {})
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert ports == {"dicom": config.ae.port, "http": config.http.port}


def container(manifests: dict[str, Any]) -> Any:
    (found,) = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return found


def test_probes_ask_what_is_served_without_login(manifests: dict[str, Any]) -> None:
    served = {route.path for route in create_app({}).routes if isinstance(route, Route)}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container(manifests)[name]["httpGet"]["path"]
        assert path in served & PUBLIC
    assert container(manifests)["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_pod_is_the_images_user_and_may_drain(manifests: dict[str, Any]) -> None:
    spec = manifests["StatefulSet"]["spec"]["template"]["spec"]
    (user,) = re.findall(r"^USER (\d+):(\d+)$", Path("Dockerfile").read_text("utf-8"), re.MULTILINE)
    context = spec["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user
    assert spec["terminationGracePeriodSeconds"] > DRAIN_SECONDS


def test_what_is_mounted_is_what_is_configured(manifests: dict[str, Any]) -> None:
    mounted = {mount["mountPath"] for mount in container(manifests)["volumeMounts"]}
    text = manifests["ConfigMap"]["data"]["gateway.yaml"]
    for path in re.findall(r"(/(?:run|var)/[^\s,}]+)", text):
        assert any(path.startswith(f"{mount}/") for mount in mounted)

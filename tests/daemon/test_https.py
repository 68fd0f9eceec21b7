"""HTTP over TLS, as a browser, Prometheus and our own verbs meet it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import serving
from tests.support.ports import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "gateway.yaml").write_text(
        "ae: {title: GATEWAY, port: 0, workers: 2}\n"
        "archive: {dicomdir: files/DICOMDIR, create: true, min_free: 0}\n"
        f"http: {{port: {free_port()}, tls: {{certificate: certificate.pem, key: key.pem}}}}\n"
    )
    return tmp_path


def verb(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *words, "--config", str(folder / "gateway.yaml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_https_is_served_and_plain_http_is_not(folder: Path) -> None:
    with serving(folder / "gateway.yaml") as running:
        trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        with httpx.Client(verify=trusted, trust_env=False, timeout=20) as client:
            assert client.get(f"https://127.0.0.1:{running.http_port}/livez").json() == {"status": "alive"}
        with httpx.Client(trust_env=False, timeout=20) as client:
            with pytest.raises(httpx.TransportError):
                client.get(f"http://127.0.0.1:{running.http_port}/livez")
            with pytest.raises(httpx.ConnectError, match="certificate"):
                client.get(f"https://127.0.0.1:{running.http_port}/livez")
        assert verb(folder, "health", "--ready").stdout == "ready\n"
        assert verb(folder, "cache", "show").returncode == 0


def test_a_certificate_that_is_none_is_a_configuration_error(folder: Path) -> None:
    (folder / "certificate.pem").write_text("none")
    ended = verb(folder, "serve")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {folder / 'gateway.yaml'}:3: http.tls.certificate: cannot be used")

"""HTTP over TLS, as a browser, Prometheus and our own verbs meet it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from time import monotonic

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
        f"http: {{port: {free_port()}, timeout: PT1S, max_connections: 10,\n"
        "       tls: {certificate: certificate.pem, key: key.pem}}\n"
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


def test_handshakes_that_stall_are_cut_and_hold_nobody_up(folder: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    with serving(folder / "gateway.yaml") as running, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", running.http_port)
        stalled = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(50)]
        for number, one in enumerate(stalled):
            with contextlib.suppress(OSError):  # ended for a later one already
                one.sendall((b"", b"\x16", b"\x16\x03\x01\x02\x00\x01")[number % 3])
        began = monotonic()
        with httpx.Client(verify=trusted, trust_env=False, timeout=20) as client:
            assert client.get(f"https://127.0.0.1:{running.http_port}/livez").status_code == 200
            metrics = client.get(f"https://127.0.0.1:{running.http_port}/metrics").text
        assert monotonic() - began < 5
        assert 'http_limited_total{reason="crowd"}' in metrics
        for one in stalled:
            assert _hung_up(one)
    assert "Traceback" not in running.text


def _hung_up(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1)
    except ConnectionResetError:
        return True


def test_a_certificate_that_is_none_is_a_configuration_error(folder: Path) -> None:
    (folder / "certificate.pem").write_text("none")
    ended = verb(folder, "serve")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {folder / 'gateway.yaml'}:4: http.tls.certificate: cannot be used")

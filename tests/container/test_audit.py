"""The audit of the locks passes for ours and fails for spoilt ones, with the vulnerability service and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.ports import closed_port

HASH = f"--hash=sha256:{'0' * 64}"
GOOD = f"pydicom==3.0.2 {HASH}\n"


def audit(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ".ci/audit.py", *map(str, arguments)], env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def written(folder: Path, text: str) -> Path:
    lock = folder / "some.lock"
    lock.write_text(text)
    return lock


def test_our_locks_pass() -> None:
    status, text = audit("--offline")
    assert status == 0, text
    assert "0 problems; OSV was not asked" in text


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ("pydicom==3.0.2\n", "pydicom has no hash"),
        (f"pydicom>=3.0.2 {HASH}\n", "pydicom is not pinned"),
        (f"pydicom==3.* , !=3.1 {HASH}\n", "pydicom is not pinned"),
        (f"pydicom {HASH}\n", "pydicom is not pinned"),
        ("pydicom==3.0.2 --hash=md5:00\n", "not understood"),
        (f"pydicom @ https://example.org/pydicom.whl {HASH}\n", "comes from a URL"),
        (f"--index-url https://example.org/simple\n{GOOD}", "--index-url has no place"),
        ("-e .\n", "-e has no place"),
        (f"pydicom==3.0.1 \\\n    {HASH}\n", "pydicom 3.0.1 is below 3.0.2: CVE-2026-32711"),
        (f"PyYAML==5.3.1 ; python_version < '3.12' {HASH}\n", "pyyaml 5.3.1 is below 5.4"),
    ],
)
def test_a_spoilt_lock_fails(tmp_path: Path, spoilt: str, said: str) -> None:
    status, text = audit("--offline", written(tmp_path, spoilt))
    assert status == 1
    assert said in text


class Osv(BaseHTTPRequestHandler):
    """What OSV would say: that pydicom has a hole."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hole = {
            "id": "GHSA-test", "summary": "a hole", "details": "a hole", "modified": "2026-01-01T00:00:00Z",
            "affected": [{"package": {"name": "pydicom", "ecosystem": "PyPI"}, "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}]}],
        }  # fmt: skip
        body = json.dumps({"vulns": [hole]} if asked["package"]["name"] == "pydicom" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def osv() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()
        thread.join()


def test_what_the_service_knows_fails(tmp_path: Path) -> None:
    with osv() as url:
        status, text = audit("--osv-url", url, written(tmp_path, GOOD))
        assert (status, "pydicom 3.0.2: GHSA-test, fixed in 9.9" in text) == (1, True), text
        status, text = audit("--osv-url", url, written(tmp_path, f"h11==0.16.0 {HASH}\n"))
        assert (status, "0 problems; OSV was asked" in text) == (0, True), text


def test_a_service_that_cannot_be_reached_is_told_and_is_no_pass_by_itself(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1/query"
    status, text = audit("--osv-url", url, written(tmp_path, GOOD))
    assert (status, "OSV could NOT be asked" in text) == (0, True), text
    status, text = audit("--osv-url", url, written(tmp_path, f"pydicom==3.0.1 {HASH}\n"))
    assert (status, "is below 3.0.2" in text) == (1, True), text

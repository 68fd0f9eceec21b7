"""A real Prometheus that scrapes what a test names, and answers PromQL."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.processes import Running
from tests.support.tools import path_of
from tests.support.waiting import wait_until


@dataclass
class RunningPrometheus:
    """A Prometheus that answers."""

    port: int

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant vector.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                result: list[dict[str, Any]] = json.load(response)["data"]["result"]
                return result
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def is_ready(self) -> bool:
        """Whether it serves queries."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Sequence[int], rules: Sequence[Path] = ()) -> Iterator[RunningPrometheus]:
    """Scrape ports of this machine every second as job ``dicom-gateway``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    static = [{"targets": [f"127.0.0.1:{target}" for target in targets]}]
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rule.absolute()) for rule in rules],
                "scrape_configs": [{"job_name": "dicom-gateway", "static_configs": static}],
            }
        )
    )
    command = [
        path_of("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with Running(command, folder / "prometheus.log") as process:
        running = RunningPrometheus(port)

        def ready() -> bool:
            assert process.exit_status is None, process.text
            return running.is_ready()

        wait_until(ready, "Prometheus is ready", seconds=30)
        yield running

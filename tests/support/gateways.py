"""Our own gateway as a process, started as an operator would: a YAML file and ``serve``.

with gateway(tmp_path / "gw", peers={...}, leading={"peer": "QRSCP"}) as running:
    scu.find(running.port, ...)
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.processes import Running
from tests.support.waiting import wait_until

_ANNOUNCED = re.compile(r"serves DICOM on \S+ port (\d+), HTTP on \S+ port (\d+)")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
ALL_VERBS = ("echo", "find", "move", "get", "store", "commit")


@dataclass
class RunningGateway:
    """A gateway that answers on both its ports."""

    aet: str
    port: int
    http_port: int
    process: Running
    config: Path

    @property
    def text(self) -> str:
        """What it has logged so far."""
        return self.process.text

    def http(self, path: str) -> tuple[int, str]:
        """GET a path; status and body.

        Raises:
            AssertionError: nobody answers; with what the gateway has said.
        """
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError as error:
            raise AssertionError(f"{error.reason}; exit status {self.process.exit_status}\n{self.text}") from error

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that have these labels; 0 when there is none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        samples = _SAMPLE.findall(self.http("/metrics")[1])
        return sum(
            float(value)
            for sample, found, value in samples
            if sample == f"dicom_gateway_{name}" and wanted <= set(found.split(","))
        )


def peer(aet: str, port: int, *allow: str) -> dict[str, object]:
    """A configured peer on this machine; everything is allowed unless something is named."""
    return {"aet": aet, "host": "127.0.0.1", "port": port, "allow": list(allow or ALL_VERBS)}


@contextmanager
def gateway(
    folder: Path, *, peers: Mapping[str, object], dicomdir: Path | None = None, **sections: object
) -> Iterator[RunningGateway]:
    """Write a configuration, serve it, and stop it when the block ends.

    Args:
        dicomdir: of the local archive; an empty file-set in ``folder`` unless given.
        sections: further top-level keys of the configuration, or replacements of those written here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive: dict[str, object] = {"dicomdir": str(dicomdir or folder / "files" / "DICOMDIR"), "min_free": 0}
    settings: dict[str, object] = {
        "ae": {"title": "GATEWAY", "port": 0, "workers": 1},
        "http": {"port": 0},
        "peers": dict(peers),
        "archive": archive if dicomdir else {**archive, "create": True},
        **sections,
    }
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    with serving(config) as running:
        yield running


@contextmanager
def serving(config: Path) -> Iterator[RunningGateway]:
    """Serve a configuration that is there already."""
    title = yaml.safe_load(config.read_text()).get("ae", {}).get("title", "GATEWAY")
    with Running([sys.executable, "-m", "gateway", "serve", "--config", config], config.with_suffix(".log")) as process:

        def announced() -> list[tuple[str, str]]:
            assert process.exit_status is None, f"the gateway ended:\n{process.text}"
            return _ANNOUNCED.findall(process.text)

        port, http_port = wait_until(announced, "the gateway says where it serves", seconds=30)[-1]
        yield RunningGateway(title, int(port), int(http_port), process, config)

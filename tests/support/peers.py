"""Real peers: dcmqrscp, storescp and Orthanc on free ports, answering when the block begins, gone when it ends.

    with storescp(tmp_path / "viewer") as viewer, dcmqrscp(tmp_path / "q", peers={viewer.aet: viewer.port}) as leading:
        leading.store(files)

A peer can be stopped and started again on its port, to play an archive that is down for a while.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from tests.support import scu
from tests.support.ports import free_port
from tests.support.processes import Running
from tests.support.tools import path_of
from tests.support.waiting import wait_until


@dataclass
class RunningPeer:
    """A peer that a test talks to.

    Attributes:
        folder: where its files are; for a receiver, those it has received.
    """

    aet: str
    port: int
    folder: Path
    command: Sequence[str | Path]
    ready: Callable[[RunningPeer], bool]
    process: Running | None = field(default=None, repr=False)
    http_port: int = 0

    def start(self) -> None:
        """Start it, again after :meth:`stop`, and wait until it answers."""
        self.process = Running(self.command, self.folder.with_name(f"{self.folder.name}.log"))
        wait_until(self._is_ready, f"{self.command[0]} answers on port {self.port}", seconds=30)

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.exit_status is not None:
            raise AssertionError(f"{self.command[0]} ended:\n{self.process.text}")
        return self.ready(self)

    def stop(self) -> None:
        """End it; its files stay."""
        if self.process is not None:
            self.process.stop()

    def store(self, files: Sequence[Path]) -> None:
        """Put instances into it by C-STORE."""
        outcome = scu.store(self.port, files, aec=self.aet)
        assert outcome.returncode == 0, outcome.text
        assert "with status SUCCESS" in outcome.text or "Success" in outcome.text, outcome.text

    def files(self) -> list[Path]:
        """The DICOM files in its folder, sorted."""
        return sorted(file for file in self.folder.rglob("*") if file.is_file() and _is_dicom(file))

    def instances(self) -> dict[str, Dataset]:
        """What is in its folder, by SOP Instance UID."""
        return {str(one.SOPInstanceUID): one for one in map(dcmread, self.files())}

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.process.text if self.process else ""

    def api(self, path: str, data: bytes | None = None, method: str | None = None) -> Any:
        """Call Orthanc's REST interface; the answer is parsed JSON."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


@contextmanager
def _running(peer: RunningPeer) -> Iterator[RunningPeer]:
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def _answers_echo(peer: RunningPeer) -> bool:
    return scu.echo(peer.port, aec=peer.aet).returncode == 0


@contextmanager
def storescp(folder: Path, aet: str = "STORESCP", options: Sequence[str] = ("+xa",)) -> Iterator[RunningPeer]:
    """DCMTK's receiver; it writes the bytes as they come.

    Args:
        options: what it accepts and how it misbehaves; ``+xa``, every transfer syntax, unless given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command: list[str | Path] = [
        path_of("storescp"),
        "-v",
        "--fork",
        "-aet",
        aet,
        "-pm",
        *options,
        "+B",
        "-od",
        folder,
        str(port),
    ]
    with _running(RunningPeer(aet, port, folder, command, _answers_echo)) as peer:
        yield peer


@contextmanager
def dcmqrscp(
    folder: Path, aet: str = "QRSCP", peers: Mapping[str, int] | None = None, options: Sequence[str] = ()
) -> Iterator[RunningPeer]:
    """DCMTK's archive; anybody may query, store and move.

    Args:
        peers: move destinations on this machine, AE title to port.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    hosts = "\n".join(f"host{i} = ({title}, 127.0.0.1, {to})" for i, (title, to) in enumerate((peers or {}).items()))
    configuration = folder.with_name(f"{folder.name}.cfg")
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 64\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{aet} {folder} RW (1000, 8192mb) ANY\nAETable END\n"
    )
    command: list[str | Path] = [path_of("dcmqrscp"), "-v", "-c", configuration, *options]
    with _running(RunningPeer(aet, port, folder, command, _answers_echo)) as peer:
        yield peer


@contextmanager
def orthanc(
    folder: Path,
    aet: str = "ORTHANC",
    peers: Mapping[str, int] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[RunningPeer]:
    """Orthanc with its REST interface; anybody may query, store and move.

    Args:
        peers: modalities on this machine, AE title to port.
        settings: keys of its configuration over the ones set here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    effective: dict[str, Any] = {
        "Name": aet,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [],
        "DicomAet": aet,
        "DicomPort": free_port(),
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": {title: [title, "127.0.0.1", to] for title, to in (peers or {}).items()},
        "HttpPort": free_port(),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        **(settings or {}),
    }
    configuration = folder.with_name(f"{folder.name}.json")
    configuration.write_text(json.dumps(effective))
    command: list[str | Path] = [path_of("Orthanc"), configuration]
    with _running(
        RunningPeer(
            effective["DicomAet"], effective["DicomPort"], folder, command, _answers_http,
            http_port=effective["HttpPort"],
        )
    ) as peer:  # fmt: skip
        yield peer


def _answers_http(peer: RunningPeer) -> bool:
    try:
        return bool(peer.api("/system")) and _answers_echo(peer)
    except (urllib.error.URLError, ConnectionError):
        return False


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"

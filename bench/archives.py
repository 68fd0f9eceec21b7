"""Ours and the peers: started on free ports with the same data, stopped at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.data import Study
from gateway.dicom.models import VERIFICATION
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import IMPLICIT
from gateway.errors import UpstreamError
from tests.support.ports import free_port
from tests.support.processes import Running
from tests.support.tools import path_of
from tests.support.waiting import wait_until

AET = "BENCH"
MAX_PDU = 131072
_ROOT = Path(__file__).resolve().parents[1]
TIMEOUTS = Timeouts(connect=10, acse=30, dimse=600, network=120)


@dataclass(frozen=True)
class Archive:
    """An archive that is measured.

    Attributes:
        http_port: of its HTTP interface, 0 without one.
    """

    name: str
    aet: str
    port: int
    process: Running = field(repr=False)
    http_port: int = 0

    @property
    def peer(self) -> Peer:
        """As the measuring client calls it."""
        return Peer(self.name, self.aet, "127.0.0.1", self.port, TIMEOUTS)

    def fill(self, study: Study) -> None:
        """Store instances into it.

        Raises:
            AssertionError: one was not taken.
        """
        contexts = {(one.sop_class_uid, one.transfer_syntax_uid) for one in study.instances}
        with connect(self.peer, AET, contexts) as association:
            for one in study.instances:
                status = association.store(one)
                assert status == 0, f"{self.name} answered {status:04X}H"

    def pids(self) -> list[int]:
        """Its processes, children included."""
        found = [self.process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(child) for child in children.read_text().split()] if children.exists() else []
        return found


def _echoes(archive: Archive) -> bool:
    assert archive.process.exit_status is None, archive.process.text
    try:
        with connect(archive.peer, AET, [(VERIFICATION, IMPLICIT)]) as association:
            return association.echo() == 0
    except UpstreamError:
        return False


@contextmanager
def _running(archive: Archive) -> Iterator[Archive]:
    with archive.process:
        wait_until(lambda: _echoes(archive), f"{archive.name} answers", seconds=60)
        yield archive


@contextmanager
def storescp(folder: Path, aet: str, *, nodelay: bool, keep: bool = False) -> Iterator[Archive]:
    """DCMTK's receiver; without ``keep`` it drops what it receives, so that its disk is not measured."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    what = ["+B", "-od", folder] if keep else ["--ignore"]
    command = [path_of("storescp"), "-aet", aet, "+xa", *what, str(port)]
    process = Running(command, folder / "log", {"TCP_NODELAY": "1"} if nodelay else {"TCP_NODELAY": "0"})
    with _running(Archive(aet, aet, port, process)) as archive:
        yield archive


@contextmanager
def dcmqrscp(folder: Path, destinations: Mapping[str, int]) -> Iterator[Archive]:
    """DCMTK's archive. Its database holds some hundred studies; it crashes when it gets 2,000."""
    storage = folder / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    port = free_port()
    hosts = "\n".join(f"h{at} = ({title}, 127.0.0.1, {to})" for at, (title, to) in enumerate(destinations.items()))
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 64\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {storage} RW (500, 65536mb) ANY\nAETable END\n"
    )
    process = Running([path_of("dcmqrscp"), "-c", configuration], folder / "log", {"TCP_NODELAY": "1"})
    with _running(Archive("dcmqrscp", "QRSCP", port, process)) as archive:
        yield archive


@contextmanager
def orthanc(folder: Path, destinations: Mapping[str, int], aet: str = "ORTHANC") -> Iterator[Archive]:
    """Orthanc, its defaults but for the limits on answers and threads."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http_port = free_port(), free_port()
    configuration = folder / "orthanc.json"
    settings = {
        "Name": aet,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "DicomAet": aet,
        "DicomPort": port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": {title: [title, "127.0.0.1", to] for title, to in destinations.items()},
        "DicomThreadsCount": 16,
        "DicomScuTimeout": 600,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "LimitFindResults": 0,
        "LimitFindInstances": 0,
    }
    configuration.write_text(json.dumps(settings))
    process = Running([path_of("Orthanc"), configuration], folder / "log", {"TCP_NODELAY": "1"})
    with _running(Archive("Orthanc" if aet == "ORTHANC" else aet, aet, port, process, http_port)) as archive:
        yield archive


@contextmanager
def ours(
    folder: Path,
    destinations: Mapping[str, int],
    *,
    leading: Archive | None = None,
    durable: bool = True,
) -> Iterator[Archive]:
    """This gateway, as ``serve`` runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http_port = free_port(), free_port()
    peers: dict[str, object] = {
        title: {"aet": title, "host": "127.0.0.1", "port": to} for title, to in destinations.items()
    }
    peers[AET] = {
        "aet": AET,
        "host": "127.0.0.1",
        "port": 1,
        "allow": ["echo", "find", "move", "get", "store"],
    }
    if leading:
        peers["LEADING"] = {"aet": leading.aet, "host": "127.0.0.1", "port": leading.port}
    config = {
        "ae": {"title": "GATEWAY", "port": port, "workers": "auto"},
        "peers": peers,
        "archive": {"dicomdir": str(folder / "archive" / "DICOMDIR"), "create": True, "min_free": 0}
        | ({} if durable else {"durability": "none"}),
        "http": {"port": http_port},
        "logging": {"level": "warning"},
        **({"leading": {"peer": "LEADING"}} if leading else {}),
    }
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
    process = Running(command, folder / "log", {"PYTHONPATH": str(_ROOT), **_quiet()})
    with _running(Archive("ours", "GATEWAY", port, process, http_port)) as archive:
        yield archive


def _quiet() -> dict[str, str]:
    return {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}

"""What the demo runs: two gateways as processes of their own, and a viewer in this one."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import yaml

from gateway.archive.heads import read_head
from gateway.archive.local import LocalArchive
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dicom.models import SERVICES, Model
from gateway.dicom.status import Kind, kind
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import Peer, Verb
from gateway.dimse.requestor import RetrieveProgress, connect
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from gateway.dimse.sopclasses import EXPLICIT
from gateway.errors import GatewayError

VIEWER = "STORESCP"
_STUDY_ROOT = next(service for service in SERVICES if service.model is Model.STUDY_ROOT)
_ANNOUNCED = re.compile(r"port (\d+), HTTP on \S+ port (\d+)")


@dataclass(frozen=True)
class Served:
    """A gateway that answers, and how the viewer calls it."""

    peer: Peer
    http_port: int
    config: Path

    def metric(self, sample: str) -> float:
        """One sample of ``/metrics``, spelled as it stands there; 0 when it is not there."""
        with urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as response:
            text = response.read().decode()
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def serving(folder: Path, title: str, settings: dict[str, object]) -> Iterator[Served]:
    """Write a configuration and serve it in a process of its own, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = _ANNOUNCED.search(line)
            if not found:
                raise GatewayError(f"{title} did not start", hint=f"see {log}")
            yield Served(Peer(title, title, "127.0.0.1", int(found[1])), int(found[2]), config)
        finally:
            process.terminate()


def free_port(preferred: int) -> int:
    """The preferred port if nobody listens there, else 0, which means any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return 0
    return preferred


def store(peer: Peer, files: Sequence[Path]) -> None:
    """Send files by C-STORE.

    Raises:
        GatewayError: one was not taken.
    """
    outgoing = [_outgoing(file) for file in files]
    pairs = dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in outgoing)
    with connect(peer, VIEWER, pairs) as association:
        for one in outgoing:
            if kind(status := association.store(one)) is Kind.FAILURE:
                raise GatewayError(f"{peer.name} refused {one.path} with {status:04X}H")


def _outgoing(file: Path) -> Outgoing:
    head = read_head(file)
    sop_class, instance = head.attributes.text(tags.SOPClassUID), head.attributes.text(tags.SOPInstanceUID)
    length = head.size - head.dataset_offset
    return Outgoing(sop_class, instance, head.transfer_syntax_uid, b"", str(file), head.dataset_offset, length)


def find(peer: Peer, **keys: str) -> tuple[list[Attributes], float]:
    """Ask at STUDY level on an association of its own; the answers, and the seconds from request to last answer."""
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "SpecificCharacterSet": "ISO_IR 192", **keys})
    with connect(peer, VIEWER, [(_STUDY_ROOT.find, EXPLICIT)]) as association:
        begun = time.perf_counter()
        answers = list(association.find(_STUDY_ROOT.find, identifier))
        return answers, time.perf_counter() - begun


def move(peer: Peer, study: str) -> RetrieveProgress:
    """Have a study sent to the viewer; the final response."""
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study})
    with connect(peer, VIEWER, [(_STUDY_ROOT.move, EXPLICIT)]) as association:
        *_, final = association.move(_STUDY_ROOT.move, identifier, VIEWER)
        return final


@contextmanager
def viewing(folder: Path, port: int) -> Iterator[tuple[LocalArchive, int]]:
    """A viewer that keeps what it receives in a file-set of its own."""
    received = LocalArchive(folder / "DICOMDIR")
    received.prepare()
    anybody = PeerPolicy([VIEWER], [KnownCaller("GATEWAY", "GATEWAY", frozenset({Verb.STORE, Verb.ECHO}))])
    server = Server(Handlers(store=received), anybody, Endpoint("127.0.0.1", port))
    server.start()
    try:
        yield received, server.port
    finally:
        server.stop()
        received.close()

"""What a gateway's processes hold, and a client that must be served whatever happens to others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from gateway.dicom.attributes import Attributes
from gateway.dicom.models import VERIFICATION
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.requestor import Association, connect
from gateway.dimse.sopclasses import EXPLICIT, IMPLICIT
from gateway.errors import UpstreamError

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_MIB = 1 << 20


@dataclass(frozen=True)
class Held:
    """What a process tree holds.

    Attributes:
        memory: resident bytes.
        descriptors: but for those of databases, whose connections are pooled.
        databases: descriptors of SQLite files. SQLite keeps those of closed connections for later ones while another
            connection of the process has a lock, so there are as many as were ever needed at once.
    """

    memory: int
    descriptors: int
    threads: int
    databases: int = 0

    def over(self, before: Held) -> Held:
        """How much more than before."""
        return Held(
            self.memory - before.memory, self.descriptors - before.descriptors, self.threads - before.threads,
            self.databases - before.databases,
        )  # fmt: skip

    def __str__(self) -> str:
        parts = f"{self.memory / _MIB:+.1f} MiB, {self.descriptors:+d} descriptors, {self.threads:+d} threads"
        return f"{parts}, {self.databases:+d} of databases"


def processes(root: int) -> list[int]:
    """A process and its descendants."""
    found = [root]
    for pid in found:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def held(root: int) -> Held:
    """What a process and its descendants hold now."""
    memory = descriptors = threads = databases = 0
    for pid in processes(root):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            targets = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        memory += int(values.get("VmRSS", "0 kB").split()[0]) * 1024
        threads += int(values["Threads"])
        databases += sum(".sqlite" in target for target in targets)
        descriptors += sum(bool(target) and ".sqlite" not in target for target in targets)
    return Held(memory, descriptors, threads, databases)


def _target(link: Path) -> str:
    """Where a descriptor leads; empty when it has just been closed."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


class Witness(threading.Thread):
    """A caller that the leading archive is not asked for, so that its answers depend on nobody: it asks all the time.

    Each answer has to be the local one, whatever others are told; an association that breaks is a fault of the gateway.

    Attributes:
        served: queries answered rightly.
        slowest: the longest of them, in seconds.
        problems: answers that were none, or not the right ones.
    """

    def __init__(self, port: int, aet: str, question: Attributes, wanted: Attributes) -> None:
        super().__init__(daemon=True)
        self._peer = Peer("gateway", "GATEWAY", "127.0.0.1", port, Timeouts(10, 10, 20, 20))
        self._aet = aet
        self._question = question
        self._wanted = wanted
        self._over = threading.Event()
        self.served = 0
        self.slowest = 0.0
        self.problems: list[str] = []

    def run(self) -> None:
        """Ask until stopped, with a new association after every fifty questions."""
        while not self._over.is_set():
            try:
                began = monotonic()
                with connect(self._peer, self._aet, [(FIND, EXPLICIT), (VERIFICATION, IMPLICIT)]) as association:
                    self.slowest = max(self.slowest, monotonic() - began)
                    for _ in range(50):
                        self._ask(association)
                        if self._over.wait(0.02):
                            return
            except UpstreamError as error:
                self.problems.append(f"the witness was not served: {error.message}")
                self._over.wait(0.2)

    def _ask(self, association: Association) -> None:
        began = monotonic()
        answers = list(association.find(FIND, self._question))
        self.slowest = max(self.slowest, monotonic() - began)
        if len(answers) != 1 or any(answers[0].texts(tag) != self._wanted.texts(tag) for tag in self._wanted):
            self.problems.append("the witness got another answer than the local one")
        else:
            self.served += 1

    def stop(self) -> None:
        """End and wait for the end."""
        self._over.set()
        self.join(60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

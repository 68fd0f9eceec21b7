"""Memory stays the same whatever an instance's size, in and out."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from subprocess import run

from gateway.dicom.instance import Outgoing
from gateway.dimse.ports import StoreRequest
from gateway.dimse.requestor import connect
from gateway.dimse.services import Handlers
from tests.dimse.doubles import CT, EXPLICIT, gateway, serving

SIZE = 512 << 20


class Void:
    """A Receiver that drops what it gets."""

    def __init__(self) -> None:
        self._fd = os.open(os.devnull, os.O_WRONLY)

    @property
    def fd(self) -> int:
        return self._fd

    def begin(self, request: StoreRequest) -> Void:  # noqa: ARG002 - the same place for all
        return self

    def commit(self) -> int:
        return 0

    def abort(self) -> None:
        raise AssertionError("nothing went wrong")


def measure() -> None:
    """Send and receive half a gigabyte in this process; print by how many KB its peak has grown."""
    path = Path(sys.argv[1])
    with path.open("wb") as file:
        file.truncate(SIZE)
    outgoing = Outgoing(CT, "1.2.3", EXPLICIT, b"head", str(path), 0, SIZE)
    small = Outgoing(CT, "1.2.3", EXPLICIT, b"head", str(path), 0, 4 << 20)
    void = Void()
    with serving(Handlers(store=void)) as server, connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association:
        assert association.store(small) == 0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert association.store(outgoing) == 0
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.close(void.fd)
    sys.stdout.write(f"{after - before}\n")


def test_half_a_gigabyte_takes_no_more_memory_than_four_megabytes(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", "from tests.dimse.test_memory import measure; measure()", str(tmp_path / "large")]
    done = run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 * 1024

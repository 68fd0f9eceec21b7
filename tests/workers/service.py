"""A service of several processes on one port, for tests to start as a process of its own.

Prints the port, then serves until SIGTERM. ``ECHO`` is answered; a C-FIND names the process that answers.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dimse.policy import KnownCaller, PeerPolicy
from gateway.dimse.ports import Allowance, Cancelled, Verb
from gateway.dimse.server import Endpoint, Server, listen
from gateway.dimse.services import Handlers
from gateway.dimse.slots import Limits
from gateway.workers.board import Board
from gateway.workers.control import ControlServer
from gateway.workers.signals import Signals
from gateway.workers.supervisor import Supervisor


def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:  # noqa: ARG001
    yield Attributes.of({"PatientID": str(os.getpid())})


def main() -> int:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    board = Board(count)
    with listen("127.0.0.1", 0) as listener:

        def started() -> None:
            os.kill(os.getpid(), signal.SIGHUP)  # it is taken from now on, and passed on
            sys.stdout.write(f"{listener.getsockname()[1]}\n")
            sys.stdout.flush()

        def worker(slot: int) -> Callable[[], None]:
            def run() -> None:
                few = KnownCaller("few", "FEW", frozenset(Verb), allowance=Allowance(associations=2))
                policy = PeerPolicy(["GATEWAY"], [KnownCaller("me", "ME", frozenset(Verb)), few])
                endpoint = Endpoint(listener=listener)
                server = Server(
                    Handlers(find=find), policy, endpoint, limits=Limits(associations=4), place=board.place(slot)
                )
                with Signals((signal.SIGTERM,)) as signals:
                    server.start()
                    control = ControlServer(folder, f"worker-{slot}", {"pid": lambda argument: os.getpid()})  # noqa: ARG005
                    signals.wait()
                    control.close()
                    server.stop(drain=5)

            return run

        roles = {f"worker-{slot}": worker(slot) for slot in range(count)}

        def stopping() -> None:
            os.kill(os.getpid(), signal.SIGTERM)  # once more, as systemd and a supervisor may

        return Supervisor(
            roles, on_death=lambda name: board.wipe(int(name[-1])), on_start=started, on_stop=stopping
        ).run()


if __name__ == "__main__":
    sys.exit(main())

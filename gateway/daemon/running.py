"""Running the gateway: in this process alone, or as workers that share its ports."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from gateway import logs
from gateway.config import Config
from gateway.config.models import LogFormat
from gateway.daemon.listeners import Listeners
from gateway.daemon.memory import share_arenas
from gateway.daemon.parts import prepare
from gateway.daemon.process import Process, run_until_stopped
from gateway.daemon.share import Share
from gateway.workers.board import Board
from gateway.workers.supervisor import Supervisor

_HTTP = "http"


def serve(config: Config, *, announce: Callable[[Listeners], None]) -> int:
    """Run until SIGTERM or SIGINT, then finish what is running and stop; for a process that ends behind it.

    Args:
        announce: called once connections are accepted and signals are taken.

    Returns:
        The exit status: 1 when workers kept dying.

    Raises:
        ConfigError: rules that cannot be parsed, a port in use.
        StorageError: the archive cannot be opened.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there are rules that could be read again
    logs.configure(config.logging.level.value, as_json=config.logging.format is LogFormat.JSON)
    share_arenas()
    listeners = Listeners.open(config)
    try:
        prepare(config)
        count = config.ae.workers or len(os.sched_getaffinity(0))
        if count == 1:
            run_until_stopped(config, listeners, Share(), partial(announce, listeners))
            return 0
        return _supervise(config, listeners, count, announce)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it is ending, and its status says how
        listeners.close()


@contextmanager
def alone(config: Config) -> Iterator[Listeners]:
    """The whole gateway in this process, without signals: for tests and for programs that contain one.

    Raises:
        ConfigError, StorageError: as :func:`serve`.
    """
    listeners = Listeners.open(config)
    with closing(listeners):
        prepare(config)
        with Process(config, listeners, Share()):
            yield listeners


def _supervise(config: Config, listeners: Listeners, count: int, announce: Callable[[Listeners], None]) -> int:
    """Fork the workers and one process for HTTP; what connects before they are up waits in the sockets' queues."""
    board = Board(count)
    names = [f"worker-{number}" for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory(prefix="dicom-gateway-") as folder:
        control = Path(folder)
        shares = [Share(name, http=False, control=control, place=board.place(slot)) for slot, name in enumerate(names)]
        shares.append(Share(_HTTP, dicom=False, control=control, restarts=lambda: board.restarts))
        roles = {share.name: partial(run_until_stopped, config, listeners, share, _nothing) for share in shares}

        def on_death(name: str) -> None:
            board.note_restart()
            if name != _HTTP:
                board.wipe(names.index(name))

        told = partial(announce, listeners)
        return Supervisor(roles, on_death=on_death, on_start=told, on_stop=listeners.refuse).run()


def _nothing() -> None:
    """Nobody waits for a single process."""

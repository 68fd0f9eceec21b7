"""Ctrl-C, SIGTERM and a closed terminal end a run once, so that ending what it has started is not interrupted."""

from __future__ import annotations

import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Have the first of them end the main thread, with the status that a shell expects, and ignore the rest."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    print("stopping what was started", flush=True)
    sys.exit(128 + number)

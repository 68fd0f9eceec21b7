"""Which part of the gateway's work a process does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.workers.board import Board, Place


@dataclass(frozen=True)
class Share:
    """Which part of the work a process does.

    Attributes:
        name: of the process, on its log lines and control socket.
        control: folder of the control sockets; None when this process is the only one.
        restarts: how many processes were replaced so far.
    """

    name: str = "gateway"
    dicom: bool = True
    http: bool = True
    control: Path | None = None
    place: Place = field(default_factory=lambda: Board().place())
    restarts: Callable[[], int] = int

"""Processes of a test: their output in a file, and gone when the block ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Running:
    """A process in a group of its own; leaving the block ends the whole group.

    Attributes:
        output: the file with its standard output and error.
    """

    def __init__(
        self, command: Sequence[str | Path], output: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment} if environment else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.output.read_text("utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 15) -> int:
        """Wait for its end and return its exit status."""
        return self._process.wait(seconds)

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end, and kill the group when it does not."""
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._kill_orphans()

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def _kill_orphans(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # children that outlived their parent
        except ProcessLookupError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

"""Asking an archive whose circuit is open, so that it is known to be back before somebody needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Timer

from gateway.errors import GatewayError


class Probe:
    """Asks again and again while an archive is down; nothing runs while it is up.

    Args:
        ask: one question, through the breaker.
        is_down: whether to go on.
        every: seconds between two questions.
    """

    def __init__(self, ask: Callable[[], object], is_down: Callable[[], bool], every: float) -> None:
        self._ask = ask
        self._is_down = is_down
        self._every = every
        self._lock = Lock()
        self._timer: Timer | None = None
        self._closed = False

    def begin(self) -> None:
        """Begin, unless it runs already; the first question is asked in ``every`` seconds."""
        with self._lock:
            if self._timer is None:
                self._arm()

    def close(self) -> None:
        """Ask no more; does not wait for a question that is under way."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self) -> None:
        if not self._closed:
            self._timer = Timer(self._every, self._run)
            self._timer.daemon = True
            self._timer.name = "probe"
            self._timer.start()

    def _run(self) -> None:
        with suppress(GatewayError):  # counted and remembered where every question is
            self._ask()
        with self._lock:
            self._timer = None
            if self._is_down():
                self._arm()

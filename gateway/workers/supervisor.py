"""The parent of the processes: forks them, forwards signals, replaces what dies, and ends when all have ended.

It takes its signals with ``sigtimedwait`` instead of handlers, so nothing ever runs between two of its lines; and it
has no thread, so each fork, the first and every later one, leaves a child with nothing held by a thread that is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from gateway.logs import get_logger

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1
_QUICK = 2.0  # a process that dies younger than this, in seconds, has not worked
_MAX_DELAY = 10.0
_log = get_logger("workers")


@dataclass
class _Child:
    name: str
    pid: int = 0
    since: float = 0.0
    quick_deaths: int = 0
    due: float = field(default=0.0)


class Supervisor:
    """Runs each of ``roles`` in a process of its own until SIGTERM or SIGINT.

    A role runs until it gets SIGTERM and then returns; it installs the handlers it wants, as none are inherited. SIGHUP
    is passed on, and ignored by a role that has no handler for it, or none yet.

    Args:
        stop_seconds: how long the processes may take to end before they are killed.
        max_quick_deaths: how often in a row a role may die young before everything is given up.
        on_death: called with the role's name after its process has died.
        on_start: called once, when all are there and signals are taken.
        on_stop: called once, before the processes are asked to end.
    """

    def __init__(
        self,
        roles: Mapping[str, Callable[[], None]],
        *,
        stop_seconds: float = 35.0,
        max_quick_deaths: int = 6,
        on_death: Callable[[str], None] | None = None,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self._roles = dict(roles)
        self._stop_seconds = stop_seconds
        self._max_quick_deaths = max_quick_deaths
        self._on_death = on_death
        self._on_start = on_start
        self._on_stop = on_stop
        self._children = {name: _Child(name) for name in roles}

    def run(self) -> int:
        """Supervise; returns the exit status for the command: 0 after a stop that was asked for."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for child in self._children.values():
                self._fork(child, mask)
            if self._on_start:
                self._on_start()
            status = self._watch(mask)
            self._end()
            return status
        finally:
            while signal.sigtimedwait(_SIGNALS, 0):
                pass  # asked twice to stop is asked once: what came meanwhile would end the process when it is let in
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _fork(self, child: _Child, mask: set[int | signal.Signals]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(self._roles[child.name], parent, mask)
        child.pid, child.since, child.due = pid, monotonic(), 0.0
        _log.info("process started", role=child.name, pid=pid)

    def _watch(self, mask: set[int | signal.Signals]) -> int:
        while True:
            due = [child.due for child in self._children.values() if child.due]
            wait = max(0.0, min(due) - monotonic()) if due else 3600.0
            came = signal.sigtimedwait(_SIGNALS, wait)
            number = came.si_signo if came else 0
            if number in {signal.SIGTERM, signal.SIGINT}:
                return 0
            if number == signal.SIGHUP:
                self._signal(signal.SIGHUP)
            for child in self._reap():
                if child.quick_deaths >= self._max_quick_deaths:
                    _log.error("process keeps dying; giving up", role=child.name)
                    return 1
            for child in self._children.values():
                if child.due and child.due <= monotonic():
                    self._fork(child, mask)

    def _reap(self) -> list[_Child]:
        """The children that have died since the last look, each with the time it is to be replaced."""
        dead = []
        for child in self._children.values():
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            lived = monotonic() - child.since
            child.quick_deaths = child.quick_deaths + 1 if lived < _QUICK else 0
            delay = min(_MAX_DELAY, 0.1 * 2**child.quick_deaths) if child.quick_deaths else 0.0
            child.pid, child.due = 0, monotonic() + delay
            _log.error("process died", role=child.name, pid=pid, exit_status=os.waitstatus_to_exitcode(status))
            if self._on_death:
                self._on_death(child.name)
            dead.append(child)
        return dead

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.pid:
                os.kill(child.pid, number)

    def _end(self) -> None:
        """Ask all to end, wait, and kill what is left."""
        if self._on_stop:
            self._on_stop()
        self._signal(signal.SIGTERM)
        limit = monotonic() + self._stop_seconds
        while any(child.pid for child in self._children.values()):
            left = limit - monotonic()
            if left <= 0:
                _log.error("processes killed: they did not end in time")
                self._signal(signal.SIGKILL)
                limit = monotonic() + self._stop_seconds
                continue
            signal.sigtimedwait({signal.SIGCHLD}, min(left, 0.5))
            for child in self._children.values():
                if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                    child.pid = 0


def _become(role: Callable[[], None], parent: int, mask: set[int | signal.Signals]) -> None:
    """The child's life; never returns."""
    status = 1
    try:
        # A parent that is killed takes its children with it: they would hold the port and nobody would watch them.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            for number in _SIGNALS - {signal.SIGCHLD}:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            role()
            status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the root of the process
        _log.exception("process failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

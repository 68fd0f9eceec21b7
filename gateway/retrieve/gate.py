"""One thread at a time near the requestor's association, and progress while another one works.

The thread that serves a request owns its association: it sends the pending responses. Threads that work for it have to
look for C-CANCEL there now and then, which reads from the same association. A TLS connection must not be read and
written by two threads at once, so whoever looks, and whoever hands out something to be sent, holds the gate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from gateway.dicom.counter import SubOperations
from gateway.dimse.ports import Cancelled
from gateway.logs import carried

_T = TypeVar("_T")


class Gate:
    """The way to the requestor's association.

    Args:
        cancelled: looks for C-CANCEL.
    """

    def __init__(self, cancelled: Cancelled) -> None:
        self._cancelled = cancelled
        self._lock = threading.Lock()

    def cancelled(self) -> bool:
        """Whether the requestor has cancelled, or is gone; from any thread."""
        with self._lock:
            return self._cancelled()

    def held(self) -> AbstractContextManager[object]:
        """For the serving thread, around a ``yield``."""
        return self._lock


class Meanwhile(Generic[_T]):
    """Does something in a thread while the serving thread says that there is more to come.

    A requestor with a short patience would give up while a slow leading archive is asked what it has. How many
    sub-operations there will be is not known yet, so one is said to remain.
    """

    def __init__(self, work: Callable[[], _T], gate: Gate, interval: float) -> None:
        self._work = work
        self._gate = gate
        self._interval = interval
        self._done = threading.Event()
        self._outcome: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> Iterator[SubOperations]:
        """Yield while it takes its time; raise what it raises."""
        thread = threading.Thread(target=carried(self._run), name="planner", daemon=True)
        thread.start()
        while not self._done.wait(self._interval):
            with self._gate.held():
                yield SubOperations(1)
        thread.join()
        if self._error is not None:
            raise self._error

    @property
    def outcome(self) -> _T:
        """What it returned."""
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again in the serving thread
            self._error = error
        finally:
            self._done.set()

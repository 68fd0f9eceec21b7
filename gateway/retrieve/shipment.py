"""Carry out a C-MOVE: couriers send, the serving thread watches.

The thread that serves the request owns the requestor's association: it sends the pending responses, at least one an
interval also while a courier is busy with one large instance or waits for a slow destination. Couriers have to
look for C-CANCEL on that association before each instance. A lock lets one thread at a time near it: a courier holds
it while it looks, the serving thread while it hands a counter out to be sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Status
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.errors import Cancelled, UpstreamError
from gateway.logs import get_logger
from gateway.retrieve.backlog import Backlog
from gateway.retrieve.courier import Courier
from gateway.retrieve.tally import Tally

_log = get_logger("retrieve")
_CANCEL_GRACE = 2.0
"""Seconds that an instance on its way gets to be finished after C-CANCEL, before its association is aborted."""


class Shipment:
    """One retrieve on its way to one destination.

    Args:
        couriers: each is run by a thread of its own.
        interval: seconds between the counters handed out.
    """

    def __init__(
        self,
        backlog: Backlog,
        couriers: Sequence[Courier],
        tally: Tally,
        cancelled: IsCancelled,
        *,
        interval: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._backlog = backlog
        self._couriers = couriers
        self._tally = tally
        self._cancelled = cancelled
        self._interval = interval
        self._clock = clock
        self._gate = threading.Lock()
        self._running = len(couriers)
        self._finished = threading.Event()
        self._was_cancelled = False

    def run(self) -> Iterator[SubOperations]:
        """Send everything; yield the counters as time passes, and the final ones last.

        Raises:
            Cancelled: after the final counters, when the requestor cancelled.
        """
        threads = [
            threading.Thread(target=self._carry, args=(courier,), name="courier", daemon=True)
            for courier in self._couriers
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._watch()
        finally:
            self._backlog.stop()
            self._await_end()
            for thread in threads:
                thread.join()
        if not self._was_cancelled:
            left = [parcel.instance.sop_instance_uid for parcel in self._backlog.rest()]
            self._tally.count_all(left, Status.OUT_OF_RESOURCES)
        yield self._tally.snapshot()
        if self._was_cancelled:
            raise Cancelled("the requestor cancelled")

    def _watch(self) -> Iterator[SubOperations]:
        """Hand out counters until the couriers have ended; a retrieve that is over sooner hands out none here."""
        while not self._finished.wait(self._interval):
            with self._gate:
                self._look_for_cancel()
                if self._backlog.stopped:
                    return
                yield self._tally.snapshot()

    def _look_for_cancel(self) -> None:
        if not self._was_cancelled and self._cancelled():
            self._was_cancelled = True
            self._backlog.stop()

    def _await_end(self) -> None:
        if not self._finished.wait(_CANCEL_GRACE):
            for courier in self._couriers:
                courier.abort()
            self._finished.wait()

    def _carry(self, courier: Courier) -> None:
        """A courier's thread."""
        try:
            self._carry_all(courier)
        except UpstreamError as problem:
            _log.error("destination given up", reason=problem.message, kind=problem.kind.value)
        except Exception:  # noqa: BLE001 - a thread's root: logged; what is left is counted as failed by run()
            _log.exception("courier failed")
        finally:
            courier.close()
            with self._gate:
                self._running -= 1
                if not self._running:
                    self._finished.set()

    def _carry_all(self, courier: Courier) -> None:
        while parcel := self._backlog.take():
            status: int = Status.OUT_OF_RESOURCES
            try:
                status = courier.send(parcel)
            finally:
                self._tally.count(parcel.instance.sop_instance_uid, status)
            with self._gate:
                self._look_for_cancel()

"""Carry out a C-MOVE: couriers send, the serving thread watches.

The thread that serves the request owns the requestor's association: it sends the pending responses, at least one an
interval also while a courier is busy with one large instance, waits for a slow destination, or nothing has come from
the leading archive yet. Couriers look for C-CANCEL after each instance, through the gate to that association.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Status
from gateway.errors import Cancelled, UpstreamError
from gateway.logs import carried, get_logger
from gateway.retrieve.backlog import Backlog
from gateway.retrieve.courier import Courier
from gateway.retrieve.gate import Gate
from gateway.retrieve.supply import Supply
from gateway.retrieve.tally import Tally

_log = get_logger("retrieve")
_GRACE_SECONDS = 2.0
"""How long an instance on its way may take to be finished after C-CANCEL, before its association is aborted."""


class Shipment:
    """One retrieve on its way to one destination.

    Args:
        couriers: each is run by a thread of its own.
        interval: seconds between the counters handed out.
    """

    def __init__(
        self,
        supply: Supply,
        backlog: Backlog,
        couriers: Sequence[Courier],
        tally: Tally,
        gate: Gate,
        *,
        interval: float,
    ) -> None:
        self._supply = supply
        self._backlog = backlog
        self._couriers = couriers
        self._tally = tally
        self._gate = gate
        self._interval = interval
        self._lock = threading.Lock()
        self._carrying = len(couriers)
        self._finished = threading.Event()
        self._was_cancelled = False

    def run(self) -> Iterator[SubOperations]:
        """Send everything; yield the counters as time passes, and the final ones last.

        Raises:
            Cancelled: after the final counters, when the requestor cancelled before everything was sent.
        """
        threads = [threading.Thread(target=carried(self._carry), args=(one,), name="courier") for one in self._couriers]
        if self._supply.is_local:
            self._backlog.close()
        else:
            threads.append(threading.Thread(target=carried(self._feed), name="feeder"))
        for thread in threads:
            thread.daemon = True
            thread.start()
        try:
            yield from self._watch()
        finally:
            self._backlog.stop()
            self._await_couriers()
            for thread in threads:
                thread.join()
        if not self._was_cancelled and (failed := self._tally.fail_rest(Status.OUT_OF_RESOURCES)):
            _log.error("instances not sent", count=failed)
        final = self._tally.snapshot()
        yield final
        if self._was_cancelled and final.remaining:
            raise Cancelled("cancelled by the requestor")

    def _watch(self) -> Iterator[SubOperations]:
        """Hand out counters until the couriers have ended; a retrieve that is over sooner hands out none here."""
        while not self._finished.wait(self._interval):
            self._look_for_cancel()
            if self._backlog.stopped:
                return
            with self._gate.held():
                yield self._tally.snapshot()

    def _look_for_cancel(self) -> None:
        if not self._was_cancelled and self._gate.cancelled():
            self._was_cancelled = True
            self._backlog.stop()

    def _await_couriers(self) -> None:
        if not self._finished.wait(_GRACE_SECONDS):
            for courier in self._couriers:
                courier.abort()
            self._finished.wait()

    def _thread(self, work: Callable[[], None]) -> None:
        """A thread's root."""
        try:
            work()
        except UpstreamError as problem:
            _log.error("destination given up", reason=problem.message, kind=problem.kind.value)
        except Exception:  # noqa: BLE001 - a thread's root: logged; what is left is counted as failed by run()
            _log.exception("sub-operations ended early")

    def _carry(self, courier: Courier) -> None:
        self._thread(lambda: self._carry_all(courier))
        self._thread(courier.close)
        with self._lock:
            self._carrying -= 1
            if not self._carrying:
                self._backlog.stop()  # a feeder has nobody to feed any more
                self._finished.set()

    def _carry_all(self, courier: Courier) -> None:
        while parcel := self._backlog.take():
            status: int = Status.OUT_OF_RESOURCES
            try:
                # Several couriers hide each other's waits, and would make the same one ready.
                status = courier.send(parcel, self._backlog.peek() if len(self._couriers) == 1 else None)
            finally:
                self._tally.count(parcel.instance.sop_instance_uid, status)
            self._look_for_cancel()

    def _feed(self) -> None:
        self._thread(self._feed_all)
        self._backlog.close()

    def _feed_all(self) -> None:
        for parcel in self._supply.arriving(self._tally):
            if self._backlog.stopped:
                return
            if parcel:
                self._backlog.put(parcel)

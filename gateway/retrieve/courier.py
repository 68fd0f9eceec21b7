"""A courier carries parcels to one destination, over one association at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.dimse.ports import Originator
from gateway.errors import UpstreamError, UpstreamKind
from gateway.logs import get_logger
from gateway.metrics import DESTINATION_FAILURES
from gateway.retrieve.contexts import proposals
from gateway.retrieve.delivery import Delivery, Parcel
from gateway.retrieve.destinations import Destination
from gateway.retrieve.ports import Connect, Pair, StoreAssociation

_log = get_logger("retrieve")


class Courier:
    """Sends parcels one after another.

    The association is opened with the first parcel, and opened anew with other contexts when a parcel needs one that
    was not proposed. An association that breaks is replaced once, and the parcel in hand sent again; a destination
    that took it twice sees the same instance twice, which the Storage Service allows.

    Args:
        contexts: the proposals for each association, as planned.
        stopped: whether nobody wants anything sent any more; looked at while a limit makes the courier wait.
    """

    def __init__(
        self,
        connect: Connect,
        destination: Destination,
        originator: Originator | None,
        contexts: Sequence[Sequence[Pair]],
        stopped: Callable[[], bool],
    ) -> None:
        self._connect = connect
        self._peer = destination.peer
        self._limits = destination.limits
        self._stopped = stopped
        self._delivery = Delivery(originator)
        self._contexts = {pair: tuple(proposed) for proposed in contexts for pair in proposed}
        self._proposed: tuple[Pair, ...] = ()
        self._unplanned: dict[Pair, None] = {}
        self._association: StoreAssociation | None = None
        self._reconnects = 1
        self._aborted = False

    def send(self, parcel: Parcel, following: Parcel | None = None) -> int:
        """Send one parcel and return the status its sub-operation ended with.

        Args:
            following: what is going to be sent next, if that can be said.

        Raises:
            UpstreamError: the destination cannot be reached, or its association broke for the second time.
        """
        self._limits.pay(parcel.instance.size, self._stopped)
        while True:
            try:
                association = self._cover(parcel.pair)
                return self._delivery.deliver(parcel, association, following)
            except UpstreamError as problem:
                DESTINATION_FAILURES.labels(self._peer.name, problem.kind.value).inc()
                _log.warning(
                    "destination failed", peer=self._peer.name, kind=problem.kind.value, reason=problem.message
                )
                established = self._association is not None
                self._forget()
                if not established or not self._reconnects or self._aborted:
                    raise
                self._reconnects -= 1

    def _cover(self, pair: Pair) -> StoreAssociation:
        """An association on which a context for this pair was proposed."""
        if self._association is not None and pair in self._proposed:
            return self._association
        self.close()
        self._proposed = self._contexts.get(pair) or self._contexts_with(pair)
        if not self._limits.acquire(self._stopped):
            raise UpstreamError(f"{self._peer.name}: cancelled before its turn came", UpstreamKind.ABORTED)
        try:
            self._association = self._connect(self._peer, self._proposed)
        except BaseException:
            self._limits.release()
            raise
        return self._association

    def _contexts_with(self, pair: Pair) -> tuple[Pair, ...]:
        """For what nobody planned: with all that came before, so that what comes in turns is opened for once."""
        self._unplanned[pair] = None
        together = proposals(self._unplanned)
        return tuple(together[0] if len(together) == 1 else proposals([pair])[0])

    def close(self) -> None:
        """Release the association."""
        if self._association is not None:
            try:
                self._association.release()
            finally:
                self._forget()

    def _forget(self) -> None:
        if self._association is not None:
            self._association = None
            self._limits.release()

    def abort(self) -> None:
        """End the association under a courier that waits on it in another thread; it does not reconnect."""
        self._aborted = True
        association = self._association
        if association is not None:
            association.abort()

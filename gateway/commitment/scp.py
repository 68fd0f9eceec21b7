"""The SCP's front: N-ACTION in, a job in the ledger, and only then the response (PS3.4 J.3.2).

What takes time comes after the response: the reporter is woken, or, where the requestor is known to want it, the report
goes out on its own association at once. If that fails the job stays in the ledger and the reporter takes it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway import metrics
from gateway.commitment.jobs import JobLedger
from gateway.commitment.messages import PUSH_MODEL, REQUEST_COMMITMENT, WELL_KNOWN_INSTANCE, read_request
from gateway.commitment.reporter import Reporter
from gateway.commitment.routes import Routes
from gateway.dicom.attributes import MalformedDataset
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse.ports import ActionRequest, AfterAction
from gateway.errors import Refused, StorageError
from gateway.logs import get_logger

_log = get_logger("commitment")


class CommitmentSCP:
    """Answers N-ACTION; an :class:`~gateway.dimse.ports.ActionHandler`."""

    def __init__(
        self, jobs: JobLedger, reporter: Reporter, routes: Routes, clock: Callable[[], float] = time.time
    ) -> None:
        self._jobs = jobs
        self._reporter = reporter
        self._routes = routes
        self._clock = clock

    def __call__(self, request: ActionRequest, caller: Caller) -> AfterAction | None:
        """Write the request down.

        Raises:
            Refused: 0110H, we would not know where to report to; 0112H, 0118H, 0123H or 0115H, the request is not one
                of this service or not understood; 0131H, the Transaction UID is in use; 0213H, the ledger is full or
                its disk is.
        """
        same = self._routes.on_same_association(caller)
        try:
            uid = self._accept(request, caller, self._reporter.association_owner if same else "")
        except Refused as refused:
            metrics.COMMITMENT_REQUESTS.labels("refused").inc()
            _log.warning("commitment request refused", status=f"{refused.status:04X}H", why=refused.message)
            raise
        metrics.COMMITMENT_REQUESTS.labels("accepted").inc()
        if same:
            return lambda channel: self._reporter.report_now(uid, channel)
        self._reporter.wake()
        return None

    def _accept(self, request: ActionRequest, caller: Caller, owner: str) -> str:
        _check(request)
        if self._routes.peer(caller) is None:
            raise Refused("no configured peer to report to", Status.PROCESSING_FAILURE)
        try:
            asked = read_request(request.information)
        except MalformedDataset as error:
            raise Refused(error.reason, Status.INVALID_ARGUMENT_VALUE) from error
        try:
            self._jobs.accept(asked, caller, self._clock(), owner)
        except StorageError as error:
            raise Refused("the ledger cannot be written", Status.RESOURCE_LIMITATION) from error
        _log.info("commitment requested", transaction=asked.transaction_uid, instances=len(asked.references))
        return asked.transaction_uid


def _check(request: ActionRequest) -> None:
    if request.sop_class_uid != PUSH_MODEL:
        raise Refused("not the Push Model", Status.NO_SUCH_SOP_CLASS)
    if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
        raise Refused("not the well-known instance", Status.NO_SUCH_OBJECT_INSTANCE)
    if request.action_type != REQUEST_COMMITMENT:
        raise Refused("not a commitment request", Status.NO_SUCH_ACTION_TYPE)

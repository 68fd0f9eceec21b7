"""What a plan sends, as parcels: the local ones at once, those of the leading archive as they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Status
from gateway.logs import get_logger
from gateway.metrics import PULLED
from gateway.retrieve.delivery import Parcel
from gateway.retrieve.plan import Plan
from gateway.retrieve.ports import Coerce, Coercion, LocalInstances, Recipient
from gateway.retrieve.pull import Inflow, PullThrough
from gateway.retrieve.tally import Tally

_log = get_logger("retrieve")


class Supply:
    """The parcels of one retrieve; close it when they have been sent, since pulled files go then.

    Args:
        archive: what is local is of this one.
    """

    def __init__(
        self, plan: Plan, archive: LocalInstances, pull: PullThrough | None, coercion: Coercion, recipient: Recipient
    ) -> None:
        self.local: list[Parcel] = []
        self._inflows: list[tuple[Inflow, Coerce]] = []

        def again(one: StoredInstance) -> StoredInstance | None:
            return next(iter(archive.instances(sop_uids=[one.sop_instance_uid])), None)

        with ExitStack() as stack:
            for study in plan.studies:
                coerce = coercion.for_study(study.leading, recipient)
                self.local += (Parcel(one, coerce, again=again) for one in study.local)
                if study.missing and pull:
                    self._inflows.append((stack.enter_context(pull.open(study.missing)), coerce))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def is_local(self) -> bool:
        """Whether nothing is pulled."""
        return not self._inflows

    def arriving(self, tally: Tally) -> Iterator[Parcel | None]:
        """What is pulled, study by study, and None now and then; what does not come is counted as failed."""
        for inflow, coerce in self._inflows:
            for one in inflow:
                if one is None:
                    yield None
                elif isinstance(one, StoredInstance):
                    yield Parcel(one, coerce, pulled=True)
                else:
                    tally.count(one.sop_instance_uid, Status.OUT_OF_RESOURCES)
                    PULLED.labels("missing").inc()
                    _log.error("instance not pulled", instance=one.sop_instance_uid, reason=one.problem)

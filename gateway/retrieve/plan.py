"""A retrieve as a plan: which instances, study by study, and with whose attributes.

A plan is a value. Making one asks the effective view, the local archive and, if it may be that the leading archive has
more, the leading archive; carrying one out is for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Retrieve
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.dimse.ports import Cancelled
from gateway.errors import Refused, UpstreamError
from gateway.logs import get_logger
from gateway.metrics import PULLS
from gateway.retrieve.gate import Gate, Meanwhile
from gateway.retrieve.missing import Missing, Remote
from gateway.retrieve.ports import LocalInstances, View
from gateway.retrieve.survey import Survey

_log = get_logger("retrieve")


@dataclass(frozen=True)
class StudyPlan:
    """What is to be sent of one study.

    Attributes:
        leading: the leading archive's patient and study attributes; None where it does not know the study.
        local: instances whose files are here, series by series.
        missing: what only the leading archive has; None when it was not asked or has no more.
    """

    study_instance_uid: str
    leading: Attributes | None
    local: tuple[StoredInstance, ...]
    missing: Missing | None = None

    @property
    def instances(self) -> tuple[StoredInstance | Remote, ...]:
        """All of them, in the order they are sent."""
        return (*self.local, *(self.missing.instances if self.missing else ()))

    @property
    def total(self) -> int:
        """The number of sub-operations."""
        return len(self.instances)


@dataclass(frozen=True)
class Plan:
    """What a retrieve is going to send, in the order it is sent."""

    studies: tuple[StudyPlan, ...]

    @property
    def total(self) -> int:
        """The number of sub-operations."""
        return sum(study.total for study in self.studies)

    @property
    def sop_instance_uids(self) -> list[str]:
        """Every instance of the plan."""
        return [one.sop_instance_uid for study in self.studies for one in study.instances]

    def __str__(self) -> str:
        """A line for each study, without patient data."""
        return "\n".join(
            f"{one.study_instance_uid}: {len(one.local)} here, {one.total - len(one.local)} to be pulled, "
            f"attributes of the {'local' if one.leading is None else 'leading'} archive"
            for one in self.studies
        )


def build(retrieve: Retrieve, studies: Mapping[str, Attributes | None], instances: Iterable[StoredInstance]) -> Plan:
    """Group what the local archive has of the resolved studies; what the request does not name is left out."""
    named = {level: frozenset(values) for level, values in retrieve.uids.items()}
    local: dict[str, list[StoredInstance]] = {uid: [] for uid in studies}
    for one in instances:
        if one.study_instance_uid in local and _is_named(one, named):
            local[one.study_instance_uid].append(one)
    return Plan(
        tuple(
            StudyPlan(uid, studies[uid], tuple(sorted(found, key=lambda one: one.series_instance_uid)))
            for uid, found in local.items()
        )
    )


@dataclass(frozen=True)
class Planner:
    """Makes plans.

    Attributes:
        survey: compares studies with the leading archive; None when nothing is pulled from it.
    """

    view: View
    archive: LocalInstances
    survey: Survey | None = None

    def __call__(self, retrieve: Retrieve, caller: Caller, cancelled: Cancelled) -> Plan:
        """Resolve a request through the effective view into what is to be sent.

        Raises:
            Refused: nobody could tell what is to be sent (A701H).
            Cancelled: the requestor cancelled.
        """
        studies = self.view.resolve(retrieve, caller)
        if not studies:
            return Plan(())
        found = self.archive.instances(
            study_uids=tuple(studies),
            series_uids=retrieve.uids.get(Level.SERIES, ()),
            sop_uids=retrieve.uids.get(Level.IMAGE, ()),
        )
        plan = build(retrieve, studies, found)
        compared = (self._compared(study, retrieve, caller, cancelled) for study in plan.studies)
        return Plan(tuple(study for study in compared if study.total))

    def meanwhile(self, retrieve: Retrieve, caller: Caller, gate: Gate, interval: float) -> Meanwhile[Plan]:
        """Make a plan while the requestor is told that there is more to come; raises as a call does."""
        return Meanwhile(lambda: self(retrieve, caller, gate.cancelled), gate, interval)

    def _compared(self, study: StudyPlan, retrieve: Retrieve, caller: Caller, cancelled: Cancelled) -> StudyPlan:
        """The study with what only the leading archive has."""
        if self.survey is None or not self.survey.is_due(retrieve, study.local, known=study.leading is not None):
            return study
        uid = study.study_instance_uid
        try:
            missing = self.survey.missing(retrieve, uid, study.leading, study.local, caller, cancelled)
        except UpstreamError as error:
            PULLS.labels("unknown").inc()
            _log.error("leading archive did not tell what it has", study=uid, kind=error.kind.value)
            if not study.local:
                raise Refused(f"Leading archive: {error.kind.value}", Status.UNABLE_TO_CALCULATE_MATCHES) from error
            return study
        return StudyPlan(uid, study.leading, study.local, missing if missing.instances else None)


def _is_named(one: StoredInstance, named: Mapping[Level, frozenset[str]]) -> bool:
    """Whether the request names this instance; patients were resolved into studies before."""
    uids = {
        Level.STUDY: one.study_instance_uid,
        Level.SERIES: one.series_instance_uid,
        Level.IMAGE: one.sop_instance_uid,
    }
    return all(uids[level] in values for level, values in named.items() if level in uids)

"""A retrieve as a plan: which instances, study by study, and with whose attributes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Retrieve
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level
from gateway.retrieve.ports import LocalInstances, View


@dataclass(frozen=True)
class StudyPlan:
    """What is to be sent of one study.

    Attributes:
        leading: the leading archive's patient and study attributes; None where it does not know the study.
        local: instances whose files are here, series by series.
    """

    study_instance_uid: str
    leading: Attributes | None
    local: tuple[StoredInstance, ...]


@dataclass(frozen=True)
class Plan:
    """What a retrieve is going to send, in the order it is sent."""

    studies: tuple[StudyPlan, ...]

    @property
    def total(self) -> int:
        """The number of sub-operations."""
        return sum(len(study.local) for study in self.studies)

    @property
    def sop_instance_uids(self) -> list[str]:
        """Every instance of the plan."""
        return [one.sop_instance_uid for study in self.studies for one in study.local]


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
            if found
        )
    )


def plan_retrieve(retrieve: Retrieve, caller: Caller, view: View, archive: LocalInstances) -> Plan:
    """Resolve a request through the effective view into what is to be sent.

    Raises:
        UpstreamError: the view could not tell what is to be sent.
    """
    studies = view.resolve(retrieve, caller)
    if not studies:
        return Plan(())
    found = archive.instances(
        study_uids=tuple(studies),
        series_uids=retrieve.uids.get(Level.SERIES, ()),
        sop_uids=retrieve.uids.get(Level.IMAGE, ()),
    )
    return build(retrieve, studies, found)


def _is_named(one: StoredInstance, named: Mapping[Level, frozenset[str]]) -> bool:
    """Whether the request names this instance; patients were resolved into studies before."""
    uids = {
        Level.STUDY: one.study_instance_uid,
        Level.SERIES: one.series_instance_uid,
        Level.IMAGE: one.sop_instance_uid,
    }
    return all(uids[level] in values for level, values in named.items() if level in uids)

"""From what a caller names (DICOM UIDs, Patient IDs, Orthanc identifiers) to the instances that are here.

A UID is looked for as an instance, a series and a study. An Orthanc identifier is a hash and cannot be looked up; the
studies are walked and hashed, down to their instances only when no patient or study has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from gateway.commitment import orthanc
from gateway.commitment.messages import Reference, is_uid
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level, Model
from gateway.query.ports import QuerySource, Request


class Instances(Protocol):
    """The archive's look-up by UIDs."""

    def __call__(
        self, *, study_uids: Sequence[str] = (), series_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()
    ) -> list[StoredInstance]:
        """The stored instances that have one of the UIDs at each level that is named."""


class UnknownResource(LookupError):
    """Nothing here has that name."""


class Resources:
    """Finds what a name stands for.

    Args:
        studies: answers for the patients and studies that are here.
        caller: in whose name it is asked.
    """

    def __init__(self, instances: Instances, studies: QuerySource, caller: Caller) -> None:
        self._instances = instances
        self._studies = studies
        self._caller = caller

    def find(self, name: str) -> list[StoredInstance]:
        """The instances of a patient, study, series or instance.

        Raises:
            UnknownResource: there is none of that name.
        """
        steps: list[Callable[[], list[StoredInstance]]] = []
        if orthanc.is_identifier(name):
            steps = [lambda: self._hashed(name)]
        elif is_uid(name):
            steps = [
                lambda: self._instances(sop_uids=[name]),
                lambda: self._instances(series_uids=[name]),
                lambda: self._instances(study_uids=[name]),
            ]
        steps.append(lambda: self._of_patient(name))
        for step in steps:
            if found := step():
                return found
        raise UnknownResource(name)

    def references(self, names: Sequence[str]) -> list[Reference]:
        """The references of what several names stand for, each instance once.

        Raises:
            UnknownResource: one of them stands for nothing.
        """
        found = [reference_to(one) for name in names for one in self.find(name)]
        return list(dict.fromkeys(found))

    def _of_patient(self, patient_id: str) -> list[StoredInstance]:
        if any(char in patient_id for char in "*?\\"):  # a key of matching, not a name
            return []
        studies = [study for _, study in self._walk(patient_id)]
        return self._instances(study_uids=studies) if studies else []

    def _walk(self, patient_id: str = "") -> Iterator[tuple[str, str]]:
        """Patient ID and Study Instance UID of every study, or of one patient's."""
        keys = Attributes.of({"PatientID": patient_id, "StudyInstanceUID": ""})
        query = Query(Model.STUDY_ROOT, Level.STUDY, keys, Negotiated())
        for answer in self._studies.find(Request(query, self._caller)):
            yield answer.text(tags.PatientID), answer.text(tags.StudyInstanceUID)

    def _hashed(self, name: str) -> list[StoredInstance]:
        studies = list(self._walk())
        for patient, study in studies:
            if orthanc.identifier(patient) == name:
                return self._instances(study_uids=[uid for owner, uid in studies if owner == patient])
            if orthanc.identifier(patient, study) == name:
                return self._instances(study_uids=[study])
        for patient, study in studies:
            if found := self._hashed_within(name, patient, study):
                return found
        return []

    def _hashed_within(self, name: str, patient: str, study: str) -> list[StoredInstance]:
        """The instances of a study that belong to a series or are an instance of that name."""
        series: dict[str, bool] = {}
        found: list[StoredInstance] = []
        for one in self._instances(study_uids=[study]):
            uid = one.series_instance_uid
            if uid not in series:
                series[uid] = orthanc.identifier(patient, study, uid) == name
            if series[uid] or orthanc.identifier(patient, study, uid, one.sop_instance_uid) == name:
                found.append(one)
        return found


def reference_to(instance: StoredInstance) -> Reference:
    """The reference of a stored instance."""
    return Reference(instance.sop_class_uid, instance.sop_instance_uid)

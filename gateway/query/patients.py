"""PATIENT level: the patients of a stream of effective studies (PS3.4 C.6.1.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, element_of
from gateway.dicom.identifier import Query
from gateway.dicom.models import Level, level_of
from gateway.dicom.tags import tag_of
from gateway.query.merging import Availability, marked

_ISSUER = tag_of("IssuerOfPatientID")
_SUMS = {
    tags.NumberOfPatientRelatedSeries: tags.NumberOfStudyRelatedSeries,
    tags.NumberOfPatientRelatedInstances: tags.NumberOfStudyRelatedInstances,
}
_COUNTS = frozenset({tags.NumberOfPatientRelatedStudies, *_SUMS})


class Patients:
    """Groups studies by patient: Patient ID within its issuer."""

    def __init__(self, query: Query) -> None:
        self._counting = any(tag in _COUNTS for tag in query.keys)
        self._needed = [counted for total, counted in _SUMS.items() if total in query.keys]

    def asking(self, studies: Query) -> Query:
        """The query for the studies, with what has to be added up."""
        needed = {counted: element_of(counted, "", ()) for counted in self._needed}
        return replace(studies, keys=Attributes({**studies.keys, **needed}))

    def of(self, studies: Iterator[Attributes]) -> Iterator[Attributes]:
        """Yield each patient once; only a query that wants counts has to wait for the last study."""
        if self._counting:
            yield from self._counted(studies)
            return
        seen: set[tuple[str, str]] = set()
        for study in studies:
            if (patient := _patient(study)) not in seen:
                seen.add(patient)
                yield _head(study)

    @staticmethod
    def _counted(studies: Iterator[Attributes]) -> Iterator[Attributes]:
        heads: dict[tuple[str, str], Attributes] = {}
        totals: dict[tuple[str, str], dict[int, int]] = {}
        online: set[tuple[str, str]] = set()
        for study in studies:
            patient = _patient(study)
            heads.setdefault(patient, _head(study))
            sums = totals.setdefault(patient, dict.fromkeys(_COUNTS, 0))
            sums[tags.NumberOfPatientRelatedStudies] += 1
            for total, counted in _SUMS.items():
                sums[total] += _number(study.text(counted))
            if study.text(tags.InstanceAvailability) == Availability.ONLINE.name:
                online.add(patient)
        for patient, head in heads.items():
            counts = {tag: element_of(tag, str(number), ()) for tag, number in totals[patient].items()}
            availability = Availability.ONLINE if patient in online else Availability.NEARLINE
            yield marked(Attributes({**head, **counts}), availability)


def _patient(study: Attributes) -> tuple[str, str]:
    return study.text(tags.PatientID), study.text(_ISSUER)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _head(study: Attributes) -> Attributes:
    kept = [tag for tag in study if level_of(tag) is Level.PATIENT]
    return study.only([*kept, tags.InstanceAvailability])

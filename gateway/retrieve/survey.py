"""What only the leading archive has of a study: its series and instances compared with the local ones.

The comparison is by SOP Instance UID, series by series: one query for the series, one for the instances of each series
that may lack some. How thorough it is, is ``retrieve.completeness``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level, Model
from gateway.dimse.ports import Cancelled
from gateway.query.ports import QuerySource, Request
from gateway.retrieve.missing import Missing, Remote


class Completeness(Enum):
    """When the leading archive is asked whether it has more than is here.

    ``off``: only for a study, series or instance of which nothing is here. ``count``: also for series of which it
    counts more instances. ``instances``: every instance of every series is compared.
    """

    OFF = "off"
    COUNT = "count"
    INSTANCES = "instances"


@dataclass(frozen=True)
class Survey:
    """Compares a study of the leading archive with what is here."""

    leading: QuerySource
    completeness: Completeness = Completeness.COUNT

    def is_due(self, retrieve: Retrieve, local: Sequence[StoredInstance], *, known: bool) -> bool:
        """Whether the leading archive has to be asked about a study.

        Args:
            known: whether it is known to have the study; one that is not here either has to be asked for, since the
                leading archive may have been out of reach a moment ago.
        """
        if not local:
            return True
        if self.completeness is not Completeness.OFF:
            return known
        series = {one.series_instance_uid for one in local}
        instances = {one.sop_instance_uid for one in local}
        return known and not (
            series.issuperset(retrieve.uids.get(Level.SERIES, ()))
            and instances.issuperset(retrieve.uids.get(Level.IMAGE, ()))
        )

    def missing(
        self,
        retrieve: Retrieve,
        study: str,
        attributes: Attributes | None,
        local: Sequence[StoredInstance],
        caller: Caller,
        cancelled: Cancelled,
    ) -> Missing:
        """What the request names of a study and the leading archive alone has.

        Raises:
            UpstreamError: the leading archive did not tell.
            Cancelled: ``cancelled()`` became true.
        """
        here = {one.sop_instance_uid for one in local}
        counts: dict[str, int] = {}
        for one in local:
            counts[one.series_instance_uid] = counts.get(one.series_instance_uid, 0) + 1
        instances: list[Remote] = []
        whole: set[str] = set()
        named = retrieve.uids.get(Level.IMAGE, ())
        for series in self._series(retrieve, study, caller, cancelled):
            uid = series.text(tags.SeriesInstanceUID)
            if not self._may_lack(series, counts.get(uid, 0), named, here):
                continue
            found = list(self._instances(study, uid, named, caller, cancelled))
            lacking = [one for one in found if one.sop_instance_uid not in here]
            instances += lacking
            if len(lacking) == len(found) and not named:
                whole.add(uid)
        return Missing(attributes.text(tags.PatientID) if attributes else "", study, tuple(instances), frozenset(whole))

    def _may_lack(self, series: Attributes, have: int, named: Sequence[str], here: set[str]) -> bool:
        if named:
            return not here.issuperset(named)
        if not have or self.completeness is Completeness.INSTANCES:
            return True
        if self.completeness is Completeness.OFF:
            return False
        count = series.text(tags.NumberOfSeriesRelatedInstances)
        return not count.isdecimal() or int(count) > have

    def _series(self, retrieve: Retrieve, study: str, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        named = retrieve.uids.get(Level.SERIES, ())
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": named, "NumberOfSeriesRelatedInstances": ""}
        return self._find(Level.SERIES, keys, caller, cancelled)

    def _instances(
        self, study: str, series: str, named: Sequence[str], caller: Caller, cancelled: Cancelled
    ) -> Iterator[Remote]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": named, "SOPClassUID": ""}
        for found in self._find(Level.IMAGE, keys, caller, cancelled):
            if uid := found.text(tags.SOPInstanceUID):
                yield Remote(series, uid, found.text(tags.SOPClassUID))

    def _find(
        self, level: Level, keys: Mapping[str, str | Sequence[str]], caller: Caller, cancelled: Cancelled
    ) -> Iterator[Attributes]:
        query = Query(Model.STUDY_ROOT, level, Attributes.of(keys))
        return self.leading.find(Request(query, caller, cancelled))

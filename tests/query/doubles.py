"""An archive in memory: the source of the tests. It passes the contract suite that the real sources pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Event, Lock

from gateway.dicom import matching, tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.models import LEADING_ATTRIBUTES, Level, level_of
from gateway.errors import UpstreamError, UpstreamKind
from gateway.query.ports import Evidence, Request

CALLER = Caller("VIEWER", "127.0.0.1")


class MemoryArchive:
    """Instances as attributes; answers at every level, counts and modalities included.

    Attributes:
        asked: every query that was answered or refused, in order.
        looked_up: every look-up by Study Instance UID.
        failing: raise this after ``fail_after`` answers.
    """

    def __init__(self, instances: Iterable[Attributes]) -> None:
        self.instances = list(instances)
        self.asked: list[Request] = []
        self.looked_up: list[tuple[str, ...]] = []
        self.failing: UpstreamError | None = None
        self.fail_after = 0
        self._lock = Lock()
        self._open = Event()
        self._open.set()

    def hold(self) -> None:
        """Let questions arrive, but answer none of them."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def fail(self, kind: UpstreamKind = UpstreamKind.TIMEOUT, *, after: int = 0) -> None:
        self.failing, self.fail_after = UpstreamError("no answer", kind), after

    def recover(self) -> None:
        self.failing = None

    def find(self, request: Request) -> Iterator[Attributes]:
        with self._lock:
            self.asked.append(request)
        assert self._open.wait(30)
        matcher = matching.compile(request.query)
        given = 0
        for entity in self._entities(request.query.level):
            if matcher.matches(entity):
                self._fail_at(given)
                request.check()
                yield entity
                given += 1
        self._fail_at(given)
        request.check()

    def batches(self, request: Request) -> Iterator[list[Attributes]]:
        return ([answer] for answer in self.find(request))

    def studies(
        self,
        uids: Sequence[str],
        caller: Caller,  # noqa: ARG002
        evidence: list[Evidence] | None = None,  # noqa: ARG002
    ) -> dict[str, Attributes]:
        with self._lock:
            self.looked_up.append(tuple(uids))
        assert self._open.wait(30)
        self._fail_at(0, at_once=True)
        found = {one.text(tags.StudyInstanceUID): one for one in self._entities(Level.STUDY)}
        return {uid: found[uid].only(LEADING_ATTRIBUTES) for uid in uids if uid in found}

    def remembered(self, uids: Sequence[str]) -> dict[str, Attributes]:  # noqa: ARG002
        return {}

    def _fail_at(self, given: int, *, at_once: bool = False) -> None:
        if self.failing is not None and (at_once or given >= self.fail_after):
            raise self.failing

    def _entities(self, level: Level) -> Iterator[Attributes]:
        groups: dict[str, list[Attributes]] = {}
        for one in self.instances:
            groups.setdefault(one.text(level.unique_key), []).append(one)
        for members in groups.values():
            head = members[0].only([tag for tag in members[0] if level_of(tag) <= level])
            yield head.overlay(_computed(members, level))


def _computed(members: list[Attributes], level: Level) -> Attributes:
    def distinct(tag: int) -> list[str]:
        return sorted({value for one in members for value in one.texts(tag)})

    if level is Level.STUDY:
        return Attributes.of(
            {
                "ModalitiesInStudy": distinct(tags.Modality),
                "NumberOfStudyRelatedSeries": len(distinct(tags.SeriesInstanceUID)),
                "NumberOfStudyRelatedInstances": len(members),
            }
        )
    if level is Level.SERIES:
        return Attributes.of({"NumberOfSeriesRelatedInstances": len(members)})
    return Attributes()


def instance(number: int, **values: str) -> Attributes:
    """One instance of study 1.2.<number>, changed by element keywords; text that needs it is UTF-8."""
    defaults = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": f"1.2.{number}.1.1",
        "StudyDate": "20240131",
        "StudyTime": "120000",
        "AccessionNumber": f"A{number}",
        "Modality": "CT",
        "PatientName": f"DOE^P{number}",
        "PatientID": f"P{number}",
        "PatientBirthDate": "19700101",
        "StudyInstanceUID": f"1.2.{number}",
        "SeriesInstanceUID": f"1.2.{number}.1",
        "StudyID": str(number),
        "StudyDescription": "",
        "InstanceNumber": "1",
    }
    return Attributes.of({**defaults, **values})

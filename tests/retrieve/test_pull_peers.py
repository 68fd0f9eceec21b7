"""Pull-through from real archives: what only they have reaches the viewer, coerced, as it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.dimse.requestor import RetrieveProgress
from gateway.retrieve.destinations import Destination
from gateway.retrieve.survey import Completeness
from gateway.retrieve.upstream import Via
from tests.retrieve.world import (
    AET,
    MOVE,
    PATIENT_ROOT_MOVE,
    Asked,
    Destined,
    Settings,
    World,
    destination,
    gateway,
    peer,
)
from tests.support import peers, scu
from tests.support.dicomfiles import instance, study, uid, write
from tests.support.peers import RunningPeer
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers("dcmtk", "orthanc")

REMOTE = [
    *study("remote", 4, "CT", PatientName="Corrected^Name", PatientID="NEW"),
    instance("remote", "2", 1, "MR", PatientName="Corrected^Name", PatientID="NEW"),
    instance("remote", "3", 1, "SR", PatientName="Corrected^Name", PatientID="NEW"),
]


@dataclass(frozen=True)
class Upstream:
    """An archive that holds REMOTE and knows GATEWAY at a port."""

    archive: RunningPeer
    our_port: int

    @property
    def asked(self) -> Asked:
        return Asked(peer("leading", self.archive.port, self.archive.aet))


@pytest.fixture(scope="module", params=["dcmqrscp", "orthanc"])
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    folder, port = tmp_path_factory.mktemp("upstream"), free_port()
    start = peers.dcmqrscp if request.param == "dcmqrscp" else peers.orthanc
    with start(folder / "leading", peers={AET: port}) as leading:
        leading.store(write(folder / "made", REMOTE))
        yield Upstream(leading, port)


def identifier(name: str = "remote") -> Attributes:
    return Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid(name)})


def move(world: World, asked: Attributes | None = None) -> RetrieveProgress:
    with world.association(MOVE) as association:
        return list(association.move(MOVE, asked or identifier(), "VIEWER"))[-1]


@pytest.mark.parametrize("via", [Via.AUTO, Via.MOVE])
def test_a_study_only_the_leading_archive_has_is_sent_on(tmp_path: Path, upstream: Upstream, via: Via) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        destination(receiver) as viewer,
        gateway(
            tmp_path,
            study("local", 1),
            [Destination(viewer)],
            upstream.asked,
            Settings(via=via),
            upstream.our_port,
        ) as world,
    ):
        last = move(world)
        assert (last.status, last.completed, last.failed) == (Status.SUCCESS, 6, 0)
        arrived = receiver.instances()
        assert arrived.keys() == {one.SOPInstanceUID for one in REMOTE}
        for one in REMOTE:
            assert arrived[one.SOPInstanceUID].get("PixelData") == one.get("PixelData")
        wait_until(lambda: not list(world.spool.glob("[!.]*")), "the spool is empty again")
        assert world.archive.instances(study_uids=[uid("remote")]) == []


def test_what_is_missing_of_a_study_is_pulled_for_a_get_and_kept(tmp_path: Path, upstream: Upstream) -> None:
    local = [instance("remote", "1", number, "CT", PatientName="Old^Name", PatientID="OLD") for number in (1, 2)]
    settings = Settings(keep=True, completeness=Completeness.INSTANCES)
    with gateway(tmp_path, local, (), upstream.asked, settings) as world:
        outcome = scu.get(
            world.port,
            "STUDY",
            {"StudyInstanceUID": uid("remote")},
            tmp_path / "got",
            aet="VIEWER",
            aec="GATEWAY",
        )
        assert outcome.returncode == 0, outcome.text[-3000:]
        got = [dcmread(file) for file in (tmp_path / "got").iterdir()]
        assert {one.SOPInstanceUID for one in got} == {one.SOPInstanceUID for one in REMOTE}
        assert {str(one.PatientName) for one in got} == {"Corrected^Name"}
        kept = world.archive.instances(study_uids=[uid("remote")])
        assert {one.sop_instance_uid for one in kept} == {one.SOPInstanceUID for one in REMOTE}


def test_a_corrected_patient_has_the_old_study_and_the_one_that_is_elsewhere(
    tmp_path: Path, upstream: Upstream
) -> None:
    receiver = Destined(tmp_path / "out")
    here = study("moved", 3, PatientName="Old^Name", PatientID="OLD")
    corrected = study("moved", 1, PatientName="Corrected^Name", PatientID="NEW")
    with (
        destination(receiver) as viewer,
        gateway(tmp_path, here, [Destination(viewer)], upstream.asked) as world,
        world.association(PATIENT_ROOT_MOVE) as association,
    ):
        upstream.archive.store(write(tmp_path / "corrected", corrected))

        def move_of(patient_id: str) -> RetrieveProgress:
            asked = Attributes.of({"QueryRetrieveLevel": "PATIENT", "PatientID": patient_id})
            return list(association.move(PATIENT_ROOT_MOVE, asked, "VIEWER"))[-1]

        old, new = move_of("OLD"), move_of("NEW")
        assert (old.status, old.completed, old.failed) == (Status.SUCCESS, 0, 0)
        assert (new.status, new.completed, new.failed) == (Status.SUCCESS, 9, 0)
        arrived = receiver.instances()
        assert arrived.keys() == {one.SOPInstanceUID for one in [*here, *REMOTE]}
        assert {(str(one.PatientName), one.PatientID) for one in arrived.values()} == {("Corrected^Name", "NEW")}

"""The reference scenario: a long-term archive, a leading archive with the corrections, a viewer; all of them real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

from gateway.dicom import tags
from gateway.dicom.models import LEADING_ATTRIBUTES
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import RunningPeer, dcmqrscp, orthanc, storescp
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

OLD = {"PatientName": "Smith^Jon", "PatientID": "OLD-7", "AccessionNumber": "A-OLD", "PatientBirthDate": "19700101"}
NEW = {"PatientName": "Smythe^Jörg", "PatientID": "NEW-7", "AccessionNumber": "A-NEW", "PatientBirthDate": "19710101"}
STUDY = dicomfiles.uid("corrected")
Archive = Callable[[Path], AbstractContextManager[RunningPeer]]


@dataclass
class Hospital:
    leading: RunningPeer
    gateway: RunningGateway
    viewer: RunningPeer
    stored: dict[str, Dataset]

    def find(self, keys: dict[str, str], level: str = "STUDY") -> scu.Outcome:
        return scu.find(self.gateway.port, level, keys, aet=self.viewer.aet, aec=self.gateway.aet)

    def move(self, keys: dict[str, str], level: str = "STUDY", model: str = "-S") -> scu.Outcome:
        return scu.move(
            self.gateway.port, level, keys, self.viewer.aet, aet=self.viewer.aet, aec=self.gateway.aet, model=model
        )


def local_datasets() -> list[Dataset]:
    """Two series of two modalities, and a study that nobody corrected."""
    old = dict(OLD)
    return [
        *dicomfiles.study("corrected", 3, "CT", **old),
        *(dicomfiles.instance("corrected", "2", number, "MR", **old) for number in (1, 2)),
        *dicomfiles.study("untouched", 1, "US", PatientName="Other^Olga", PatientID="OTHER", AccessionNumber="A-OTHER"),
    ]


def corrected_datasets() -> list[Dataset]:
    return dicomfiles.study("corrected", 3, "CT", SpecificCharacterSet="ISO_IR 100", **NEW)


@contextmanager
def hospital(tmp_path: Path, archive: Archive) -> Iterator[Hospital]:
    local = local_datasets()
    dicomdir = dicomfiles.write_file_set(tmp_path / "local", local)
    with archive(tmp_path / "leading") as leading, storescp(tmp_path / "viewer") as viewer:
        leading.store(dicomfiles.write(tmp_path / "corrected", corrected_datasets()))
        peers = {"LEADING": peer(leading.aet, leading.port), "VIEWER": peer(viewer.aet, viewer.port)}
        sections = {"leading": {"peer": "LEADING"}, "logging": {"level": "debug"}}
        with gateway(tmp_path / "gw", peers=peers, dicomdir=dicomdir, **sections) as running:
            yield Hospital(leading, running, viewer, {str(one.SOPInstanceUID): one for one in local})


ARCHIVES = pytest.mark.parametrize("archive", [dcmqrscp, orthanc], ids=["dcmqrscp", "orthanc"])


@pytest.fixture(scope="module", params=[dcmqrscp, orthanc], ids=["dcmqrscp", "orthanc"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with hospital(tmp_path_factory.mktemp("hospital"), request.param) as one:
        yield one


@pytest.fixture
def here(shared: Hospital) -> Hospital:
    """One hospital for the tests that leave it as it was; the viewer has received nothing."""
    for file in shared.viewer.files():
        file.unlink()
    return shared


QUESTION = {"StudyInstanceUID": STUDY, "PatientName": "", "PatientID": "", "AccessionNumber": "", "StudyDate": ""}


def test_a_viewer_sees_the_corrected_study(here: Hospital) -> None:
    outcome = here.find(QUESTION)
    assert outcome.status == 0x0000
    (answer,) = outcome.answers
    assert (str(answer.PatientName), answer.PatientID, answer.AccessionNumber) == (
        NEW["PatientName"], NEW["PatientID"], NEW["AccessionNumber"],
    )  # fmt: skip
    assert answer.RetrieveAETitle == "GATEWAY"
    assert answer.InstanceAvailability == "ONLINE"


def test_a_corrected_value_finds_the_study_and_an_old_one_does_not(here: Hospital) -> None:
    for corrected in ({"PatientID": "NEW-7"}, {"PatientName": "Smythe*"}, {"AccessionNumber": "A-NEW"}):
        found = here.find({"StudyInstanceUID": "", **corrected}).answers
        assert [one.StudyInstanceUID for one in found] == [STUDY], corrected
    for old in ({"PatientID": "OLD-7"}, {"PatientName": "Smith^Jon"}, {"AccessionNumber": "A-OLD"}):
        outcome = here.find({"StudyInstanceUID": "", **old})
        assert (outcome.status, outcome.answers) == (0x0000, ()), old


def test_every_level_shows_the_corrected_attributes(here: Hospital) -> None:
    series = here.find({"StudyInstanceUID": STUDY, "SeriesInstanceUID": "", "PatientID": "", "Modality": ""}, "SERIES")
    assert sorted((one.Modality, one.PatientID) for one in series.answers) == [("CT", "NEW-7"), ("MR", "NEW-7")]
    keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": dicomfiles.uid("corrected", "2"), "SOPInstanceUID": ""}
    images = here.find({**keys, "AccessionNumber": ""}, "IMAGE")
    assert [one.AccessionNumber for one in images.answers] == ["A-NEW", "A-NEW"]
    patients = scu.find(
        here.gateway.port, "PATIENT", {"PatientID": "", "PatientName": ""}, aet="STORESCP", aec="GATEWAY", model="-P"
    )
    assert sorted(one.PatientID for one in patients.answers) == ["NEW-7", "OTHER"]


def test_a_move_delivers_every_instance_with_corrected_attributes(here: Hospital) -> None:
    assert here.move({"StudyInstanceUID": STUDY}).status == 0x0000
    wait_until(lambda: len(here.viewer.files()) == 5, "five instances arrive")
    mutable = LEADING_ATTRIBUTES | {tags.SpecificCharacterSet}
    for uid, instance in here.viewer.instances().items():
        stored = here.stored[uid]
        for keyword, value in NEW.items():
            assert str(instance[keyword].value) == value, keyword
        assert instance.PixelData == stored.PixelData
        assert instance.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID
        untouched = [element for element in stored if element.tag not in mutable]
        assert untouched == [instance[element.tag] for element in untouched]


def test_a_corrected_patient_id_moves_the_old_study(here: Hospital) -> None:
    assert here.move({"PatientID": "NEW-7"}, "PATIENT", "-P").status == 0x0000
    wait_until(lambda: len(here.viewer.files()) == 5, "five instances arrive")
    assert here.move({"PatientID": "OLD-7"}, "PATIENT", "-P").status == 0x0000
    assert len(here.viewer.files()) == 5, "the old patient has no studies any more"


def test_a_study_nobody_corrected_is_served_as_it_is(here: Hospital) -> None:
    uid = dicomfiles.uid("untouched")
    (answer,) = here.find({"StudyInstanceUID": uid, "PatientID": ""}).answers
    assert answer.PatientID == "OTHER"
    assert here.move({"StudyInstanceUID": uid}).status == 0x0000
    wait_until(here.viewer.files, "it arrives")
    (received,) = here.viewer.instances().values()
    assert received == here.stored[str(received.SOPInstanceUID)]


def test_one_miss_then_hits(here: Hospital) -> None:
    def counted() -> dict[str, float]:
        name = "query_cache_lookups_total"
        return {word: here.gateway.metric(name, cache="queries", result=word) for word in ("miss", "hit")}

    def logged() -> dict[str, int]:
        return {word: here.gateway.text.count(f"cache={word} ") for word in ("miss", "hit")}

    metrics, lines = counted(), logged()
    for _ in range(3):
        assert len(here.find({**QUESTION, "PatientComments": ""}).answers) == 1
    assert counted() == {"miss": metrics["miss"] + 1, "hit": metrics["hit"] + 2}
    assert logged() == {"miss": lines["miss"] + 1, "hit": lines["hit"] + 2}


@ARCHIVES
def test_with_the_leading_archive_stopped_the_local_answers_and_retrieves_go_on(
    archive: Archive, tmp_path: Path
) -> None:
    with hospital(tmp_path, archive) as here:
        here.leading.stop()
        (answer,) = here.find(QUESTION).answers
        assert answer.PatientID == OLD["PatientID"]
        assert here.move({"StudyInstanceUID": STUDY}).status == 0x0000
        wait_until(lambda: len(here.viewer.files()) == 5, "five instances arrive")
        assert {one.PatientID for one in here.viewer.instances().values()} == {OLD["PatientID"]}
        assert "leading archive" in here.gateway.text
        assert here.gateway.metric("leading_degraded_total") > 0


@ARCHIVES
def test_corrections_remembered_from_before_an_outage_are_used(archive: Archive, tmp_path: Path) -> None:
    with hospital(tmp_path, archive) as here:
        assert len(here.find(QUESTION).answers) == 1
        here.leading.stop()
        (answer,) = here.find(QUESTION).answers
        assert answer.PatientID == NEW["PatientID"]
        assert here.move({"StudyInstanceUID": STUDY}).status == 0x0000
        wait_until(lambda: len(here.viewer.files()) == 5, "five instances arrive")
        assert {one.PatientID for one in here.viewer.instances().values()} == {NEW["PatientID"]}


@ARCHIVES
def test_a_broken_file_fails_alone(archive: Archive, tmp_path: Path) -> None:
    with hospital(tmp_path, archive) as here:
        (found,) = [one for one in here.stored.values() if one.Modality == "CT" and one.InstanceNumber == 2]
        local = here.gateway.config.parent.parent / "local"
        files = [path for path in local.rglob("*") if path.is_file() and path.name != "DICOMDIR"]
        (file,) = [path for path in files if str(found.SOPInstanceUID).encode() in path.read_bytes()]
        file.unlink()
        outcome = here.move({"StudyInstanceUID": STUDY})
        assert outcome.status == 0xB000
        assert str(found.SOPInstanceUID) in outcome.text, "the failed instance is listed"
        wait_until(lambda: len(here.viewer.files()) == 4, "the other four arrive")

"""Rejection notes made by pydicom, sent by DCMTK, to a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from gateway.commitment.messages import Reference
from gateway.commitment.rejection import KEY_OBJECT_SELECTION, Note, Title, read_note
from gateway.config import load
from gateway.daemon.listeners import Listeners
from gateway.daemon.running import alone
from gateway.dicom.attributes import Attributes
from gateway.metrics import REGISTRY
from tests.support import dicomfiles, peers, scu
from tests.support.ports import closed_port
from tests.support.scu import Outcome
from tests.support.waiting import wait_until

STUDY = dicomfiles.study("s", 3, PatientID="P1")


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def note(title: str, *rejected: Dataset, scheme: str = "DCM", syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """A Key Object Selection about some instances of one series."""
    instances = [
        item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in rejected
    ]
    first = rejected[0]
    series = item(SeriesInstanceUID=first.SeriesInstanceUID, ReferencedSOPSequence=instances)
    study = item(StudyInstanceUID=first.StudyInstanceUID, ReferencedSeriesSequence=[series])
    code = item(CodeValue=title, CodingSchemeDesignator=scheme, CodeMeaning="a title")
    found = item(
        SOPClassUID=KEY_OBJECT_SELECTION,
        SOPInstanceUID=generate_uid(),
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=generate_uid(),
        PatientID="P1",
        PatientName="DOE^JANE",
        Modality="KO",
        ConceptNameCodeSequence=[code],
        CurrentRequestedProcedureEvidenceSequence=[study],
    )
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = UID(syntax)
    found.file_meta.MediaStorageSOPClassUID = UID(KEY_OBJECT_SELECTION)
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return found


def test_the_four_titles_make_a_note_and_others_do_not(tmp_path: Path) -> None:
    def read(dataset: Dataset) -> Note | None:
        file = dicomfiles.write(tmp_path, [dataset])[0]
        raw = file.read_bytes()
        start = raw.index(b"\x08\x00\x16\x00UI", 300)
        return read_note(Attributes.decode(raw[start:], implicit=False))

    wanted = tuple(Reference(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in STUDY[:2])
    for title in Title:
        assert read(note(title.value, *STUDY[:2], STUDY[0])) == Note(title, wanted)
    assert read(note("113000", *STUDY)) is None  # Of Interest
    assert read(note("113001", *STUDY, scheme="99ACME")) is None


CONFIGURATION = """
ae: {{port: 0, workers: 1}}
http: {{port: 0}}
archive: {{dicomdir: archive/DICOMDIR, create: true, index: index, min_free: 0, publish_delay: PT0.05S}}
rejection: {rejection}
peers:
  QA: {{aet: QA, host: 127.0.0.1, port: {port}, allow: [echo, find, store, delete]}}
  CT: {{aet: CT, host: 127.0.0.1, port: {port}, allow: [echo, find, store]}}
"""

WITH_LEADING = (
    CONFIGURATION.replace("store, delete", "move, store, delete")
    + "  QRSCP: {{aet: QRSCP, host: 127.0.0.1, port: {leading}, allow: [echo, store]}}\nleading: {{peer: QRSCP}}\n"
)


class Hospital:
    """A gateway and those who send to it."""

    def __init__(self, gateway: Listeners, folder: Path) -> None:
        self.port = gateway.port
        self.folder = folder

    def send(self, *datasets: Dataset, aet: str = "QA") -> Outcome:
        files = dicomfiles.write(self.folder / "files", datasets)
        return scu.store(self.port, files, aet=aet, aec="GATEWAY")

    def visible(self) -> set[str]:
        """The instances a query finds in the series of the study."""
        one = STUDY[0]
        keys = {"StudyInstanceUID": one.StudyInstanceUID, "SeriesInstanceUID": one.SeriesInstanceUID,
                "SOPInstanceUID": ""}  # fmt: skip
        found = scu.find(self.port, "IMAGE", keys, aet="QA", aec="GATEWAY")
        assert found.status == 0
        return {str(answer.SOPInstanceUID) for answer in found.answers}

    def images(self) -> int:
        """Files of images on the disk."""
        files = [
            file for file in (self.folder / "archive").rglob("*") if file.is_file() and "DICOMDIR" not in file.name
        ]
        return sum(b"\x08\x00\x60\x00CS\x02\x00CT" in file.read_bytes() for file in files)


def uids(datasets: Sequence[Dataset]) -> set[str]:
    return {str(one.SOPInstanceUID) for one in datasets}


def hospital(tmp_path: Path, rejection: str, *, configuration: str = CONFIGURATION, **ports: int) -> Iterator[Hospital]:
    file = tmp_path / "gateway.yaml"
    file.write_text(configuration.format(rejection=rejection, **{"port": closed_port(), **ports}))
    with alone(load(file, {})) as gateway:
        found = Hospital(gateway, tmp_path)
        assert found.send(*STUDY).returncode == 0
        assert found.visible() == uids(STUDY)
        yield found


@pytest.fixture
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hospital]:
    yield from hospital(tmp_path, getattr(request, "param", "{}"))


pytestmark = pytest.mark.peers


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_note_hides_what_it_names_and_nothing_else(here: Hospital, syntax: str) -> None:
    sent = here.send(note("113001", STUDY[0], syntax=syntax))
    assert sent.returncode == 0, sent.text
    assert here.visible() == uids(STUDY[1:])
    assert here.images() == 3
    assert (REGISTRY.get_sample_value(
        "dicom_gateway_rejected_instances_total", {"title": "quality", "action": "hide"}) or 0) >= 1  # fmt: skip


def test_an_expired_retention_deletes_the_files(here: Hospital) -> None:
    assert here.send(note("113039", *STUDY[:2])).returncode == 0
    assert here.visible() == uids(STUDY[2:])
    wait_until(lambda: here.images() == 1, "the files are gone")


def test_a_peer_without_the_permission_may_not_reject(here: Hospital) -> None:
    refused = here.send(note("113037", *STUDY), aet="CT")
    assert "0x0124" in refused.text or "0124" in refused.text, refused.text
    assert here.visible() == uids(STUDY)


def test_an_ordinary_key_object_selection_is_stored(here: Hospital) -> None:
    document = note("113000", *STUDY)
    assert here.send(document, aet="CT").returncode == 0
    assert here.visible() == uids(STUDY)
    keys = {"StudyInstanceUID": STUDY[0].StudyInstanceUID, "Modality": "KO", "SeriesInstanceUID": ""}
    assert len(scu.find(here.port, "SERIES", keys, aet="QA", aec="GATEWAY").answers) == 1


def test_a_note_about_another_class_is_refused_whole(here: Hospital) -> None:
    wrong = item(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", SOPInstanceUID=STUDY[0].SOPInstanceUID,
                 StudyInstanceUID=STUDY[0].StudyInstanceUID, SeriesInstanceUID=STUDY[0].SeriesInstanceUID)  # fmt: skip
    refused = here.send(note("113001", wrong, STUDY[1]))
    assert "0xa900" in refused.text.lower(), refused.text
    assert here.visible() == uids(STUDY)


def test_what_a_leading_archive_goes_on_offering_is_left_out(tmp_path: Path) -> None:
    with (
        peers.storescp(tmp_path / "viewer", aet="QA") as viewer,
        peers.dcmqrscp(tmp_path / "leading") as leading,
    ):
        leading.store(dicomfiles.write(tmp_path / "files", STUDY))
        ports = {"port": viewer.port, "leading": leading.port}
        for found in hospital(tmp_path, "{}", configuration=WITH_LEADING, **ports):
            assert found.send(note("113037", STUDY[0])).returncode == 0
            assert found.visible() == uids(STUDY[1:])
            keys = {"StudyInstanceUID": STUDY[0].StudyInstanceUID}
            moved = scu.move(found.port, "STUDY", keys, "QA", aet="QA", aec="GATEWAY")
            assert moved.returncode == 0, moved.text
            images = {uid for uid, one in viewer.instances().items() if one.Modality == "CT"}
            assert images == uids(STUDY[1:])


@pytest.mark.parametrize("here", ["{on_resend: restore}"], indirect=True)
def test_a_rejected_instance_is_restored_by_storing_it_again(here: Hospital) -> None:
    here.send(note("113001", *STUDY))
    assert here.visible() == set()
    assert here.send(STUDY[0], aet="CT").returncode == 0
    assert here.visible() == uids(STUDY[:1])


@pytest.mark.parametrize("here", ["{on_resend: refuse}"], indirect=True)
def test_a_rejected_instance_is_refused(here: Hospital) -> None:
    here.send(note("113001", *STUDY))
    assert "0124" in here.send(STUDY[0], aet="CT").text
    assert here.visible() == set()


@pytest.mark.parametrize("here", ["{on_resend: ignore}"], indirect=True)
def test_a_rejected_instance_is_ignored(here: Hospital) -> None:
    here.send(note("113001", *STUDY))
    assert here.send(STUDY[0], aet="CT").returncode == 0
    assert here.visible() == set()


@pytest.mark.parametrize("here", ["{quality: ignore, keep_notes: false}"], indirect=True)
def test_a_title_may_do_nothing_and_a_note_need_not_be_kept(here: Hospital) -> None:
    here.send(note("113001", *STUDY))
    assert here.visible() == uids(STUDY)
    here.send(note("113037", *STUDY))
    assert here.visible() == set()
    keys = {"StudyInstanceUID": STUDY[0].StudyInstanceUID, "Modality": "KO", "SeriesInstanceUID": ""}
    assert len(scu.find(here.port, "SERIES", keys, aet="QA", aec="GATEWAY").answers) == 1  # the one that did nothing

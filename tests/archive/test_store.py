"""C-STORE into the archive, and what queries and look-ups then say."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest

from gateway.archive.local import LocalArchive
from gateway.archive.store import OnConflict
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.keys import Empties
from gateway.dicom.models import Level, Model
from gateway.dicom.status import Status
from gateway.errors import BadInstance, Refused
from gateway.query.ports import Request

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


def ask(archive: LocalArchive, level: Level, **keys: str) -> list[Attributes]:
    query = Query(Model.PATIENT_ROOT, level, Attributes.of(keys), Negotiated(relational=True))
    return list(archive.find(Request(query, Caller("ASKER"))))


def test_a_stored_instance_is_found_at_every_level(archive: LocalArchive, make: Make, store: Send) -> None:
    assert store(archive, make()) == Status.SUCCESS
    assert store(archive, make(number=2)) == Status.SUCCESS
    (patient,) = ask(archive, Level.PATIENT, PatientID="P1")
    assert patient.text(tags.NumberOfPatientRelatedStudies) == "1"
    (study,) = ask(archive, Level.STUDY, PatientName="pat*", StudyDate="20240101-20241231", ModalitiesInStudy="CT")
    assert study.text(tags.NumberOfStudyRelatedInstances) == "2"
    assert study.text(tags.ModalitiesInStudy) == "CT"
    assert study.text(tags.tag_of("PatientBirthDate")) == "19700101"
    (series,) = ask(archive, Level.SERIES, StudyInstanceUID="1.2.3.1.1", Modality="CT")
    assert series.text(tags.NumberOfSeriesRelatedInstances) == "2"
    images = ask(archive, Level.IMAGE, SeriesInstanceUID="1.2.3.1.1.1", InstanceNumber="2")
    assert [one.text(tags.SOPInstanceUID) for one in images] == ["1.2.3.1.1.1.2"]


@pytest.mark.parametrize(
    "keys",
    [
        {"PatientID": "P2"},
        {"PatientName": "DOE*"},
        {"StudyDate": "-20231231"},
        {"AccessionNumber": "A"},
        {"ModalitiesInStudy": "MR"},
        {"StudyInstanceUID": "1.2.3.1"},
    ],
)
def test_what_does_not_match_is_no_answer(archive: LocalArchive, make: Make, store: Send, keys: dict[str, str]) -> None:
    store(archive, make())
    assert ask(archive, Level.STUDY, **keys) == []


def test_an_accented_name_is_found_by_its_plain_letters(archive: LocalArchive, make: Make, store: Send) -> None:
    store(archive, make(PatientName="Müller^Zoë=山田^太郎"))
    assert len(ask(archive, Level.PATIENT, PatientName="MULLER*")) == 1
    assert len(ask(archive, Level.PATIENT, PatientName="山田*")) == 1


def test_the_file_holds_the_data_set_as_it_was_sent(archive: LocalArchive, make: Make, store: Send) -> None:
    request, data = make()
    store(archive, (request, data))
    (stored,) = archive.instances(sop_uids=[request.sop_instance_uid])
    whole = Path(stored.path).read_bytes()
    assert whole[stored.dataset_offset :] == data
    assert len(whole) == stored.size
    read = pydicom.dcmread(stored.path)
    assert read.file_meta.SourceApplicationEntityTitle == "SENDER"
    assert read.PatientName == "Patient^1"


def test_the_same_instance_again_is_success_and_changes_nothing(archive: LocalArchive, make: Make, store: Send) -> None:
    store(archive, make())
    generation = archive.generation
    assert store(archive, make()) == Status.SUCCESS
    assert archive.generation == generation
    assert len(list(archive.root.rglob("*/*/*/*"))) == 1


def test_other_content_under_a_uid_is_kept_out_with_a_warning(archive: LocalArchive, make: Make, store: Send) -> None:
    store(archive, make())
    assert store(archive, make(PatientComments="other")) == 0xB000
    (stored,) = archive.instances(sop_uids=["1.2.3.1.1.1.1"])
    assert "PatientComments" not in pydicom.dcmread(stored.path)


def test_other_content_under_a_uid_replaces_when_configured(tmp_path: Path, make: Make, store: Send) -> None:
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", on_conflict=OnConflict.REPLACE)
    archive.prepare()
    store(archive, make())
    assert store(archive, make(PatientComments="other")) == Status.SUCCESS
    (stored,) = archive.instances(sop_uids=["1.2.3.1.1.1.1"])
    assert pydicom.dcmread(stored.path).PatientComments == "other"
    (study,) = ask(archive, Level.STUDY, StudyInstanceUID="1.2.3.1.1")
    assert study.text(tags.NumberOfStudyRelatedInstances) == "1"
    archive.close()


@pytest.mark.parametrize("broken", [None, b"", b"no DICOM file"])
def test_an_instance_whose_file_was_lost_is_taken_again(
    archive: LocalArchive, make: Make, store: Send, broken: bytes | None
) -> None:
    store(archive, make())
    (lost,) = archive.instances(sop_uids=["1.2.3.1.1.1.1"])
    Path(lost.path).unlink()
    if broken is not None:
        Path(lost.path).write_bytes(broken)
    assert store(archive, make(PatientComments="again")) == Status.SUCCESS
    (stored,) = archive.instances(sop_uids=["1.2.3.1.1.1.1"])
    assert pydicom.dcmread(stored.path).PatientComments == "again"
    (study,) = ask(archive, Level.STUDY, StudyInstanceUID="1.2.3.1.1")
    assert study.text(tags.NumberOfStudyRelatedInstances) == "1"


def test_a_data_set_of_another_instance_is_refused(archive: LocalArchive, make: Make, store: Send) -> None:
    (request, _), (_, other) = make(), make(number=2)
    with pytest.raises(Refused) as refused:
        store(archive, (request, other))
    assert refused.value.status == 0xA900
    archive.close()
    assert list(archive.root.rglob("*/*/*/*")) == []
    assert list((archive.root / ".incoming").iterdir()) == []


def test_rubbish_is_no_instance(archive: LocalArchive, make: Make, store: Send) -> None:
    request, _ = make()
    with pytest.raises(BadInstance):
        store(archive, (request, b"rubbish" * 100))
    archive.close()
    assert list((archive.root / ".incoming").iterdir()) == []


def test_parallel_stores_of_one_new_patient_make_one_patient(archive: LocalArchive, make: Make, store: Send) -> None:
    made = [make(study=study, number=number) for study in range(1, 5) for number in range(1, 6)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda one: store(archive, one), made)) == {0}
    (patient,) = ask(archive, Level.PATIENT, PatientID="*", NumberOfPatientRelatedInstances="")
    assert patient.text(tags.NumberOfPatientRelatedStudies) == "4"
    assert patient.text(tags.NumberOfPatientRelatedInstances) == "20"


def test_parallel_stores_of_one_instance_keep_one_file(archive: LocalArchive, make: Make, store: Send) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store(archive, make()), range(16))) == {0}
    assert len(list(archive.root.rglob("*/*/*/*"))) == 1
    assert len(archive.instances(study_uids=["1.2.3.1.1"])) == 1


def test_studies_gives_patient_and_study_attributes(archive: LocalArchive, make: Make, store: Send) -> None:
    store(archive, make())
    found = archive.studies(["1.2.3.1.1", "1.9"], Caller("ASKER"))
    assert list(found) == ["1.2.3.1.1"]
    assert found["1.2.3.1.1"].text(tags.PatientName) == "Patient^1"
    assert found["1.2.3.1.1"].text(tags.AccessionNumber) == "A1-1"


def test_an_entity_without_a_value_matches_where_that_is_configured(tmp_path: Path, make: Make, store: Send) -> None:
    for empties, found in ((Empties(), 0), (Empties(empty=True, absent=True), 1)):
        archive = LocalArchive(tmp_path / "files" / "DICOMDIR", empties=empties)
        archive.prepare()
        store(archive, make(PatientName="", StudyDate="", AccessionNumber="", StudyID="", Modality=""))
        assert len(ask(archive, Level.STUDY, PatientName="DOE", StudyDate="20240101", AccessionNumber="1")) == found
        assert len(ask(archive, Level.STUDY, StudyID="7", ModalitiesInStudy="CT")) == found
        archive.close()

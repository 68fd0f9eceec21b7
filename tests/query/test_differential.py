"""The same data, the same questions: our archive, dcmqrscp and Orthanc. Every difference has its reason here.

docs/decisions/0020-matching-differences.md tells the reasons at length. A difference that is not listed fails the test,
and so does one that is listed but gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from gateway.archive.heads import read_head
from gateway.archive.local import LocalArchive
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Negotiated, parse_query
from gateway.dicom.models import Level, Model
from gateway.dimse.ports import Peer, StoreRequest
from gateway.dimse.requestor import connect
from gateway.leading.archive import STUDY_ROOT_FIND
from gateway.query.ports import Request
from tests.query.doubles import CALLER
from tests.support import dicomfiles
from tests.support.peers import RunningPeer, dcmqrscp, orthanc

pytestmark = pytest.mark.peers("dcmtk", "orthanc")

CASES = "names are compared with case"
ACCENTS = "names are compared with accents"
GROUPS = "component groups are compared as one text"
TRAILING = "empty components at the end of a name count"
BYTES = "a ? stands for one byte, not one character"
LISTS = "a list of values other than UIDs is one value"
PARTIAL = "a partial time is a text, and covers nothing"
EMPTY = "an empty value lies in a range without a beginning"
LEGACY = "dates with dots are not understood"
UNSUPPORTED = "Modalities in Study is not matched"


@dataclass(frozen=True)
class Question:
    """A key, what matches it here, and what a peer answers instead, with the reason."""

    keyword: str
    value: str
    ours: str
    dcmqrscp: tuple[str, str] | None = None
    orthanc: tuple[str, str] | None = None


STUDIES = {
    "plain": ("Doe^John", "ID1", "20240131", "101500", "A1", "Head CT"),
    "case": ("DOE^JANE", "id1", "20240201", "235959.5", "a1", "head ct"),
    "accent": ("Müller^Jörg", "ID2", "20231231", "10", "A12", "Schädel"),
    "groups": ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ID3", "20240115", "000000", "A 3", "100%"),
    "empty": ("Noid^Nemo", "ID4", "", "", "", ""),
    "single": ("Smith", "ID*5", "20240131", "101559", "A?5", "a_b"),
}
KEYWORDS = ("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "StudyDescription")
CHARSETS: dict[str, object] = {"accent": "ISO_IR 100", "groups": ["", "ISO 2022 IR 87"]}
NAMES = {dicomfiles.uid(name): name for name in STUDIES}
ALL = "accent case empty groups plain single"

QUESTIONS = [
    Question("PatientName", "Doe^John", "plain"),
    Question("PatientName", "DOE^JOHN", "plain", dcmqrscp=("", CASES)),
    Question("PatientName", "doe*", "case plain", dcmqrscp=("", CASES)),
    Question("PatientName", "D?E^JOHN", "plain", dcmqrscp=("", CASES)),
    Question("PatientName", "Doe", ""),
    Question("PatientName", "Doe^*", "case plain", dcmqrscp=("plain", CASES)),
    Question("PatientName", "*^J*", "accent case plain"),
    Question("PatientName", "Smith", "single"),
    Question("PatientName", "Smith^", "single", dcmqrscp=("", TRAILING), orthanc=("", TRAILING)),
    Question("PatientName", "Smith^*", "single", dcmqrscp=("", TRAILING), orthanc=("", TRAILING)),
    Question("PatientName", "Doe^John^^", "plain", dcmqrscp=("", TRAILING), orthanc=("", TRAILING)),
    Question("PatientName", "Müller*", "accent"),
    Question("PatientName", "muller*", "accent", dcmqrscp=("", ACCENTS), orthanc=("", ACCENTS)),
    Question("PatientName", "M?ller*", "accent", dcmqrscp=("", BYTES), orthanc=("", BYTES)),
    Question("PatientName", "山田*", "groups", dcmqrscp=("", GROUPS), orthanc=("", GROUPS)),
    Question("PatientName", "=山田*", "groups", dcmqrscp=("", GROUPS), orthanc=("", GROUPS)),
    Question("PatientName", "Yamada*=*", "groups"),
    Question("PatientName", "*", ALL),
    Question("PatientID", "ID1", "plain"),
    Question("PatientID", "id1", "case"),
    Question("PatientID", "ID*", "accent empty groups plain single"),
    Question("PatientID", "ID?", "accent empty groups plain"),
    Question("PatientID", "ID1 ", "plain"),
    Question("PatientID", "ID1\\ID2", "accent plain", dcmqrscp=("", LISTS)),
    Question("AccessionNumber", "A1", "plain"),
    Question("AccessionNumber", "A*", "accent groups plain single"),
    Question("AccessionNumber", "A?", "plain"),
    Question("AccessionNumber", "A 3", "groups"),
    Question("AccessionNumber", "A?5", "single"),
    Question("AccessionNumber", "A", ""),
    Question("StudyDescription", "Head CT", "plain"),
    Question("StudyDescription", "head*", "case"),
    Question("StudyDescription", "100%", "groups"),
    Question("StudyDescription", "a_b", "single"),
    Question("StudyDescription", "a?b", "single"),
    Question("StudyDescription", "Sch*", "accent"),
    Question("StudyDate", "20240131", "plain single"),
    Question("StudyDate", "20240131-", "case plain single"),
    Question("StudyDate", "-20240131", "accent groups plain single", orthanc=(f"{ALL}".replace("case ", ""), EMPTY)),
    Question("StudyDate", "20240101-20240131", "groups plain single"),
    Question("StudyDate", "20240131-20240101", ""),
    Question("StudyDate", "2024.01.31", "plain single", orthanc=("", LEGACY)),
    Question("StudyTime", "101500", "plain"),
    Question("StudyTime", "10", "accent plain single", dcmqrscp=("accent", PARTIAL), orthanc=("accent", PARTIAL)),
    Question("StudyTime", "1015", "plain single", dcmqrscp=("plain", PARTIAL), orthanc=("", PARTIAL)),
    Question("StudyTime", "10-11", "accent plain single"),
    Question(
        "StudyTime", "1000-1015", "accent plain single", dcmqrscp=("accent plain", PARTIAL), orthanc=("", PARTIAL)
    ),
    Question("StudyTime", "2359-", "case"),
    Question("StudyTime", "1015-101530", "plain"),
    Question("ModalitiesInStudy", "MR", "plain", dcmqrscp=(ALL, UNSUPPORTED)),
    Question("ModalitiesInStudy", "CT", ALL),
    Question("ModalitiesInStudy", "CT\\MR", ALL),
    Question("ModalitiesInStudy", "US", "", dcmqrscp=(ALL, UNSUPPORTED)),
]


def datasets() -> list[Dataset]:
    return [*map(dataset, STUDIES), dataset("plain", "2", "MR")]


def dataset(name: str, series: str = "1", modality: str = "CT") -> Dataset:
    values: dict[str, object] = dict(zip(KEYWORDS, STUDIES[name], strict=True))
    values["SpecificCharacterSet"] = CHARSETS.get(name, "ISO_IR 6")
    return dicomfiles.instance(name, series, 1, modality, **values)


@dataclass
class Archives:
    ours: LocalArchive
    dcmqrscp: RunningPeer
    orthanc: RunningPeer


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archives]:
    folder = tmp_path_factory.mktemp("differential")
    files = dicomfiles.write(folder / "files", datasets())
    local = LocalArchive(folder / "fs" / "DICOMDIR")
    local.prepare()
    for file in files:
        keep(local, file)
    with dcmqrscp(folder / "dcmqrscp") as one, orthanc(folder / "orthanc") as other:
        one.store(files)
        other.store(files)
        yield Archives(local, one, other)
    local.close()


def keep(archive: LocalArchive, file: Path) -> None:
    dataset = dcmread(file, stop_before_pixels=True)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    incoming = archive.begin(StoreRequest(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), syntax, CALLER))
    os.write(incoming.fd, file.read_bytes()[read_head(file).dataset_offset :])
    assert incoming.commit() == 0


def identifier(question: Question) -> Attributes:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", question.keyword: question.value}
    return Attributes.of(keys)


def names(answers: Iterator[Attributes]) -> str:
    return " ".join(sorted({NAMES[one.text(tags.StudyInstanceUID)] for one in answers}))


def asked(peer: RunningPeer, question: Question) -> str:
    remote = Peer(peer.aet, peer.aet, "127.0.0.1", peer.port)
    with connect(remote, "DIFFERENTIAL", [(STUDY_ROOT_FIND, "1.2.840.10008.1.2.1")]) as association:
        return names(association.find(STUDY_ROOT_FIND, identifier(question)))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: f"{one.keyword}={one.value}")
def test_a_difference_has_a_reason(archives: Archives, question: Question) -> None:
    query = parse_query(identifier(question), Model.STUDY_ROOT, Negotiated())
    assert query.level is Level.STUDY
    assert names(archives.ours.find(Request(query, CALLER))) == question.ours
    for peer, expected in ((archives.dcmqrscp, question.dcmqrscp), (archives.orthanc, question.orthanc)):
        assert asked(peer, question) == (expected[0] if expected else question.ours), (peer.aet, expected)


def test_every_reason_is_told_in_the_documents() -> None:
    text = Path("docs/decisions/0020-matching-differences.md").read_text("utf-8")
    reasons = {one[1] for question in QUESTIONS for one in (question.dcmqrscp, question.orthanc) if one}
    assert [reason for reason in sorted(reasons) if reason not in text] == []

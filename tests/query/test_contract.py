"""What every query source has to do: the local archive, leading archives, the cache, the view, the double."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset

from gateway.archive.local import LocalArchive
from gateway.dicom import tags
from gateway.dicom.models import Level
from gateway.dimse.ports import Peer
from gateway.errors import Cancelled
from gateway.leading.archive import LeadingArchive
from gateway.leading.connecting import connector
from gateway.query.cache import CachedLeading
from gateway.query.direct import DirectSource
from gateway.query.effective import EffectiveView
from gateway.query.limit import LimitedSource
from gateway.query.memo import Memo
from gateway.query.ports import QuerySource, Request
from gateway.query.projection import ProjectedSource
from gateway.query.several import FirstKnown, Member
from tests.query.asking import ask, query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance
from tests.support import dicomfiles
from tests.support.peers import RunningPeer, dcmqrscp, orthanc

Source = Callable[[Path], AbstractContextManager[QuerySource]]
NUMBERS = range(1, 6)
UIDS = [dicomfiles.uid(number) for number in NUMBERS]


def double() -> MemoryArchive:
    """The same five studies as the files: two series of the first."""
    more = instance(1, StudyInstanceUID=UIDS[0], SeriesInstanceUID=dicomfiles.uid(1, "2"), SOPInstanceUID="1.2.1.2.1")
    first = [
        instance(number, StudyInstanceUID=UIDS[number - 1], SeriesInstanceUID=dicomfiles.uid(number, "1"))
        for number in NUMBERS
    ]
    return MemoryArchive([*first, more])


def files(folder: Path) -> list[Path]:
    datasets = [_file(number) for number in NUMBERS] + [_file(1, "2")]
    return dicomfiles.write(folder, datasets)


def _file(number: int, series: str = "1") -> Dataset:
    return dicomfiles.instance(
        str(number), series, 1, PatientName=f"DOE^P{number}", PatientID=f"P{number}", StudyDate="20240131",
        StudyTime="120000", AccessionNumber=f"A{number}", StudyID=str(number), PatientBirthDate="19700101",
        StudyDescription="", SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip


@contextmanager
def in_memory(_: Path) -> Iterator[QuerySource]:
    yield double()


@contextmanager
def local(folder: Path) -> Iterator[QuerySource]:
    dicomdir = dicomfiles.write_file_set(folder / "fs", [_file(number) for number in NUMBERS] + [_file(1, "2")])
    archive = LocalArchive(dicomdir)
    archive.prepare()
    yield archive
    archive.close()


@contextmanager
def direct(folder: Path) -> Iterator[QuerySource]:
    with local(folder) as archive:
        assert isinstance(archive, LocalArchive)
        long = ProjectedSource(EffectiveView(archive, None), "GATEWAY")
        yield DirectSource(long, archive, "GATEWAY", alone=lambda: True)


def over_memory(wrap: Callable[[MemoryArchive], QuerySource]) -> Source:
    @contextmanager
    def source(_: Path) -> Iterator[QuerySource]:
        yield wrap(double())

    return source


def upstream(peer: Callable[[Path], AbstractContextManager[RunningPeer]]) -> Source:
    @contextmanager
    def source(folder: Path) -> Iterator[QuerySource]:
        with peer(folder) as running:
            running.store(files(folder.with_name("sent")))
            remote = Peer("LEADING", running.aet, "127.0.0.1", running.port)
            archive = LeadingArchive("LEADING", connector(remote, "GATEWAY"))
            yield archive
            archive.close()

    return source


SOURCES: dict[str, Source] = {
    "double": in_memory,
    "local archive": local,
    "local archive, directly": direct,
    "cache": over_memory(lambda archive: CachedLeading("X", archive)),
    "several": over_memory(lambda archive: FirstKnown([Member(CachedLeading("X", archive)), Member(archive)])),
    "view": over_memory(lambda archive: EffectiveView(archive, CachedLeading("X", archive))),
    "view without leading": over_memory(lambda archive: EffectiveView(archive, None)),
    "projection": over_memory(lambda archive: ProjectedSource(archive, "GATEWAY")),
    "memo": over_memory(lambda archive: Memo(archive, lambda: 0)),
    "limit": over_memory(lambda archive: LimitedSource(archive, 100)),
}
PEERS = {"dcmqrscp": upstream(dcmqrscp), "orthanc": upstream(orthanc)}
ALL = [pytest.param(source, id=name) for name, source in SOURCES.items()]
ALL += [
    pytest.param(source, id=name, marks=pytest.mark.peers(name if name == "orthanc" else "dcmtk", "dcmtk"))
    for name, source in PEERS.items()
]


@pytest.fixture(scope="module", params=ALL)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySource]:
    with request.param(tmp_path_factory.mktemp("source") / "peer") as made:
        yield made


def test_all_that_match_and_no_other(source: QuerySource) -> None:
    assert uids(ask(source, query(PatientName="DOE*"))) == sorted(UIDS)
    assert uids(ask(source, query(PatientID="P2"))) == [UIDS[1]]
    assert uids(ask(source, query(PatientID="P9"))) == []
    assert uids(ask(source, query(StudyDate="20240101-20240201", AccessionNumber="A3"))) == [UIDS[2]]


def test_a_list_of_uids(source: QuerySource) -> None:
    assert uids(ask(source, query(StudyInstanceUID="\\".join(UIDS[1:3])))) == sorted(UIDS[1:3])


def test_each_entity_once_with_its_keys(source: QuerySource) -> None:
    (answer,) = ask(source, query(StudyInstanceUID=UIDS[0], PatientName="", PatientID="", AccessionNumber=""))
    assert answer.text(tags.PatientName) == "DOE^P1"
    assert answer.text(tags.PatientID) == "P1"
    assert answer.text(tags.AccessionNumber) == "A1"


def test_the_levels_below(source: QuerySource) -> None:
    series = ask(source, query(Level.SERIES, StudyInstanceUID=UIDS[0], Modality=""))
    assert uids(series, Level.SERIES) == sorted([dicomfiles.uid(1, "1"), dicomfiles.uid(1, "2")])
    assert {one.text(tags.Modality) for one in series} == {"CT"}
    keys = {"StudyInstanceUID": UIDS[0], "SeriesInstanceUID": dicomfiles.uid(1, "2")}
    assert len(ask(source, query(Level.IMAGE, **keys))) == 1  # type: ignore[arg-type]


def test_asking_again_gives_the_same(source: QuerySource) -> None:
    asked = query(PatientName="DOE*", PatientID="")
    first, again = ask(source, asked), ask(source, asked)
    assert uids(first) == uids(again)


def test_a_cancelled_query_raises(source: QuerySource) -> None:
    looks = iter([False, False])
    with pytest.raises(Cancelled):
        list(source.find(Request(query(StudyID=""), CALLER, cancelled=lambda: next(looks, True))))
    assert len(ask(source, query(StudyID=""))) == 5


def test_a_query_left_in_the_middle_leaves_nothing_behind(source: QuerySource) -> None:
    answers = source.find(Request(query(AccessionNumber=""), CALLER))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(ask(source, query(AccessionNumber=""))) == 5


def test_a_page_of_studies_and_no_unknown_one(source: QuerySource) -> None:
    if not isinstance(source, MemoryArchive | LocalArchive | LeadingArchive):
        return  # it looks no studies up by itself
    found = source.studies([*UIDS, "1.2.3.4"], CALLER)
    assert sorted(found) == sorted(UIDS)
    assert found[UIDS[2]].text(tags.PatientID) == "P3"
    assert source.studies(["1.2.3.4"], CALLER) == {}

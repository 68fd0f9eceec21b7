"""What is measured, row by row, with the targets; a measurement that did not do all its work raises."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from pydicom import dcmread

from bench import limit
from bench.archives import AET, Archive
from bench.client import Sink, client, queries_per_second, query, store
from bench.data import CT, CT_STUDY, EXPLICIT, HUNDRED_DATE, ROOT, Sizes, Study, renewed, small_study_list
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dimse.negotiation import Role
from gateway.dimse.requestor import connect

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
NAGLE_STUDY = f"{ROOT}.6"
ORTHANC, DCMQRSCP = "Orthanc", "dcmqrscp"
_REPEAT = 20


@dataclass(frozen=True)
class Stage:
    """All that a run has started and made.

    Attributes:
        ours: our variants: ``plain`` has no leading archive, ``leading`` one that knows other names, and ``unsynced``
            does not sync what it stores.
    """

    sizes: Sizes
    ours: dict[str, Archive]
    peers: dict[str, Archive]
    cts: Study
    large: Outgoing


Measure = Callable[[Stage, Archive, str], float]
"""Does the row's work once on an archive and returns its figure; the text is new for each call."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        variant: which of ours is measured.
        against: the peers; the fastest of them is compared with.
        target: how many times better ours has to be.
        more: whether more is better.
        repeats: whether it can be done more than once.
        limit: measures the same bytes over a bare socket.
        synced_limit: the same, each instance synced in a file of its own before the next one comes.
    """

    name: str
    work: str
    unit: str
    target: float
    variant: str
    against: tuple[str, ...]
    measure: Measure
    more: bool = False
    repeats: bool = True
    limit: Callable[[Stage], float] | None = None
    synced_limit: Callable[[Stage, str], float] | None = None

    @property
    def warm_up(self) -> int:
        """The number of the first round; those below 0 are not counted. What is stored is new each time."""
        return 0 if self.measure in {_store_cts, _store_small, _large} else -1


def _find(count: Callable[[Sizes], int], matching: dict[str, str], stage: Stage, archive: Archive, _: str) -> float:
    request = query(**matching)
    with client(archive) as one:
        one.find(request)
        best = []
        for _turn in range(max(1, _REPEAT // (1 + count(stage.sizes) // 50))):
            began = perf_counter()
            one.find(request)
            best.append(perf_counter() - began)
        found = one.answers()
        assert found == count(stage.sizes), f"{archive.name}: {found} answers"
        return sorted(best)[len(best) // 2]


def _not_cached(stage: Stage, archive: Archive, run: str) -> float:
    """A query nobody has asked before: its date range begins on another day each time."""
    day = 1 + sum(map(ord, run)) % 300
    request = query(StudyDate=f"2023{1 + day // 31 % 12:02d}{1 + day % 28:02d}-")
    with client(archive) as one:
        began = perf_counter()
        one.find(request)
        took = perf_counter() - began
        assert one.answers() >= stage.sizes.studies - 100, f"{archive.name}: {one.answers()} answers"
        return took


def _associate(stage: Stage, archive: Archive, _: str) -> float:
    request = query(StudyInstanceUID=f"{ROOT}.2.{stage.sizes.studies - 1}")
    times = []
    for _turn in range(_REPEAT):
        began = perf_counter()
        with client(archive) as one:
            one.find(request)
        times.append(perf_counter() - began)
        assert one.answers() == 1
    return sorted(times)[len(times) // 2]


def _eight(stage: Stage, archive: Archive, _: str) -> float:
    last = stage.sizes.studies
    requests = [query(StudyInstanceUID=f"{ROOT}.2.{number}") for number in range(last - 20, last)]
    return queries_per_second(archive, requests, 8, 1.0)


def _move(
    destination: str, study: str, count: Callable[[Sizes], int], stage: Stage, archive: Archive, _run: str
) -> float:
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study})
    with connect(archive.peer, AET, [(STUDY_ROOT_MOVE, EXPLICIT)]) as association:
        began = perf_counter()
        *_, final = association.move(STUDY_ROOT_MOVE, identifier, destination)
        took = perf_counter() - began
    assert (final.status, final.completed) == (0, count(stage.sizes)), f"{archive.name}: {final}"
    return took


def check_content(archive: Archive, study: Study, folder: Path, name: str) -> None:
    """Move a study to a receiver that keeps it, and look at what arrived.

    Args:
        folder: where the receiver ``KEEP`` puts it; it is empty again afterwards.
        name: the patient's name to be found in every instance.
    """
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": CT_STUDY})
    with connect(archive.peer, AET, [(STUDY_ROOT_MOVE, EXPLICIT)]) as association:
        *_, final = association.move(STUDY_ROOT_MOVE, identifier, "KEEP")
    assert final.status == 0, f"{archive.name}: {final}"
    pixels = Path(study.instances[0].path).read_bytes()
    found = set()
    for path in folder.glob("CT*"):
        dataset = dcmread(path)
        assert dataset.PatientName == name, f"{archive.name}: {dataset.PatientName}"
        assert dataset.PixelData == pixels, f"{archive.name}: other pixels"
        found.add(str(dataset.SOPInstanceUID))
        path.unlink()
    assert found == {one.sop_instance_uid for one in study.instances}, f"{archive.name}: {len(found)} instances"


def get(archive: Archive, study: str, count: int) -> float:
    """C-GET a study into the void; its instances are counted."""
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study})
    contexts, roles = [(STUDY_ROOT_GET, EXPLICIT), (CT, EXPLICIT)], {CT: Role(scu=False, scp=True)}
    sink = Sink()
    with connect(archive.peer, AET, contexts, roles=roles) as association:
        began = perf_counter()
        *_, final = association.get(STUDY_ROOT_GET, identifier, sink)
        took = perf_counter() - began
    sink.close()
    assert (final.status, sink.instances) == (0, count), f"{archive.name}: {final}"
    return took


def _get(stage: Stage, archive: Archive, _: str) -> float:
    return get(archive, CT_STUDY, stage.sizes.cts)


def _new_cts(stage: Stage, run: str) -> Study:
    return renewed(stage.cts, run)


def _new_small(stage: Stage, run: str) -> Study:
    return small_study_list(Path(stage.cts.instances[0].path), stage.sizes.small, run)


def _store_cts(stage: Stage, archive: Archive, run: str) -> float:
    return _store(archive, _new_cts(stage, run))


def _store_small(stage: Stage, archive: Archive, run: str) -> float:
    return _store(archive, _new_small(stage, run))


def _store(archive: Archive, study: Study) -> float:
    """Store on a quiet disk: what another archive has left to be written is not waited for by this one's syncs."""
    os.sync()
    return store(archive, study)


def peak_resident(archive: Archive) -> float:
    """The most memory that any of its processes has had resident, in MB."""
    peaks = []
    for pid in archive.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        peaks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks) / 1024


def _large(stage: Stage, archive: Archive, _: str) -> float:
    """Receive and send one multi-frame instance; the figure is the memory that took."""
    archive.fill(Study((stage.large,)))
    get(archive, stage.large.sop_instance_uid.rpartition(".")[0], 1)
    return peak_resident(archive)


def _cts(sizes: Sizes) -> int:
    return sizes.cts


def _ct_limit(stage: Stage) -> float:
    return limit.seconds(stage.cts)


def _synced_limit(study: Callable[[Stage, str], Study], stage: Stage, run: str) -> float:
    os.sync()
    return limit.synced_seconds(study(stage, run), Path(stage.cts.instances[0].path).parent)


def rows(sizes: Sizes) -> list[Row]:
    """All rows, those that only read first."""
    last = {"StudyInstanceUID": f"{ROOT}.2.{sizes.studies - 1}"}
    every = {"PatientName": "STUDY*"}
    both = (ORTHANC, DCMQRSCP)
    move = partial(_move, "SINK", CT_STUDY, _cts)
    nagle = min(50, sizes.cts)
    return [
        Row("find-1-cached", "C-FIND, 1 answer, open association", "s", 8, "leading", both[:1],
            partial(_find, lambda _: 1, last)),
        Row("find-100-cached", "C-FIND, 100 answers, open association", "s", 15, "leading", both[:1],
            partial(_find, lambda _: 100, {"StudyDate": HUNDRED_DATE})),
        Row("find-2000-cached", f"C-FIND, {sizes.studies} study answers, 12 keys", "s", 40, "leading", both[:1],
            partial(_find, lambda sizes: sizes.studies, every)),
        Row("find-2000-index", f"C-FIND, {sizes.studies - 100} study answers or more, never asked before", "s", 8,
            "plain", both[:1], _not_cached),
        Row("associate-find-release", "association, 1 answer, release", "s", 1, "leading", both[:1], _associate),
        Row("find-8-clients", "8 clients at once, 1 answer each; dcmqrscp with 400 studies", "1/s", 10, "leading",
            both, _eight, more=True),
        Row("move-500", f"C-MOVE of {sizes.cts} CTs of 512 KB to storescp", "s", 1.5, "plain", both, move,
            limit=_ct_limit),
        Row("move-500-coerced", "the same, ours with leading attributes coerced", "s", 1.3, "leading", both, move,
            limit=_ct_limit),
        Row("move-nagle", f"C-MOVE of {nagle} CTs to a storescp in default configuration", "s", 20, "plain", both[:1],
            partial(_move, "NAGLE", NAGLE_STUDY, lambda _: nagle)),
        Row("get-500", f"C-GET of {sizes.cts} CTs of 512 KB", "s", 1.4, "plain", both, _get, limit=_ct_limit),
        Row("store-500", f"C-STORE of {sizes.cts} CTs of 512 KB, synced", "s", 3, "plain", both[:1], _store_cts,
            limit=_ct_limit, synced_limit=partial(_synced_limit, _new_cts)),
        Row("store-2000-small", f"C-STORE of {sizes.small} small instances, synced", "s", 2, "plain", both[:1],
            _store_small, synced_limit=partial(_synced_limit, _new_small)),
        Row("store-500-unsynced", f"C-STORE of {sizes.cts} CTs of 512 KB, not synced", "s", 2.5, "unsynced", both[1:],
            _store_cts, limit=_ct_limit),
        Row("large-memory", f"one instance of {sizes.large >> 20} MB in and out, peak resident memory of a process",
            "MB", 1, "plain", (), _large, repeats=False),
    ]  # fmt: skip


MEMORY_TARGET_MB = 150.0

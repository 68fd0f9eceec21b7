"""The short way of a query gives the same bytes as the long one, whatever is stored and whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from gateway import metrics
from gateway.archive import rows
from gateway.archive.durability import Durability
from gateway.archive.index import Index
from gateway.archive.local import LocalArchive, default_index
from gateway.dicom import encoding, matching, tags
from gateway.dicom.attributes import Attributes, Element, element_of
from gateway.dicom.encoded import Encoded
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.keys import Empties
from gateway.dicom.models import Level, Model
from gateway.dicom.tags import tag_of, vr_of
from gateway.query.direct import DirectSource
from gateway.query.effective import EffectiveView
from gateway.query.merging import Availability
from gateway.query.ports import QuerySource, Request
from gateway.query.projection import ProjectedSource, Projection
from gateway.query.template import Template
from tests.query.asking import ask, query

TITLE = "GATEWAY"
CODES = tag_of("ProcedureCodeSequence")
CODE = Attributes.of({"CodeValue": "T1", "CodeMeaning": "Thorax"})
CHARSETS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (),
    ("ISO_IR 100",): ("Müller^Jörg",),
    ("ISO_IR 192",): ("Müller^Jörg", "山田^太郎"),
    ("", "ISO 2022 IR 87"): ("山田^太郎",),
}
TEXTS = frozenset({"LO", "LT", "PN", "SH"})
STORED = {
    "DA": ("20240131", "20240201 ", "2024.01.31", "soon", ""),
    "TM": ("1015", "101559", ""),
    **dict.fromkeys(TEXTS, ("", " ", "DOE^JANE", "Doe^John ", "CT\\MR", "A^*")),
}
ASKED = {
    "DA": ("20240131", "20240101-", "20240101-20240131", "-20240131"),
    "TM": ("10", "10-1015"),
    "US": ("2",),
    "IS": ("1", "01"),
    "UI": ("1.1", "1.1.2\\1.2.1"),
    **dict.fromkeys(TEXTS, ("D*", "DOE^JANE", "*m?ller*", '""', "CT", "*")),
}
LEVELS = {
    Level.PATIENT: "PatientName PatientBirthDate PatientComments StudyDescription",
    Level.STUDY: "StudyDate StudyTime AccessionNumber StudyDescription ReferringPhysicianName PatientName",
    Level.SERIES: "Modality SeriesNumber SeriesDescription StudyDescription Laterality NumberOfStudyRelatedSeries",
    Level.IMAGE: "InstanceNumber ImageComments Rows SeriesDescription",
}
OTHERS = """ModalitiesInStudy NumberOfStudyRelatedInstances NumberOfPatientRelatedStudies SOPClassUID PatientID
    NumberOfPatientRelatedInstances NumberOfSeriesRelatedInstances SOPClassesInStudy StudyInstanceUID"""

Levels = list[tuple[str, Attributes]]
"""An instance: unique key and attributes of each level, from the patient down."""


@dataclass
class Stored:
    """An archive's index, and both ways to ask it."""

    index: Index
    long: QuerySource
    short: QuerySource


@pytest.fixture(scope="module", params=[False, True], ids=["empty is no match", "empty matches"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    empties = Empties(empty=request.param, absent=request.param)
    dicomdir = tmp_path_factory.mktemp("direct") / "fs" / "DICOMDIR"
    local = LocalArchive(dicomdir, durability=Durability.NONE, empties=empties)
    local.prepare()
    index = Index(default_index(dicomdir), Durability.NONE)
    long = ProjectedSource(EffectiveView(local, None, empties=empties), TITLE)
    yield Stored(index, long, DirectSource(long, local, TITLE, alone=lambda: True))
    index.close()
    local.close()


def level_attributes(random: Random, level: Level, uid: str) -> Attributes:
    """One level of an entity as an index may have it, misdeclared and misplaced values included."""
    terms = random.choice(list(CHARSETS))
    elements: dict[int, Element] = {}
    if terms or random.random() < 0.1:
        elements[tags.SpecificCharacterSet] = element_of(tags.SpecificCharacterSet, "\\".join(terms), ())
    for keyword in LEVELS[level].split():
        if random.random() < 0.8:
            elements[tag_of(keyword)] = stored_element(random, tag_of(keyword), terms)
    if random.random() < 0.1:
        elements[CODES] = Element("SQ", encoding.item(CODE.encode(implicit=False)) * random.randrange(3))
    if random.random() < 0.1:
        elements[0x00091010] = Element("UN", b"\x01\x02")
    if level is Level.STUDY or (level is not Level.IMAGE and random.random() < 0.95):
        elements[level.unique_key] = element_of(level.unique_key, uid, ())
    return Attributes(elements)


def stored_element(random: Random, tag: int, terms: tuple[str, ...]) -> Element:
    vr = vr_of(tag)
    if vr == "US":
        return Element(vr, random.choice([b"\x02\x00", b""]))
    if random.random() < 0.05:
        return random.choice([Element(vr, b"M\xfcller"), Element("UN", b"x\0")])
    words = (*STORED.get(vr, ("1", "")), *(CHARSETS[terms] if vr in TEXTS else ()))
    return element_of(tag, random.choice(words), terms)


def instances(random: Random) -> list[Levels]:
    """Up to two patients with two studies each, those with two series each."""
    known: dict[str, Attributes] = {}
    found: dict[str, Levels] = {}
    for _ in range(random.randrange(1, 7)):
        names = [str(random.randrange(1, 3))]
        for _below in range(3):
            names.append(f"{names[-1]}.{random.randrange(1, 3)}")
        for level, name in zip(Level, names, strict=True):
            known.setdefault(name, level_attributes(random, level, name))
        found[names[-1]] = [(name, known[name]) for name in names]
    return list(found.values())


def fill(index: Index, held: list[Levels]) -> None:
    """Have these instances in the index, and no others."""
    with index.write() as db:
        for table in ("patient", "patient_name", "study", "series", "instance"):
            db.execute(f"DELETE FROM {table}")
        for patient, study, series, image in held:
            parent = rows.add_study(db, rows.add_patient(db, *patient), *study, now=0.0)
            parent = rows.add_series(db, parent, *series)
            db.execute(
                "INSERT INTO instance (series, uid, sop_class, transfer_syntax, file_id, attributes)"
                " VALUES (?, ?, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', '', ?)",
                (parent, image[0], image[1].encode(implicit=False)),
            )
            rows.recount(db, {parent})


def question(random: Random) -> Query:
    level = random.choice([Level.STUDY, Level.STUDY, Level.SERIES, Level.IMAGE])
    terms = random.choice(list(CHARSETS))
    names = sorted({word for one in LEVELS.values() for word in one.split()} | set(OTHERS.split()))
    keys: dict[str, str] = {}
    for keyword in random.sample(names, random.randrange(8)):
        vr = vr_of(tag_of(keyword))
        words = (*ASKED.get(vr, ("",)), *(CHARSETS[terms] if vr in TEXTS else ()))
        keys[keyword] = random.choice(words) if random.random() < 0.2 else ""
    yes = (random.random() < 0.5 for _ in range(3))
    negotiated = Negotiated(
        relational=True, combined_datetime=next(yes), empty_value=next(yes), multiple_value=next(yes)
    )
    asked = query(level, random.choice([Model.STUDY_ROOT, Model.PATIENT_ROOT]), negotiated, terms, **keys)
    if random.random() < 0.1:
        item = encoding.item(CODE.without([tag_of("CodeMeaning")]).encode(implicit=False))
        asked = replace(asked, keys=Attributes({**asked.keys, CODES: Element("SQ", random.choice([b"", item]))}))
    return asked


def outcome(source: QuerySource, asked: Query, *, implicit: bool) -> Sequence[bytes | str]:
    """The answers as they go out, or what was raised."""
    try:
        return [one.encode(implicit=implicit) for one in ask(source, asked)]
    except Exception as error:  # noqa: BLE001 - both ways have to fail alike
        return [type(error).__name__]


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_give_the_same_bytes(stored: Stored, seed: int) -> None:
    random = Random(seed)
    fill(stored.index, instances(random))
    for _ in range(20):
        asked, implicit = question(random), random.random() < 0.3
        expected, found = (outcome(way, asked, implicit=implicit) for way in (stored.long, stored.short))
        if asked.level is not Level.STUDY:  # where the long way goes study by study
            expected, found = sorted(map(repr, expected)), sorted(map(repr, found))
        assert found == expected


def test_what_needs_no_closer_look_is_never_decoded(stored: Stored) -> None:
    attributes = Attributes.of({"StudyInstanceUID": "1.1", "StudyDate": "20240131"}, terms=("ISO_IR 100",))
    patient = Attributes.of({"PatientID": "1", "PatientName": "Müller"}, terms=("ISO_IR 100",))
    fill(stored.index, [[("1", patient), ("1.1", attributes), ("1.1.1", attributes), ("1.1.1.1", attributes)]])
    (answer,) = ask(stored.short, query(terms=("ISO_IR 100",), PatientName="", StudyDate="20240101-"))
    assert isinstance(answer, Encoded)
    (answer,) = ask(stored.short, query(terms=("ISO_IR 192",), PatientName=""))  # in other bytes than are stored
    assert not isinstance(answer, Encoded)
    assert answer.text(tags.PatientName) == "Müller"


def test_an_entity_without_its_unique_key_is_counted_and_left_out(stored: Stored) -> None:
    nothing = Attributes()
    fill(stored.index, [[("1", nothing), ("1.1", nothing), ("1.1.1", nothing), ("1.1.1.1", nothing)]])
    before = metrics.QUERY_ANSWERS_DROPPED.labels("SERIES")._value.get()
    assert ask(stored.short, query(Level.SERIES)) == []
    assert metrics.QUERY_ANSWERS_DROPPED.labels("SERIES")._value.get() == before + 1


def test_bytes_that_are_no_data_set_are_left_to_who_decodes() -> None:
    asked = query(PatientName="")
    template = Template(Projection(asked, TITLE), matching.compile(asked), Availability.ONLINE)
    whole = Attributes.of({"StudyInstanceUID": "1.2"}).encode(implicit=False)
    assert template.over(template.blank, whole, {}) is not None
    for wrong in (whole[:-1], whole + b"\0", whole[:4], b"\0" * 8, whole[:4] + b"xx" + whole[6:]):
        assert template.over(template.blank, wrong, {}) is None


def test_nobody_else_has_a_say_or_the_way_is_long(stored: Stored) -> None:
    class Never:
        def answers(self, request: Request, projection: Projection) -> Iterator[Attributes]:  # noqa: ARG002
            raise AssertionError

    others = DirectSource(stored.long, Never(), TITLE, alone=lambda: False)
    assert ask(others, query()) == ask(stored.long, query())
    patients = DirectSource(stored.long, Never(), TITLE, alone=lambda: True)
    ask(patients, query(Level.PATIENT, Model.PATIENT_ROOT))
    with pytest.raises(AssertionError):
        ask(patients, query())

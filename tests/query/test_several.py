"""Several leading archives: the first that knows a study decides."""

from __future__ import annotations

import pytest

from gateway.dicom import tags
from gateway.dicom.caller import Caller
from gateway.errors import UpstreamError
from gateway.query.effective import EffectiveView
from gateway.query.ports import Request
from gateway.query.several import FirstKnown, Member
from tests.query.asking import ask, patient, query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance


def two(**second: object) -> tuple[MemoryArchive, MemoryArchive, FirstKnown]:
    one = MemoryArchive([instance(1, PatientName="ONE"), instance(2, PatientName="ONE", PatientID="Q2")])
    other = MemoryArchive([instance(2, PatientName="TWO"), instance(3, PatientName="TWO")])
    return one, other, FirstKnown([Member(one), Member(other, **second)])  # type: ignore[arg-type]


def test_the_first_that_knows_a_study_wins() -> None:
    _, _, both = two()
    names = {one.text(tags.StudyInstanceUID): one.text(tags.PatientName) for one in ask(both, query(PatientName=""))}
    assert names == {"1.2.1": "ONE", "1.2.2": "ONE", "1.2.3": "TWO"}
    found = both.studies(["1.2.2", "1.2.3", "1.2.9"], CALLER, [])
    assert {uid: one.text(tags.PatientName) for uid, one in found.items()} == {"1.2.2": "ONE", "1.2.3": "TWO"}


def test_a_later_archive_does_not_answer_for_a_study_that_does_not_match_in_the_first() -> None:
    _, _, both = two()
    assert uids(ask(both, query(PatientName="TWO"))) == ["1.2.3"]
    assert uids(ask(both, query(PatientID="P2"))) == []


def test_an_archive_is_asked_for_its_callers_only() -> None:
    _, other, both = two(callers=frozenset({"OTHER"}))
    assert uids(ask(both, query())) == ["1.2.1", "1.2.2"]
    assert both.studies(["1.2.3"], CALLER, []) == {}
    assert not other.asked
    assert not other.looked_up
    request = Request(query(), Caller("OTHER"))
    assert uids(list(both.find(request))) == ["1.2.1", "1.2.2", "1.2.3"]


def test_an_archive_is_the_authority_for_its_issuer_only() -> None:
    mine = instance(4, IssuerOfPatientID="MINE")
    foreign = instance(5, IssuerOfPatientID="THEIRS")
    archive = MemoryArchive([mine, foreign, instance(6, IssuerOfPatientID="")])
    alone = FirstKnown([Member(archive, issuer="MINE")])
    assert uids(ask(alone, query())) == ["1.2.4", "1.2.6"]
    assert uids(ask(alone, query(IssuerOfPatientID="MINE"))) == ["1.2.4"]
    assert sorted(alone.studies(["1.2.4", "1.2.5", "1.2.6"], CALLER, [])) == ["1.2.4", "1.2.6"]
    before = len(archive.asked)
    assert ask(alone, query(IssuerOfPatientID="THEIRS")) == []
    assert len(archive.asked) == before


@pytest.mark.parametrize("failing", [0, 1])
def test_when_one_fails_the_other_is_asked_and_the_failure_is_told(failing: int) -> None:
    *archives, both = two()
    archives[failing].fail()
    answers = both.find(Request(query(), CALLER))
    got = [next(answers).text(tags.StudyInstanceUID) for _ in range(2)]
    assert got == (["1.2.2", "1.2.3"] if failing == 0 else ["1.2.1", "1.2.2"])
    with pytest.raises(UpstreamError):
        next(answers)


def test_the_view_over_two_and_a_local_archive() -> None:
    _, _, both = two()
    local = MemoryArchive([instance(number) for number in range(1, 5)])
    answers = ask(EffectiveView(local, both), query(PatientName="", PatientID=""))
    assert patient(answers) == [("P1", "ONE"), ("P3", "TWO"), ("P4", "DOE^P4"), ("Q2", "ONE")]

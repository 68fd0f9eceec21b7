"""The effective view, behaviour by behaviour: who is asked, what is answered, what happens when nobody answers."""

import pytest

from gateway.dicom import tags
from gateway.dicom.identifier import Retrieve
from gateway.dicom.models import Level, Model
from gateway.dicom.tags import tag_of
from gateway.errors import Cancelled
from gateway.query import paging
from gateway.query.effective import EffectiveView, Scope
from gateway.query.ports import Request
from tests.query.asking import ask, patient, query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance


def corrected() -> tuple[MemoryArchive, MemoryArchive]:
    """Study 1 is the same in both, 2 was corrected, 3 is only here, 4 only in the leading archive."""
    local = MemoryArchive([instance(1), instance(2), instance(3)])
    leading = MemoryArchive(
        [instance(1), instance(2, PatientID="P20", PatientName="ROE^JANE", AccessionNumber="A20"), instance(4)]
    )
    return local, leading


def view(scope: Scope = Scope.ALL) -> EffectiveView:
    local, leading = corrected()
    return EffectiveView(local, leading, scope=scope)


@pytest.mark.parametrize("model", list(Model))
def test_a_study_is_found_by_its_corrected_attributes_only(model: Model) -> None:
    assert uids(ask(view(), query(model=model, PatientName="ROE*"))) == ["1.2.2"]
    assert uids(ask(view(), query(model=model, PatientID="P2"))) == []
    assert uids(ask(view(), query(model=model, AccessionNumber="A2"))) == []


def test_all_studies_are_the_union_one_answer_each() -> None:
    answers = ask(view(), query(PatientName=""))
    assert [one.text(tags.StudyInstanceUID) for one in answers if one.text(tags.PatientName) == "ROE^JANE"] == ["1.2.2"]
    assert uids(answers) == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]


def test_scope_local_leaves_out_what_is_not_here() -> None:
    assert uids(ask(view(Scope.LOCAL), query())) == ["1.2.1", "1.2.2", "1.2.3"]


def test_availability_says_where_the_instances_are() -> None:
    answers = {one.text(tags.StudyInstanceUID): one.text(tags.InstanceAvailability) for one in ask(view(), query())}
    assert answers == {"1.2.1": "ONLINE", "1.2.2": "ONLINE", "1.2.3": "ONLINE", "1.2.4": "NEARLINE"}


def test_local_attributes_fill_what_the_leading_archive_has_no_value_for() -> None:
    local = MemoryArchive([instance(1, StudyDescription="Head")])
    leading = MemoryArchive([instance(1, StudyDescription="", PatientName="ROE^JANE")])
    (answer,) = ask(EffectiveView(local, leading), query(StudyDescription="Head", PatientName=""))
    assert (answer.text(tags.PatientName), answer.text(tag_of("StudyDescription"))) == ("ROE^JANE", "Head")


def test_modalities_and_counts_are_those_of_the_instances_here() -> None:
    local = MemoryArchive([instance(1), instance(1, SOPInstanceUID="1.2.1.1.2")])
    leading = MemoryArchive([instance(1, Modality="SR", PatientName="ROE^JANE")])
    asked = query(ModalitiesInStudy="CT", NumberOfStudyRelatedInstances="", PatientName="ROE*")
    (answer,) = ask(EffectiveView(local, leading), asked)
    assert answer.text(tags.ModalitiesInStudy) == "CT"
    assert answer.text(tags.NumberOfStudyRelatedInstances) == "2"


def test_a_key_the_leading_archive_ignores_is_matched_here() -> None:
    class Ignorant(MemoryArchive):
        def find(self, request: Request):  # type: ignore[no-untyped-def]
            return super().find(request.asking(query(PatientName="")))

    leading = Ignorant([instance(1), instance(4)])
    assert uids(ask(EffectiveView(MemoryArchive([]), leading), query(PatientName="*P4"))) == ["1.2.4"]


def test_only_local_matches_not_among_the_leading_answers_are_looked_up() -> None:
    local, leading = corrected()
    ask(EffectiveView(local, leading), query(PatientName=""))
    assert leading.looked_up == [("1.2.3",)]


def test_look_ups_are_by_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PATIENCE", 60.0)  # on a busy machine 20 ms do not fill a page
    local = MemoryArchive(instance(number) for number in range(1, 251))
    leading = MemoryArchive([instance(number, PatientID="X") for number in range(1, 251)])
    assert ask(EffectiveView(local, leading), query(PatientID="P*")) == []
    assert len(leading.looked_up) <= 5
    assert max(len(page) for page in leading.looked_up) == 100


@pytest.mark.parametrize("model", [Model.PATIENT_ROOT, Model.PATIENT_STUDY_ONLY])
def test_patients_are_those_of_the_effective_studies(model: Model) -> None:
    answers = ask(view(), query(Level.PATIENT, model, PatientName=""))
    assert patient(answers) == [("P1", "DOE^P1"), ("P20", "ROE^JANE"), ("P3", "DOE^P3"), ("P4", "DOE^P4")]
    assert ask(view(), query(Level.PATIENT, model, PatientID="P2")) == []


def test_a_patient_with_two_studies_is_one_answer_with_their_counts() -> None:
    local = MemoryArchive([instance(1), instance(2, PatientID="P1", PatientName="DOE^P1"), instance(3)])
    leading = MemoryArchive([instance(3, PatientID="P1", PatientName="ROE^JANE")])
    asked = query(
        Level.PATIENT,
        Model.PATIENT_ROOT,
        PatientID="P1",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedInstances="",
    )
    (answer,) = ask(EffectiveView(local, leading), asked)
    assert answer.text(tags.NumberOfPatientRelatedStudies) == "3"
    assert answer.text(tags.NumberOfPatientRelatedInstances) == "3"


@pytest.mark.parametrize("level", [Level.SERIES, Level.IMAGE])
@pytest.mark.parametrize("model", [Model.STUDY_ROOT, Model.PATIENT_ROOT])
def test_lower_levels_carry_the_corrected_attributes(level: Level, model: Model) -> None:
    above = {"PatientID": "P20", "StudyInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.2.1"}
    keys = {name: value for name, value in above.items() if name != "SeriesInstanceUID" or level is Level.IMAGE}
    (answer,) = ask(view(), query(level, model, None, (), PatientName="", AccessionNumber="", **keys))
    assert patient([answer]) == [("P20", "ROE^JANE")]
    assert answer.text(tags.AccessionNumber) == "A20"
    assert answer.text(tags.InstanceAvailability) == "ONLINE"


@pytest.mark.parametrize("level", [Level.SERIES, Level.IMAGE])
def test_lower_levels_are_not_found_under_the_old_patient(level: Level) -> None:
    assert ask(view(), query(level, Model.PATIENT_ROOT, PatientID="P2", StudyInstanceUID="1.2.2")) == []


@pytest.mark.parametrize("level", [Level.SERIES, Level.IMAGE])
def test_lower_levels_are_the_union_as_well(level: Level) -> None:
    local = MemoryArchive([instance(1)])
    more = instance(1, SeriesInstanceUID="1.2.1.2", SOPInstanceUID="1.2.1.2.1", Modality="MR")
    leading = MemoryArchive([instance(1), more])
    answers = ask(EffectiveView(local, leading), query(level, StudyInstanceUID="1.2.1", Modality=""))
    found = {one.text(level.unique_key): one.text(tags.InstanceAvailability) for one in answers}
    suffix = ".1" if level is Level.IMAGE else ""
    assert found == {f"1.2.1.1{suffix}": "ONLINE", f"1.2.1.2{suffix}": "NEARLINE"}
    assert uids(
        ask(EffectiveView(local, leading, scope=Scope.LOCAL), query(level, StudyInstanceUID="1.2.1")), level
    ) == [f"1.2.1.1{suffix}"]


def test_a_relational_series_query_goes_through_the_effective_studies() -> None:
    assert uids(ask(view(), query(Level.SERIES, PatientID="P20")), Level.SERIES) == ["1.2.2.1"]
    assert uids(ask(view(), query(Level.SERIES, PatientID="P2")), Level.SERIES) == []
    assert patient(ask(view(), query(Level.SERIES, SeriesInstanceUID="1.2.2.1", PatientName="", PatientID=""))) == [
        ("P20", "ROE^JANE")
    ]


@pytest.mark.parametrize("after", [0, 1])
def test_a_failing_leading_archive_leaves_the_local_answers(after: int) -> None:
    local, leading = corrected()
    leading.fail(after=after)
    request = Request(query(PatientName=""), CALLER)
    answers = list(EffectiveView(local, leading).find(request))
    assert uids(answers) == ["1.2.1", "1.2.2", "1.2.3"]
    assert not all(one.holds() for one in request.evidence)


def test_a_complete_answer_leaves_no_evidence_against_it() -> None:
    request = Request(query(PatientName=""), CALLER)
    list(view().find(request))
    assert all(one.holds() for one in request.evidence)


def test_a_cancelled_query_does_not_end_normally() -> None:
    with pytest.raises(Cancelled):
        list(view().find(Request(query(), CALLER, cancelled=lambda: True)))


def test_without_a_leading_archive_the_view_is_the_local_archive() -> None:
    local, _ = corrected()
    assert uids(ask(EffectiveView(local, None), query(PatientName="DOE*"))) == ["1.2.1", "1.2.2", "1.2.3"]


def test_what_the_leading_archive_knows_is_there_for_the_splice() -> None:
    known = view().studies(["1.2.2", "1.2.3", "1.2.2"], CALLER)
    assert {uid: one.text(tags.PatientName) for uid, one in known.items()} == {"1.2.2": "ROE^JANE"}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({Level.STUDY: ("1.2.1", "1.2.9")}, {"1.2.1": "DOE^P1", "1.2.9": None}),
        ({Level.PATIENT: ("P20",)}, {"1.2.2": "ROE^JANE"}),
        ({Level.PATIENT: ("P2",)}, {}),
        ({Level.PATIENT: ("P20",), Level.STUDY: ("1.2.2",)}, {"1.2.2": "ROE^JANE"}),
        ({Level.PATIENT: ("P2",), Level.STUDY: ("1.2.2",)}, {}),
        ({Level.PATIENT: ("P4", "P3")}, {"1.2.4": "DOE^P4", "1.2.3": None}),
        ({Level.SERIES: ("1.2.2.1",)}, {"1.2.2": "ROE^JANE"}),
        ({Level.SERIES: ("1.2.2.1",), Level.IMAGE: ("1.2.2.1.1",)}, {"1.2.2": "ROE^JANE"}),
        ({Level.IMAGE: ("1.2.1.1.1", "1.2.3.1.1")}, {"1.2.1": "DOE^P1", "1.2.3": None}),
    ],
)
def test_a_retrieve_resolves_through_the_view(
    named: dict[Level, tuple[str, ...]], expected: dict[str, str | None]
) -> None:
    resolved = view().resolve(Retrieve(Model.PATIENT_ROOT, max(named), named), CALLER)
    assert {uid: one and one.text(tags.PatientName) for uid, one in resolved.items()} == expected


def test_one_failure_a_query_is_enough() -> None:
    local = MemoryArchive(instance(number) for number in range(1, 301))
    leading = MemoryArchive([])
    leading.fail()
    assert len(ask(EffectiveView(local, leading), query(PatientName=""))) == 300
    assert len(leading.asked) + len(leading.looked_up) == 1

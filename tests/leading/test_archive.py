"""A leading archive over associations: batches, archives that do not understand lists, reuse, failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway import IMPLEMENTATION_CLASS_UID, metrics
from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.models import LEADING_ATTRIBUTES, Level
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.leading.archive import LeadingArchive, Options
from gateway.query.ports import Request
from tests.leading.doubles import Lists, Remote
from tests.query.asking import ask, query, uids
from tests.query.doubles import CALLER, MemoryArchive, instance
from tests.support.waiting import wait_until


@contextmanager
def leading(
    remote: Remote, options: Options | None = None, clock: list[float] | None = None
) -> Iterator[LeadingArchive]:
    now = clock or [0.0]
    archive = LeadingArchive("QRSCP", remote.connect, options or Options(), lambda: now[0])
    try:
        yield archive
    finally:
        archive.close()


def studies(count: int) -> MemoryArchive:
    return MemoryArchive(instance(number) for number in range(1, count + 1))


def wanted(count: int) -> list[str]:
    return [f"1.2.{number}" for number in range(1, count + 1)]


def test_a_page_of_a_hundred_studies_is_one_question() -> None:
    remote = Remote(studies(100))
    with leading(remote) as archive:
        assert sorted(archive.studies(wanted(100), CALLER)) == sorted(wanted(100))
    assert len(remote.questions) == 1


@pytest.mark.parametrize("lists", list(Lists))
@pytest.mark.parametrize("known", [0, 1, 2, 7])
@pytest.mark.parametrize("first_query", [True, False], ids=["with a witness", "without a witness"])
def test_every_habit_gives_the_same_answer(lists: Lists, known: int, first_query: bool) -> None:
    remote = Remote(MemoryArchive([*studies(known).instances, instance(77)]), lists)
    asked = [f"1.2.{number}" for number in range(1, 11)]
    with leading(remote) as archive:
        if first_query:
            ask(archive, query(PatientID="P77"))
        found = archive.studies(asked, CALLER)
        again = archive.studies(asked[::-1], CALLER)
    assert sorted(found) == sorted(again) == sorted(wanted(known))


@pytest.mark.parametrize("lists", [habit for habit in Lists if habit is not Lists.UNDERSTOOD])
def test_lists_are_not_tried_again_with_an_archive_that_does_not_understand_them(lists: Lists) -> None:
    remote = Remote(studies(6), lists)
    with leading(remote) as archive:
        archive.studies(wanted(5), CALLER)
        archive.studies(wanted(5), CALLER)
    assert sum(len(one) > 1 for one in remote.questions) == 1


def test_a_list_that_finds_nothing_is_believed_once_lists_are_proven() -> None:
    remote = Remote(studies(2))
    with leading(remote) as archive:
        archive.studies(wanted(2), CALLER)
        assert archive.studies(["1.2.8", "1.2.9"], CALLER) == {}
    assert len(remote.questions) == 2


def test_out_of_resources_is_a_failure_and_not_a_refusal_of_lists() -> None:
    remote = Remote(studies(2))
    remote.archive.failing = UpstreamError("A700", UpstreamKind.STATUS, upstream_status=0xA700)
    with leading(remote) as archive, pytest.raises(UpstreamError):
        archive.studies(wanted(2), CALLER)
    assert len(remote.questions) == 1


def test_one_failure_among_single_questions_is_the_failure_of_all() -> None:
    remote = Remote(studies(5), Lists.REFUSED)
    with leading(remote) as archive:
        archive.studies(wanted(5), CALLER)
        remote.archive.fail(UpstreamKind.TIMEOUT)
        with pytest.raises(UpstreamError):
            archive.studies(wanted(5), CALLER)


def test_a_look_up_asks_for_all_patient_and_study_attributes_and_keeps_values_only() -> None:
    remote = Remote(studies(1))
    with leading(remote) as archive:
        found = archive.studies(["1.2.1"], CALLER)["1.2.1"]
    assert set(remote.identifiers[0]) >= LEADING_ATTRIBUTES
    assert found.text(tags.PatientName) == "DOE^P1"
    assert all(element.value for element in found.values())


def test_an_association_is_used_again() -> None:
    remote = Remote(studies(3))
    with leading(remote) as archive:
        for _ in range(5):
            ask(archive, query())
        assert (remote.opened, remote.released) == (1, 0)
    assert remote.released == 1


def test_an_unused_association_is_released_soon() -> None:
    remote = Remote(studies(1))
    with leading(remote, Options(idle=0.05), clock=[0.0]) as archive:
        ask(archive, query())
        assert remote.released == 0
    with_clock = Remote(studies(1))
    archive = LeadingArchive("QRSCP", with_clock.connect, Options(idle=0.05))
    ask(archive, query())
    wait_until(lambda: with_clock.released == 1, "the association to be released")
    archive.close()


def test_a_lost_association_is_replaced_without_a_word() -> None:
    remote = Remote(studies(1))
    with leading(remote) as archive:
        ask(archive, query())
        remote.lost = True
        assert uids(ask(archive, query())) == ["1.2.1"]
    assert remote.opened == 2


def test_a_failure_in_the_middle_is_not_tried_again() -> None:
    remote = Remote(studies(3))
    with leading(remote) as archive:
        ask(archive, query())
        remote.archive.fail(UpstreamKind.ABORTED, after=2)
        with pytest.raises(UpstreamError):
            ask(archive, query())
    assert remote.opened == 1


def test_the_circuit_opens_and_closes_again() -> None:
    remote, clock = Remote(studies(1)), [0.0]
    remote.down = UpstreamKind.UNREACHABLE
    with leading(remote, Options(failures=3, retry_after=10.0), clock) as archive:
        for kind in [UpstreamKind.UNREACHABLE] * 3 + [UpstreamKind.CIRCUIT_OPEN] * 2:
            with pytest.raises(UpstreamError) as failed:
                ask(archive, query())
            assert failed.value.kind is kind
        assert metrics.LEADING_CIRCUIT.labels("QRSCP")._value.get() == 2
        remote.down = None
        clock[0] = 10.0
        assert uids(ask(archive, query())) == ["1.2.1"]
        assert metrics.LEADING_CIRCUIT.labels("QRSCP")._value.get() == 0


def test_an_archive_that_comes_back_is_noticed_though_nobody_asks() -> None:
    remote = Remote(studies(1))
    remote.down = UpstreamKind.UNREACHABLE
    archive = LeadingArchive("QRSCP", remote.connect, Options(failures=1, retry_after=0.05))
    try:
        with pytest.raises(UpstreamError):
            ask(archive, query())
        wait_until(lambda: remote.refused >= 3, "it is asked again and again while it is down")
        assert not archive.standing[0]
        remote.down = None
        wait_until(lambda: archive.standing[0], "it is noticed")
        assert [*remote.questions] == [(IMPLEMENTATION_CLASS_UID,)]
        assert uids(ask(archive, query())) == ["1.2.1"]
    finally:
        archive.close()
    assert not [one for one in threading.enumerate() if one.name == "probe"]


def test_a_failure_status_does_not_open_the_circuit() -> None:
    remote = Remote(studies(1))
    remote.archive.failing = UpstreamError("C001", UpstreamKind.STATUS, upstream_status=0xC001)
    with leading(remote, Options(failures=1)) as archive:
        for _ in range(3):
            with pytest.raises(UpstreamError, match="C001"):
                ask(archive, query())


def test_a_cancelled_query_is_neither_answer_nor_failure() -> None:
    remote = Remote(studies(3))
    with leading(remote, Options(failures=1)) as archive:
        with pytest.raises(Cancelled):
            list(archive.find(Request(query(), CALLER, cancelled=lambda: True)))
        assert len(ask(archive, query())) == 3


def test_answers_are_in_one_character_set_and_have_only_what_was_asked_for() -> None:
    remote = Remote(
        MemoryArchive([instance(1).overlay(Attributes.of({"PatientName": "Müller"}, terms=("ISO_IR 100",)))])
    )
    with leading(remote) as archive:
        (answer,) = ask(archive, query(PatientName=""))
    assert remote.identifiers[0].terms == ("ISO_IR 192",)
    assert answer.terms == ("ISO_IR 192",)
    assert answer.text(tags.PatientName) == "Müller"
    assert set(answer) == {tags.SpecificCharacterSet, tags.PatientName, tags.StudyInstanceUID}


def test_no_character_set_is_asked_for_where_an_archive_would_match_on_it() -> None:
    remote = Remote(studies(1))
    with leading(remote, Options(charset="")) as archive:
        ask(archive, query())
        ask(archive, query(PatientName="Müller", terms=("ISO_IR 100",)))
    assert [one.terms for one in remote.identifiers] == [(), ("ISO_IR 192",)]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_an_answer_without_its_unique_key_is_dropped_and_counted(level: Level) -> None:
    nameless = instance(2, StudyInstanceUID="", SeriesInstanceUID="", SOPInstanceUID="")
    remote = Remote(MemoryArchive([instance(1), nameless]))
    counted = metrics.QUERY_ANSWERS_DROPPED.labels(level.name)._value
    before = counted.get()
    with leading(remote) as archive:
        assert len(ask(archive, query(level))) == 1
    assert counted.get() - before == 1


def test_too_many_questions_of_ours_are_no_failure_of_the_archive() -> None:
    remote = Remote(studies(3))
    with leading(remote, Options(associations=1, patience=0.01, failures=1)) as archive:
        first = archive.find(Request(query(), CALLER))
        next(first)
        with pytest.raises(UpstreamError) as busy:
            ask(archive, query())
        assert busy.value.kind is UpstreamKind.BUSY
        assert len(list(first)) == 2
        assert len(ask(archive, query())) == 3


def test_an_archive_that_answers_without_end_is_hung_up_on_and_has_failed() -> None:
    remote = Remote(studies(6))
    with leading(remote, Options(max_answers=5, failures=2)) as archive:
        for _ in range(2):
            answers = archive.find(Request(query(), CALLER))
            with pytest.raises(UpstreamError, match="more than 5 answers") as failed:
                list(answers)
            assert failed.value.kind is UpstreamKind.ENDLESS
        assert remote.aborted == 2
        with pytest.raises(UpstreamError, match="circuit open"):
            ask(archive, query())


def test_as_many_answers_as_are_allowed_are_answers() -> None:
    remote = Remote(studies(5))
    with leading(remote, Options(max_answers=5)) as archive:
        assert len(ask(archive, query())) == 5
    assert remote.aborted == 0

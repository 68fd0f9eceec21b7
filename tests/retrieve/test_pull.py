"""Pull-through from a scripted leading archive: sharing, failures, cancel, C-STOREs that come from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.dimse.ports import Cancelled as IsCancelled
from gateway.dimse.ports import Timeouts
from gateway.dimse.requestor import RetrieveProgress, connect
from gateway.errors import Cancelled
from gateway.metrics import REGISTRY
from gateway.retrieve.arrival import Unexpected
from gateway.retrieve.destinations import Destination
from gateway.retrieve.survey import Completeness
from gateway.retrieve.upstream import Via
from tests.retrieve.leading import Leading, stored_of
from tests.retrieve.leading import leading_archive as serving
from tests.retrieve.world import AET, MOVE, Asked, Destined, Settings, World, destination, gateway, peer
from tests.support.dicomfiles import instance, study, uid
from tests.support.ports import closed_port, free_port
from tests.support.waiting import wait_until

REMOTE = [*study("far", 4, PatientID="NEW"), instance("far", "2", 1, "MR", PatientID="NEW")]
UIDS = {str(one.SOPInstanceUID) for one in REMOTE}


@contextmanager
def leading_archive(folder: Path) -> Iterator[tuple[Leading, Asked]]:
    script = Leading(stored_of(folder / "far", REMOTE))
    with serving(script) as asked:
        yield script, asked


def identifier(**more: str) -> Attributes:
    return Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid("far"), **more})


def move(world: World, to: str = "VIEWER", cancelled: IsCancelled = lambda: False) -> list[RetrieveProgress]:
    with world.association(MOVE) as association:
        return list(association.move(MOVE, identifier(), to, cancelled))


def is_empty(spool: Path) -> bool:
    return not spool.is_dir() or not list(spool.glob("[!.]*"))


def pulled(outcome: str) -> float:
    return REGISTRY.get_sample_value("dicom_gateway_pulled_instances_total", {"outcome": outcome}) or 0.0


def test_an_archive_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], Asked(replace(asked.peer, timeouts=Timeouts(dimse=1.5)))) as world,
    ):
        script.hold, script.is_mute = 2, True
        responses = move(world)
        assert (responses[-1].completed, responses[-1].failed) == (2, 3)
        assert responses[0].status == Status.PENDING  # the viewer was kept up to date meanwhile


def test_instances_are_sent_on_while_the_rest_is_still_coming(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
        world.association(MOVE) as association,
    ):
        script.hold = 2
        responses = association.move(MOVE, identifier(), "VIEWER")
        assert next(responses).status == Status.PENDING
        assert script.held.wait(10)
        wait_until(lambda: len(receiver.requests) == 2, "two instances were sent on")
        told = next(responses)
        while (told.completed, told.remaining) != (2, 3):
            told = next(responses)  # pending responses go on while nothing comes
        script.go_on.set()
        assert [*responses][-1].completed == 5
        assert {str(one.PatientName) for one in receiver.instances().values()} == {"New^Name"}
        assert is_empty(world.spool)


def test_pending_goes_on_while_the_leading_archive_is_slow_to_say_what_it_has(tmp_path: Path) -> None:
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(Destined(tmp_path / "out")) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
        world.association(MOVE) as association,
    ):
        script.is_slow = True
        responses = association.move(MOVE, identifier(), "VIEWER")
        told = next(responses)
        assert (told.status, told.remaining, told.completed) == (Status.PENDING, 1, 0)
        script.go_on.set()
        assert [*responses][-1].completed == 5


def test_two_viewers_cause_one_upstream_retrieve(tmp_path: Path) -> None:
    receivers = [Destined(tmp_path / "one"), Destined(tmp_path / "two")]
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receivers[0], "ONE") as one,
        destination(receivers[1], "TWO") as two,
        gateway(tmp_path, [], [Destination(one), Destination(two)], asked) as world,
    ):
        script.hold = 2
        finals: dict[str, RetrieveProgress] = {}
        threads = [
            threading.Thread(target=lambda to: finals.update({to: move(world, to)[-1]}), args=(to,))
            for to in ("ONE", "TWO")
        ]
        threads[0].start()
        assert script.held.wait(10)
        threads[1].start()
        wait_until(lambda: len(receivers[1].requests) == 2, "the second viewer gets what is here already")
        script.go_on.set()
        for thread in threads:
            thread.join(20)
        assert {to: (final.status, final.completed) for to, final in finals.items()} == {"ONE": (0, 5), "TWO": (0, 5)}
        assert len([one for one in script.retrieves if one.level is Level.SERIES]) == 1
        assert len(script.retrieves) == 1
        assert [receiver.instances().keys() for receiver in receivers] == [UIDS, UIDS]
        wait_until(lambda: is_empty(world.spool), "the spool is empty")


def test_one_viewer_may_leave_and_the_other_still_gets_all(tmp_path: Path) -> None:
    receivers = [Destined(tmp_path / "one"), Destined(tmp_path / "two")]
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receivers[0], "ONE") as one,
        destination(receivers[1], "TWO") as two,
        gateway(tmp_path, [], [Destination(one), Destination(two)], asked) as world,
    ):
        script.hold = 2
        leave, final = threading.Event(), []

        def leaving() -> None:
            with pytest.raises(Cancelled):
                move(world, "ONE", leave.is_set)

        first = threading.Thread(target=leaving)
        second = threading.Thread(target=lambda: final.append(move(world, "TWO")[-1]))
        first.start()
        assert script.held.wait(10)
        second.start()
        wait_until(lambda: len(receivers[1].requests) == 2, "the second viewer follows")
        leave.set()
        first.join(20)
        script.go_on.set()
        second.join(20)
        assert (final[0].status, final[0].completed) == (Status.SUCCESS, 5)
        assert len(script.retrieves) == 1
        assert not script.was_cancelled.is_set()


def test_when_everybody_has_left_the_upstream_retrieve_is_cancelled(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
    ):
        script.hold = 2
        with pytest.raises(Cancelled):
            move(world, cancelled=script.held.is_set)
        assert script.was_cancelled.wait(10)
        wait_until(lambda: is_empty(world.spool), "the spool is empty")


def test_an_archive_that_dies_in_the_middle_fails_the_rest_and_they_are_listed(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
    ):
        script.dies = 2
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 2, 3)
        assert set(last.failed_uids) | receiver.instances().keys() == UIDS


@pytest.mark.parametrize("status", [Status.OUT_OF_RESOURCES, Status.UNABLE_TO_PERFORM_SUBOPERATIONS])
def test_an_archive_that_refuses_fails_what_only_it_has(tmp_path: Path, status: int) -> None:
    receiver = Destined(tmp_path / "out")
    here = [instance("far", "9", 1, PatientID="OLD")]
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, here, [Destination(viewer)], asked) as world,
    ):
        script.fails = status
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 1, 5)
        assert set(last.failed_uids) == UIDS


def test_nobody_can_tell_what_there_is_is_a701(tmp_path: Path) -> None:
    with (
        destination(Destined(tmp_path / "out")) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], Asked(peer("leading", closed_port(), "LEADING"))) as world,
    ):
        last = move(world)[-1]
        assert last.status == Status.UNABLE_TO_CALCULATE_MATCHES


def test_with_the_leading_archive_down_what_is_here_is_sent(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        destination(receiver) as viewer,
        gateway(tmp_path, REMOTE, [Destination(viewer)], Asked(peer("leading", closed_port(), "LEADING"))) as world,
    ):
        last = move(world)[-1]
        assert (last.status, last.completed) == (Status.SUCCESS, 5)


@pytest.mark.parametrize(
    ("completeness", "expected"), [(Completeness.OFF, 3), (Completeness.COUNT, 5), (Completeness.INSTANCES, 5)]
)
def test_completeness_decides_whether_a_study_that_is_here_is_compared(
    tmp_path: Path, completeness: Completeness, expected: int
) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, REMOTE[:3], [Destination(viewer)], asked, Settings(completeness=completeness)) as world,
    ):
        last = move(world)[-1]
        assert (last.status, last.completed) == (Status.SUCCESS, expected)
        levels = {one.level for one in script.retrieves}
        assert levels == (set() if completeness is Completeness.OFF else {Level.SERIES, Level.IMAGE})


def test_count_takes_equal_counts_for_complete_and_instances_does_not(tmp_path: Path) -> None:
    other = [*REMOTE[:3], instance("far", "1", 99, PatientID="NEW"), REMOTE[4]]
    for completeness, expected in ((Completeness.COUNT, 5), (Completeness.INSTANCES, 6)):
        folder = tmp_path / completeness.value
        with (
            leading_archive(folder) as (_, asked),
            destination(Destined(folder / "out")) as viewer,
            gateway(folder, other, [Destination(viewer)], asked, Settings(completeness=completeness)) as world,
        ):
            assert move(world)[-1].completed == expected


@pytest.mark.parametrize("calling", ["LEADING", "MASQUERADE"])
def test_instances_of_a_move_to_ourselves_find_their_way_without_originator(tmp_path: Path, calling: str) -> None:
    receiver, port = Destined(tmp_path / "out"), free_port()
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked, Settings(via=Via.MOVE), port) as world,
    ):
        script.move_port, script.calling = port, calling
        last = move(world)[-1]
        assert (last.status, last.completed) == (Status.SUCCESS, 5)
        assert receiver.instances().keys() == UIDS


@pytest.mark.parametrize("unexpected", list(Unexpected))
def test_an_instance_that_no_move_asked_for_is_stored_or_refused(tmp_path: Path, unexpected: Unexpected) -> None:
    before = pulled("unexpected")
    with (
        leading_archive(tmp_path) as (script, asked),
        gateway(tmp_path, [], [], asked, Settings(unexpected=unexpected)) as world,
    ):
        one = script.stored[0]
        pair = (one.sop_class_uid, one.transfer_syntax_uid)
        with connect(peer(AET, world.port), "LEADING", [pair]) as association:
            status = association.store(Outgoing.untouched(one))
        stored = world.archive.instances(sop_uids=[one.sop_instance_uid])
    assert pulled("unexpected") == before + 1
    if unexpected is Unexpected.STORE:
        assert (status, len(stored)) == (Status.SUCCESS, 1)
    else:
        assert (status, stored) == (Status.NOT_AUTHORISED, [])


def test_what_was_received_and_not_passed_on_is_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = pulled("not_forwarded")
    receiver = Destined(tmp_path / "out", lambda number: Status.OUT_OF_RESOURCES if number == 1 else None)
    with (
        leading_archive(tmp_path) as (_, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
    ):
        last = move(world)[-1]
        assert (last.completed, last.failed) == (4, 1)
    assert pulled("not_forwarded") == before + 1
    assert any(record.levelname == "ERROR" and "A700H" in str(record.msg) for record in caplog.records)


def test_a_spool_that_cannot_be_written_fails_the_pull_and_nobody_waits(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [instance("far", "9", 1)], [Destination(viewer)], asked) as world,
        world.association(MOVE) as association,
    ):
        script.hold = 1
        responses = association.move(MOVE, identifier(), "VIEWER")
        assert next(responses).status == Status.PENDING
        assert script.held.wait(10)
        [folder] = world.spool.iterdir()
        (folder / "log").rename(folder / "gone")
        (folder / "log").mkdir()
        script.go_on.set()
        last = [*responses][-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 2, 4)


def test_a_destination_that_is_down_ends_the_pull(tmp_path: Path) -> None:
    with (
        leading_archive(tmp_path) as (script, asked),
        gateway(tmp_path, [], [Destination(peer("viewer", closed_port(), "VIEWER"))], asked) as world,
    ):
        script.hold = 2
        last = move(world)[-1]
        assert (last.status, last.failed) == (Status.UNABLE_TO_PERFORM_SUBOPERATIONS, 5)
        assert script.was_cancelled.wait(10)
        wait_until(lambda: is_empty(world.spool), "the spool is empty")


def test_classes_that_arrive_in_turns_need_no_association_each(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with (
        leading_archive(tmp_path) as (script, asked),
        destination(receiver) as viewer,
        gateway(tmp_path, [], [Destination(viewer)], asked) as world,
    ):
        ct, mr = script.stored[:-1], script.stored[-1]
        script.stored = [ct[0], mr, *ct[1:]]
        before = associations()
        assert move(world)[-1].completed == 5
        # the viewer's own, one to list each of: study, series, instances of two series; one to get; two to send
        assert associations() - before <= 8


def associations() -> float:
    return REGISTRY.get_sample_value("dicom_gateway_associations_accepted_total", {"peer": "unknown"}) or 0.0

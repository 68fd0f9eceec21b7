"""C-MOVE over real sockets: what arrives at a destination, and what the requestor is told."""

# ruff: noqa: ARG001, ARG005 - a script takes the number of the request

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import UID

from gateway.coercion.changes import Changes
from gateway.coercion.patch import Patch
from gateway.coercion.splice import splice
from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.dimse.ports import Timeouts
from gateway.dimse.requestor import RetrieveProgress
from gateway.dimse.wire import Lost
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.retrieve.destinations import Destination
from gateway.retrieve.limits import Limits
from tests.retrieve.world import MOVE, Destined, Settings, World, destination, gateway, peer
from tests.support.dicomfiles import instance, study, uid
from tests.support.ports import closed_port
from tests.support.waiting import wait_until

TEN = study("ten", 10)


def identifier(name: str = "ten", **more: str | list[str]) -> Attributes:
    return Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid(name), **more})


def move(world: World, to: str = "VIEWER", asked: Attributes | None = None) -> list[RetrieveProgress]:
    with world.association(MOVE) as association:
        return list(association.move(MOVE, asked or identifier(), to))


def final(world: World, to: str = "VIEWER", asked: Attributes | None = None) -> tuple[int, int, int, int]:
    last = move(world, to, asked)[-1]
    return last.status, last.completed, last.failed, last.warning


def of_class(sop_class_uid: str, dataset: Dataset) -> Dataset:
    dataset.SOPClassUID = UID(sop_class_uid)
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    return dataset


def test_every_instance_arrives_with_its_originator(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        assert final(world) == (Status.SUCCESS, 10, 0, 0)
        arrived = receiver.instances()
        assert arrived.keys() == {one.SOPInstanceUID for one in TEN}
        assert all(arrived[one.SOPInstanceUID].PixelData == one.PixelData for one in TEN)
        assert {request.originator.aet for request in receiver.requests if request.originator} == {"VIEWER"}


def test_nothing_found_is_success_with_zero_counters(tmp_path: Path) -> None:
    with destination(Destined(tmp_path / "out")) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        assert final(world, asked=identifier("no such study")) == (Status.SUCCESS, 0, 0, 0)


def test_an_unknown_destination_is_a801(tmp_path: Path) -> None:
    with gateway(tmp_path, TEN) as world:
        assert final(world, "NOBODY") == (Status.MOVE_DESTINATION_UNKNOWN, 0, 0, 0)


def test_a_destination_that_is_not_for_this_caller_is_refused(tmp_path: Path) -> None:
    settings = Settings(permitted={"": frozenset({"another"})})
    with (
        destination(Destined(tmp_path / "out")) as viewer,
        gateway(tmp_path, TEN, [Destination(viewer)], settings=settings) as world,
    ):
        assert final(world) == (Status.NOT_AUTHORISED, 0, 0, 0)


def test_an_identifier_without_its_unique_key_is_a900(tmp_path: Path) -> None:
    with destination(Destined(tmp_path / "out")) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        asked = Attributes.of({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": uid("ten")})
        assert final(world, asked=asked)[0] == Status.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS


def test_a_list_of_instances_is_any_of_them(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    wanted = [str(one.SOPInstanceUID) for one in TEN[2:5]]
    asked = identifier(QueryRetrieveLevel="IMAGE", SeriesInstanceUID=uid("ten", "1"), SOPInstanceUID=wanted)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        assert final(world, asked=asked) == (Status.SUCCESS, 3, 0, 0)
        assert receiver.instances().keys() == set(wanted)


def test_a_destination_that_is_down_is_a702_with_everything_failed(tmp_path: Path) -> None:
    down = Destination(peer("viewer", closed_port(), "VIEWER"))
    with gateway(tmp_path, TEN, [down]) as world:
        last = move(world)[-1]
        assert (last.status, last.failed) == (Status.UNABLE_TO_PERFORM_SUBOPERATIONS, 10)
        assert set(last.failed_uids) == {one.SOPInstanceUID for one in TEN}
        assert last.remaining is None


def test_a_destination_that_rejects_us_is_a702(tmp_path: Path) -> None:
    with destination(Destined(tmp_path / "out"), "SOMEBODY") as other:
        mistaken = Destination(replace(other, aet="VIEWER"))
        with gateway(tmp_path, TEN, [mistaken]) as world:
            assert final(world) == (Status.UNABLE_TO_PERFORM_SUBOPERATIONS, 0, 10, 0)


def test_a_destination_that_never_answers_an_association_request_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hasty = Timeouts(connect=1, acse=1, dimse=1, network=1)
        half_open = Destination(peer("viewer", silent.getsockname()[1], "VIEWER", hasty))
        with gateway(tmp_path, TEN, [half_open]) as world:
            assert final(world) == (Status.UNABLE_TO_PERFORM_SUBOPERATIONS, 0, 10, 0)


def test_a_failed_instance_fails_alone_and_is_listed(tmp_path: Path) -> None:
    def third_fails(number: int) -> int | None:
        return Status.OUT_OF_RESOURCES if number == 2 else None

    receiver = Destined(tmp_path / "out", third_fails)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 9, 1)
        assert last.failed_uids == (receiver.requests[2].sop_instance_uid,)


def test_warnings_are_counted_and_make_b000_without_a_list(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out", lambda number: 0xB006)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        last = move(world)[-1]
        assert (last.status, last.warning) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 10)
        assert last.failed_uids == ()


def test_missing_and_broken_files_fail_alone(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        stored = world.archive.instances(study_uids=[uid("ten")])
        Path(stored[0].path).unlink()
        Path(stored[1].path).write_bytes(b"no DICOM file")
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 8, 2)
        assert set(last.failed_uids) == {one.sop_instance_uid for one in stored[:2]}


def test_what_is_reconciled_meanwhile_is_sent_from_its_new_file(tmp_path: Path) -> None:
    worlds: list[World] = []

    def reconciling(number: int) -> None:
        if number == 2:
            changes = Patch(Changes(Attributes.of({"StudyDescription": "corrected"})))
            assert worlds[0].archive.exchange(uid("ten"), lambda one: splice(one, changes)) == 10
            worlds[0].archive.sync()  # publishes, and removes the old files

    receiver = Destined(tmp_path / "out", reconciling)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        worlds.append(world)
        before = [one.path for one in world.archive.instances(study_uids=[uid("ten")])]
        assert final(world) == (Status.SUCCESS, 10, 0, 0)
        assert not any(Path(path).exists() for path in before)
    found = [one.get("StudyDescription") for one in receiver.instances().values()]
    assert len(found) == 10
    assert found.count("corrected") >= 6, "all but what was sent or on its way"


def test_a_destination_that_dies_once_gets_the_rest_on_a_new_association(tmp_path: Path) -> None:
    def dies_at_fourth(number: int) -> int | None:
        if number == 3:
            raise Lost("the destination dies", UpstreamKind.ABORTED)
        return None

    receiver = Destined(tmp_path / "out", dies_at_fourth)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        assert final(world) == (Status.SUCCESS, 10, 0, 0)
        assert len(receiver.requests) == 11
        assert receiver.instances().keys() == {one.SOPInstanceUID for one in TEN}


def test_a_destination_that_keeps_dying_fails_the_rest(tmp_path: Path) -> None:
    def dies_from_fourth_on(number: int) -> int | None:
        if number >= 3:
            raise Lost("the destination dies", UpstreamKind.ABORTED)
        return None

    receiver = Destined(tmp_path / "out", dies_from_fourth_on)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 3, 7)
        assert len(last.failed_uids) == 7
        assert len(receiver.requests) == 5


def test_a_destination_that_stalls_is_given_up_and_pending_goes_on_meanwhile(tmp_path: Path) -> None:
    ended = threading.Event()

    def stalls(number: int) -> int | None:
        ended.wait(20)
        return None

    hasty = Timeouts(connect=2, acse=2, dimse=1.5, network=2)
    with (
        destination(Destined(tmp_path / "out", stalls), timeouts=hasty) as viewer,
        gateway(tmp_path, TEN, [Destination(viewer)]) as world,
    ):
        responses = move(world)
        ended.set()
        assert responses[-1].status == Status.UNABLE_TO_PERFORM_SUBOPERATIONS
        pending = [one for one in responses if one.status == Status.PENDING]
        assert pending
        assert {one.remaining for one in pending} == {10, 9} or {one.remaining for one in pending} == {10}


def test_cancel_stops_within_one_instance(tmp_path: Path) -> None:
    second, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> int | None:
        if number == 1:
            second.set()
            go_on.wait(20)
        return None

    receiver = Destined(tmp_path / "out", slow)
    with (
        destination(receiver) as viewer,
        gateway(tmp_path, TEN, [Destination(viewer)]) as world,
        world.association(MOVE) as association,
    ):
        cancelled = threading.Event()

        def cancel_then_go_on() -> None:
            second.wait(20)
            cancelled.set()
            go_on.wait(1.0)  # the requestor looks twice a second
            go_on.set()

        threading.Thread(target=cancel_then_go_on).start()
        with pytest.raises(Cancelled):
            list(association.move(MOVE, identifier(), "VIEWER", cancelled.is_set))
        assert len(receiver.requests) == 2


def test_a_stalled_destination_does_not_hold_a_cancelled_move(tmp_path: Path) -> None:
    first, never = threading.Event(), threading.Event()

    def stalls(number: int) -> int | None:
        first.set()
        never.wait(30)
        return None

    with (
        destination(Destined(tmp_path / "out", stalls), timeouts=Timeouts(dimse=60)) as viewer,
        gateway(tmp_path, TEN, [Destination(viewer)]) as world,
    ):
        with world.association(MOVE) as association, pytest.raises(Cancelled):
            list(association.move(MOVE, identifier(), "VIEWER", first.is_set))
        wait_until(lambda: world.server.active == 0, "the gateway's association has ended")
        never.set()


def test_a_requestor_that_vanishes_ends_the_move(tmp_path: Path) -> None:
    first, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> int | None:
        first.set()
        go_on.wait(20)
        return None

    receiver = Destined(tmp_path / "out", slow)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        association = world.association(MOVE)
        responses = association.move(MOVE, identifier(), "VIEWER")

        def vanish() -> None:
            first.wait(20)
            association.abort()

        thread = threading.Thread(target=vanish)
        thread.start()
        with pytest.raises(UpstreamError):
            list(responses)
        thread.join()
        go_on.set()
        wait_until(lambda: world.server.active == 0, "the gateway's association has ended")
        assert len(receiver.requests) <= 2


def test_several_associations_share_the_work(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def meet(number: int) -> int | None:
        if number < 3:
            together.wait(10)
        return None

    receiver = Destined(tmp_path / "out", meet)
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer, associations=3)]) as world:
        assert final(world) == (Status.SUCCESS, 10, 0, 0)


def test_a_limit_of_associations_holds_over_all_retrieves(tmp_path: Path) -> None:
    here = 0
    most = 0
    lock = threading.Lock()

    def count(number: int) -> int | None:
        nonlocal here, most
        with lock:
            here += 1
            most = max(most, here)
        threading.Event().wait(0.01)
        with lock:
            here -= 1
        return None

    receiver = Destined(tmp_path / "out", count)
    with destination(receiver) as viewer:
        one = Destination(viewer, associations=4, limits=Limits(associations=1))
        with gateway(tmp_path, TEN, [one]) as world:
            outcomes: list[tuple[int, int, int, int]] = []
            threads = [threading.Thread(target=lambda: outcomes.append(final(world))) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert outcomes == [(Status.SUCCESS, 10, 0, 0)] * 3
    assert most == 1


def test_more_classes_than_an_association_has_contexts_for(tmp_path: Path) -> None:
    many = [of_class(f"1.2.840.10008.5.1.4.1.1.9999.{n}", instance("many", "1", n)) for n in range(50)]
    receiver = Destined(tmp_path / "out")
    with destination(receiver) as viewer, gateway(tmp_path, many, [Destination(viewer)]) as world:
        assert final(world, asked=identifier("many")) == (Status.SUCCESS, 50, 0, 0)


def test_a_refused_class_fails_alone(tmp_path: Path) -> None:
    odd = of_class("1.2.3.4", instance("ten", "2", 1))
    receiver = Destined(tmp_path / "out")
    with destination(receiver) as viewer, gateway(tmp_path, [*TEN, odd], [Destination(viewer)]) as world:
        last = move(world)[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 10, 1)
        assert last.failed_uids == (odd.SOPInstanceUID,)

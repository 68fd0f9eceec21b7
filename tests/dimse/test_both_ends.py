"""Our requestor against our acceptor: every service, both ends real."""

# ruff: noqa: ARG001, ARG005 - handlers take what their port says

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.instance import Outgoing
from gateway.dicom.models import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, VERIFICATION
from gateway.dicom.status import Status
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.negotiation import Role
from gateway.dimse.ports import ActionRequest, AfterAction, Cancelled, EventReport, Originator, Verb
from gateway.dimse.requestor import connect
from gateway.dimse.services import Handlers
from gateway.errors import BadInstance, UpstreamError, UpstreamKind
from gateway.errors import Cancelled as CancelledError
from tests.dimse.doubles import (
    CT,
    EXPLICIT,
    IMPLICIT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Finder,
    Folder,
    Shelf,
    gateway,
    instance,
    serving,
    studies,
)
from tests.support.waiting import wait_until

QUERY = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientID": "", "PatientName": ""})


def test_echo_is_answered() -> None:
    with serving(Handlers()) as server, connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)]) as association:
        assert association.echo() == Status.SUCCESS


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("count", [0, 1, 2000])
def test_find_yields_every_answer_in_either_syntax(syntax: str, count: int) -> None:
    finder = Finder(studies(count))
    with (
        serving(Handlers(find=finder)) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_FIND, syntax)]) as association,
    ):
        assert list(association.find(STUDY_ROOT_FIND, QUERY)) == finder.answers
        assert list(association.find(STUDY_ROOT_FIND, QUERY)) == finder.answers


def test_find_closed_early_cancels_and_the_association_is_usable() -> None:
    finder = Finder(studies(20000))
    with (
        serving(Handlers(find=finder)) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association,
    ):
        answers = association.find(STUDY_ROOT_FIND, QUERY)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert finder.closed.wait(5)
        finder.answers = studies(3)
        assert len(list(association.find(STUDY_ROOT_FIND, QUERY))) == 3


def test_find_cancelled_by_the_caller_is_no_answer() -> None:
    finder = Finder(studies(20000))
    seen: list[Attributes] = []
    with (
        serving(Handlers(find=finder)) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association,
    ):
        with pytest.raises(CancelledError):
            seen.extend(association.find(STUDY_ROOT_FIND, QUERY, lambda: len(seen) >= 10))
        assert len(seen) == 10
        assert association.is_open


def test_find_with_a_bad_identifier_raises_its_status() -> None:
    with (
        serving(Handlers(find=Finder([]))) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association,
    ):
        with pytest.raises(UpstreamError) as caught:
            list(association.find(STUDY_ROOT_FIND, Attributes.of({"QueryRetrieveLevel": "NOWHERE"})))
        assert (caught.value.kind, caught.value.upstream_status) == (UpstreamKind.STATUS, 0xA900)


def test_store_arrives_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    folder = Folder(tmp_path / "in")
    outgoing = instance(tmp_path, "1.2.3", 3_000_001, head=b"head")
    with serving(Handlers(store=folder)) as server, connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association:
        assert association.store(outgoing, Originator("MOVER", 7)) == Status.SUCCESS
    sent = b"head" + Path(outgoing.path).read_bytes()[132:]
    assert (tmp_path / "in" / "1.2.3").read_bytes() == sent
    assert folder.requests[0].originator == Originator("MOVER", 7)
    assert folder.requests[0].caller.peer == "me"


@pytest.mark.parametrize("size", [10, 1 << 20, 2_500_001])
def test_what_is_read_ahead_arrives_byte_for_byte(tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    several = [instance(tmp_path, f"1.2.{at}", size + at, head=b"head" * (at % 2)) for at in range(6)]
    following = dict(pairwise(several))
    with (
        serving(Handlers(store=Folder(tmp_path / "in"))) as server,
        connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association,
    ):
        for one in several:
            assert association.store(one, following=lambda one=one: following.get(one)) == Status.SUCCESS  # type: ignore[misc]
    for one in several:
        assert (tmp_path / "in" / one.sop_instance_uid).read_bytes() == one.head + Path(one.path).read_bytes()[132:]


def test_something_else_may_follow_than_was_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first, said, sent = (instance(tmp_path, f"1.2.{at}", 5000 + at) for at in range(3))
    gone = replace(said, path=str(tmp_path / "nowhere"))
    with (
        serving(Handlers(store=Folder(tmp_path / "in"))) as server,
        connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association,
    ):
        assert association.store(first, following=lambda: said) == Status.SUCCESS
        assert association.store(sent, following=lambda: gone) == Status.SUCCESS
        with pytest.raises(BadInstance):
            association.store(gone)
        assert association.store(said, following=lambda: None) == Status.SUCCESS
    for one in (first, said, sent):
        assert (tmp_path / "in" / one.sop_instance_uid).read_bytes() == Path(one.path).read_bytes()[132:]


def test_what_was_read_ahead_needs_its_file_no_more(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first, second = instance(tmp_path, "1.2.1", 5000), instance(tmp_path, "1.2.2", 5000)
    data = Path(second.path).read_bytes()[132:]
    with (
        serving(Handlers(store=Folder(tmp_path / "in"))) as server,
        connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association,
    ):
        assert association.store(first, following=lambda: second) == Status.SUCCESS
        Path(second.path).unlink()
        assert association.store(second) == Status.SUCCESS
    assert (tmp_path / "in" / "1.2.2").read_bytes() == data


def test_a_fault_in_what_follows_leaves_the_association_in_step(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()

    def broken() -> Outgoing:
        raise ZeroDivisionError

    with (
        serving(Handlers(store=Folder(tmp_path / "in"))) as server,
        connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association,
    ):
        with pytest.raises(ZeroDivisionError):
            association.store(instance(tmp_path, "1.2.1"), following=broken)
        assert association.store(instance(tmp_path, "1.2.2")) == Status.SUCCESS


def test_store_without_a_context_is_not_begun(tmp_path: Path) -> None:
    with (
        serving(Handlers(store=Folder(tmp_path))) as server,
        connect(gateway(server), "ME", [(CT, IMPLICIT)]) as association,
    ):
        assert association.store(instance(tmp_path, "1.2.3")) == Status.SOP_CLASS_NOT_SUPPORTED


def test_store_that_is_not_kept_is_answered_with_its_status(tmp_path: Path) -> None:
    with (
        serving(Handlers(store=Folder(tmp_path, fail_commit=True))) as server,
        connect(gateway(server), "ME", [(CT, EXPLICIT)]) as association,
    ):
        assert association.store(instance(tmp_path, "1.2.3")) == Status.OUT_OF_RESOURCES


def test_get_sends_over_the_same_association(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    folder = Folder(tmp_path / "in")
    shelf = Shelf([instance(tmp_path, f"1.2.{at}", 300_000) for at in range(5)])
    contexts = [(STUDY_ROOT_GET, EXPLICIT), (CT, EXPLICIT)]
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"})
    with (
        serving(Handlers(get=shelf.get)) as server,
        connect(gateway(server), "ME", contexts, roles={CT: Role(scu=False, scp=True)}) as association,
    ):
        *_, final = association.get(STUDY_ROOT_GET, identifier, folder)
    assert (final.status, final.completed, final.remaining) == (Status.SUCCESS, 5, None)
    for one in shelf.instances:
        assert (tmp_path / "in" / one.sop_instance_uid).read_bytes() == Path(one.path).read_bytes()[132:]


def test_get_lists_what_could_not_be_sent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    other = replace(instance(tmp_path, "1.2.1"), transfer_syntax_uid=IMPLICIT)
    shelf = Shelf([other, instance(tmp_path, "1.2.2")])
    contexts = [(STUDY_ROOT_GET, EXPLICIT), (CT, EXPLICIT)]
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"})
    with (
        serving(Handlers(get=shelf.get)) as server,
        connect(gateway(server), "ME", contexts, roles={CT: Role(scu=False, scp=True)}) as association,
    ):
        *_, final = association.get(STUDY_ROOT_GET, identifier, Folder(tmp_path / "in"))
    assert (final.status, final.completed, final.failed) == (0xB000, 1, 1)
    assert final.failed_uids == ("1.2.1",)


def test_move_sends_to_the_destination(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    folder = Folder(tmp_path / "in")
    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"})
    with (
        serving(Handlers(store=folder)) as destination,
        connect(gateway(destination), "ME", [(CT, EXPLICIT)]) as channel,
    ):
        shelf = Shelf([instance(tmp_path, f"1.2.{at}") for at in range(5)], lambda name: channel)
        with (
            serving(Handlers(move=shelf.move)) as server,
            connect(gateway(server), "ME", [(STUDY_ROOT_MOVE, EXPLICIT)]) as association,
        ):
            *_, final = association.move(STUDY_ROOT_MOVE, identifier, "ANYONE")
    assert (final.status, final.completed, final.remaining) == (Status.SUCCESS, 5, None)
    assert folder.requests[0].originator == Originator("ME", 1)


def test_action_and_event_report() -> None:
    actions: list[ActionRequest] = []
    events: list[EventReport] = []

    def act(request: ActionRequest, caller: Caller) -> None:
        actions.append(request)

    def take(event: EventReport, caller: Caller) -> None:
        events.append(event)

    information = Attributes.of({"TransactionUID": "1.2.3"})
    roles = {STORAGE_COMMITMENT: Role(scu=True, scp=True)}
    with (
        serving(Handlers(action=act, event=take)) as server,
        connect(gateway(server), "ME", [(STORAGE_COMMITMENT, IMPLICIT)], roles=roles) as association,
    ):
        assert association.n_action(ActionRequest(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, 1, information)) == 0
        assert (
            association.n_event_report(EventReport(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, 2, information))
            == 0
        )
    assert (actions[0].action_type, actions[0].information) == (1, information)
    assert (events[0].event_type, events[0].information) == (2, information)


def test_verbs_that_are_not_allowed_have_no_presentation_context(tmp_path: Path) -> None:
    contexts = [(VERIFICATION, IMPLICIT), (STUDY_ROOT_FIND, IMPLICIT), (CT, EXPLICIT)]
    handlers = Handlers(find=Finder([]), store=Folder(tmp_path))
    with (
        serving(handlers, verbs=frozenset({Verb.ECHO})) as server,
        connect(gateway(server), "ME", contexts) as association,
    ):
        assert [one.abstract_syntax for one in association.contexts] == [VERIFICATION]


def test_unknown_callers_and_called_titles_are_rejected() -> None:
    with serving(Handlers()) as server:
        with pytest.raises(UpstreamError, match="1/1/3") as caught:
            connect(gateway(server), "STRANGER", [(VERIFICATION, IMPLICIT)])
        assert caught.value.kind is UpstreamKind.REJECTED
        peer = gateway(server)
        wrong = type(peer)(peer.name, "OTHER", peer.host, peer.port, peer.timeouts)
        with pytest.raises(UpstreamError, match="1/1/7"):
            connect(wrong, "ME", [(VERIFICATION, IMPLICIT)])


def test_stop_ends_idle_associations() -> None:
    with serving(Handlers()) as server:
        association = connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)])
        assert association.echo() == 0
        wait_until(lambda: server.active == 1, "the association is counted")
        assert server.stop(drain=15)  # longer than an association lingers that was busy just now
        with pytest.raises(UpstreamError):
            association.echo()
        assert not association.is_open


def test_commitment_is_reported_on_the_association_that_asked_for_it() -> None:
    named = (STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    information = Attributes.of({"TransactionUID": "1.2.3"})
    answers: list[int] = []
    events: list[EventReport] = []

    def act(request: ActionRequest, caller: Caller) -> AfterAction:
        return lambda channel: answers.append(channel.report(EventReport(*named, 1, request.information)))

    with serving(Handlers(action=act)) as server:
        wire = CommitmentAssociations("ME")
        request = ActionRequest(*named, 1, information)
        assert wire.action(gateway(server), request, lambda event, caller: events.append(event), 5.0) == 0
        wait_until(lambda: answers == [0], "the report is answered")
    assert events == [EventReport(*named, 1, information)]


def test_commitment_is_reported_on_an_association_of_its_own() -> None:
    event = EventReport(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, 2, Attributes.of({"TransactionUID": "1.2"}))
    events: list[EventReport] = []
    with serving(Handlers(event=lambda event, caller: events.append(event))) as server:
        assert CommitmentAssociations("OTHER").report(gateway(server), event, "ME") == 0
    assert events == [event]


def test_abort_ends_the_wait_of_another_thread() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        asked.set()
        go_on.wait(10)
        return iter(())

    with (
        serving(Handlers(find=find)) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association,
    ):
        errors: list[Exception] = []

        def ask() -> None:
            try:
                list(association.find(STUDY_ROOT_FIND, QUERY))
            except UpstreamError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        assert asked.wait(5)
        association.abort()
        asking.join(5)
        assert [error.kind for error in errors if isinstance(error, UpstreamError)] == [UpstreamKind.ABORTED]
        go_on.set()

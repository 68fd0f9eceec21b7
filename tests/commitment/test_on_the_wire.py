"""Requests and reports in every order a peer may choose, over real associations."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from gateway.commitment import inquiry, job
from gateway.commitment.job import Retry
from gateway.commitment.messages import PUSH_MODEL, Reference, read_request, read_result
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse import acse, pdu
from gateway.dimse.command import Command, Field, response
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.exchange import Exchange
from gateway.dimse.negotiation import Accepted, Answered, AssociateAccept
from gateway.dimse.ports import ActionHandler, ActionRequest, AfterAction, EventChannel, EventReport, Peer
from gateway.dimse.requestor import Association, connect
from gateway.dimse.sopclasses import IMPLICIT
from gateway.dimse.wire import Channel
from gateway.errors import Refused, UpstreamError
from gateway.metrics import REGISTRY
from tests.commitment.nodes import CT, FAST, A, B, action, event, gateway_node, peer_node
from tests.support.ports import closed_port
from tests.support.waiting import wait_until

EITHER = pytest.mark.parametrize("same", [False, True], ids=["new association", "same association"])


def asking(gateway: Peer, aet: str = "MODALITY") -> Association:
    return connect(gateway, aet, [(PUSH_MODEL, IMPLICIT)])


class Told:
    """What came on the requestor's own association."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def __call__(self, event: EventReport, caller: Caller) -> None:  # noqa: ARG002
        self.results.append(read_result(event.information).transaction_uid)


# As SCP.


def test_the_report_goes_to_the_requestor_on_a_new_association(tmp_path: Path) -> None:
    with peer_node() as modality, gateway_node(tmp_path, modality.peer) as node:
        with asking(node.peer) as association:
            assert association.n_action(action("2.25.1")) == 0
        node.job_reaches("2.25.1", job.State.REPORTED)
        result, caller = modality.events[0]
    assert (result.committed, result.failed) == ((A,), {B: 0x0112})
    assert caller.aet == "GATEWAY"


def test_the_report_may_come_before_the_requestor_releases(tmp_path: Path) -> None:
    with peer_node() as modality, gateway_node(tmp_path, modality.peer) as node, asking(node.peer) as association:
        assert association.n_action(action("2.25.1")) == 0
        wait_until(lambda: modality.events, "a report arrives")
        assert association.n_action(action("2.25.2")) == 0


def test_the_report_goes_on_the_same_association_where_that_is_configured(tmp_path: Path) -> None:
    told = Told()
    with peer_node() as modality, gateway_node(tmp_path, modality.peer, same=True) as node:
        with asking(node.peer) as association:
            assert association.n_action(action("2.25.1"), told) == 0
            assert told.results == ["2.25.1"] or association.await_event(told, 10)
        node.job_reaches("2.25.1", job.State.REPORTED)
        assert (told.results, modality.events) == (["2.25.1"], [])


def test_where_the_requestor_has_released_a_new_association_is_opened(tmp_path: Path) -> None:
    with peer_node() as modality, gateway_node(tmp_path, modality.peer, same=True) as node:
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        node.job_reaches("2.25.1", job.State.REPORTED)
        assert [one[0].transaction_uid for one in modality.events] == ["2.25.1"]


def test_a_requestor_may_go_on_asking_while_it_is_reported_to(tmp_path: Path) -> None:
    told = Told()
    with peer_node() as modality, gateway_node(tmp_path, modality.peer, same=True) as node:
        with asking(node.peer) as association:
            for number in range(3):  # the second request crosses the first report
                assert association.n_action(action(f"2.25.{number}"), told) == 0
            while len(told.results) < 3:
                assert association.await_event(told, 10)
        for number in range(3):
            node.job_reaches(f"2.25.{number}", job.State.REPORTED)
        assert modality.events == []


@EITHER
def test_a_requestor_that_is_down_is_tried_until_it_answers(tmp_path: Path, same: bool) -> None:
    port = closed_port()
    down = Peer("modality", "MODALITY", "127.0.0.1", port, FAST)
    with gateway_node(tmp_path, down, same=same) as node:
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        wait_until(lambda: node.commitment.ledgers.jobs.job("2.25.1").progress.attempts >= 2, "two attempts fail")
        assert node.commitment.ledgers.jobs.job("2.25.1").note
    with peer_node() as modality, gateway_node(tmp_path, modality.peer) as node:
        node.job_reaches("2.25.1", job.State.REPORTED)


def test_a_requestor_that_is_silent_is_tried_again(tmp_path: Path) -> None:
    silent, fast = threading.Event(), replace(FAST, dimse=0.2)
    with peer_node(timeouts=fast) as modality, gateway_node(tmp_path, modality.peer) as node:

        def once_silent(event: EventReport) -> None:  # noqa: ARG001
            if len(modality.events) == 1:
                silent.wait(30)

        modality.answer = once_silent
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        node.job_reaches("2.25.1", job.State.REPORTED)
        silent.set()
        assert len(modality.events) == 2


def test_nobody_answers_and_the_bound_is_reached(tmp_path: Path) -> None:
    down = Peer("modality", "MODALITY", "127.0.0.1", closed_port(), FAST)
    with gateway_node(tmp_path, down, retry=Retry(0.01, 0.01, 3)) as node:
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        node.job_reaches("2.25.1", job.State.ABANDONED)
        assert node.commitment.ledgers.jobs.job("2.25.1").progress.attempts == 3


def test_requests_that_are_refused_have_their_status(tmp_path: Path) -> None:
    with (
        peer_node() as modality,
        gateway_node(tmp_path, modality.peer) as node,
        asking(node.peer) as association,
        asking(node.peer, "STRANGER") as stranger,
    ):
        assert association.n_action(action("2.25.1")) == 0
        assert association.n_action(action("2.25.1")) == Status.DUPLICATE_TRANSACTION_UID
        assert association.n_action(replace(action("2.25.2"), action_type=2)) == Status.NO_SUCH_ACTION_TYPE
        assert association.n_action(replace(action("2.25.2"), sop_instance_uid="1.2")) == Status.NO_SUCH_OBJECT_INSTANCE
        assert association.n_action(replace(action("2.25.2"), information=event("").information)) == 0x0115
        assert stranger.n_action(action("2.25.3")) == Status.PROCESSING_FAILURE


def test_thousands_of_instances_are_one_request(tmp_path: Path) -> None:
    references = [A, *(Reference(CT, f"1.2.{i}") for i in range(20_000))]
    with peer_node() as modality, gateway_node(tmp_path, modality.peer) as node:
        with asking(node.peer) as association:
            assert association.n_action(action("2.25.1", *references)) == 0
        node.job_reaches("2.25.1", job.State.REPORTED)
        assert len(modality.events[0][0].failed) == 20_000


def test_transactions_are_counted_by_role_and_state(tmp_path: Path) -> None:
    def gauge(role: str, state: str) -> float | None:
        labels = {"role": role, "state": state}
        return REGISTRY.get_sample_value("dicom_gateway_commitment_transactions", labels)

    with peer_node() as modality, gateway_node(tmp_path, modality.peer) as node:
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        node.commitment.request("modality", [A])
        wait_until(lambda: (gauge("scp", "reported"), gauge("scu", "pending")) == (1, 1), "both are counted")
        assert gauge("scp", "abandoned") == 0


# As SCU.


def commits(on: Callable[[EventChannel, str], object]) -> ActionHandler:
    """A peer that does something on the request's association once it has answered."""

    def act(request: ActionRequest, caller: Caller) -> AfterAction:  # noqa: ARG001
        uid = read_request(request.information).transaction_uid
        return lambda channel: (on(channel, uid), None)[1]

    return act


def reports(gateway: Peer, *events: EventReport, aet: str = "MODALITY") -> list[int]:
    """Report on associations of the peer's own."""
    wire = CommitmentAssociations(aet)
    return [wire.report(gateway, one, aet) for one in events]


def test_a_report_on_another_association_decides(tmp_path: Path) -> None:
    with peer_node() as vna, gateway_node(tmp_path, vna.peer) as node:
        uid = node.commitment.request("modality", [A, B]).transaction_uid
        assert read_request(vna.actions[0].information).references == (A, B)
        assert reports(node.peer, event(uid, B)) == [0]
        node.inquiry_reaches(uid, inquiry.State.FAILURE)


def test_a_report_on_the_same_association_decides_at_once(tmp_path: Path) -> None:
    act = commits(lambda channel, uid: channel.report(event(uid)))
    with peer_node(act) as vna, gateway_node(tmp_path, vna.peer, same=True) as node:
        assert node.commitment.request("modality", [A, B]).state is inquiry.State.SUCCESS


def test_a_report_on_another_association_before_the_response_decides(tmp_path: Path) -> None:
    gateways: list[Peer] = []

    def hasty(request: ActionRequest, caller: Caller) -> None:  # noqa: ARG001
        assert reports(gateways[0], event(read_request(request.information).transaction_uid)) == [0]

    with peer_node(hasty) as vna, gateway_node(tmp_path, vna.peer) as node:
        gateways.append(node.peer)
        assert node.commitment.request("modality", [A, B]).state is inquiry.State.SUCCESS


def test_a_report_twice_is_answered_twice(tmp_path: Path) -> None:
    with peer_node() as vna, gateway_node(tmp_path, vna.peer) as node:
        uid = node.commitment.request("modality", [A, B]).transaction_uid
        assert reports(node.peer, event(uid), event(uid)) == [0, 0]
        node.inquiry_reaches(uid, inquiry.State.SUCCESS)


def test_a_report_for_an_unknown_transaction_is_refused(tmp_path: Path) -> None:
    with peer_node() as vna, gateway_node(tmp_path, vna.peer) as node:
        assert reports(node.peer, event("2.25.404")) == [Status.INVALID_ARGUMENT_VALUE]


def test_a_report_from_somebody_else_is_refused(tmp_path: Path) -> None:
    other = Peer("other", "OTHER", "127.0.0.1", closed_port(), FAST)
    with peer_node() as vna, gateway_node(tmp_path, vna.peer, other) as node:
        uid = node.commitment.request("modality", [A, B]).transaction_uid
        assert reports(node.peer, event(uid), aet="OTHER") == [Status.INVALID_ARGUMENT_VALUE]
        assert node.commitment.ledgers.inquiries.inquiry(uid).state is inquiry.State.PENDING


def test_a_report_that_never_comes_is_a_clear_state(tmp_path: Path) -> None:
    with peer_node() as vna, gateway_node(tmp_path, vna.peer, timeout=0.1) as node:
        uid = node.commitment.request("modality", [A, B]).transaction_uid
        node.inquiry_reaches(uid, inquiry.State.EXPIRED)


def test_a_peer_that_refuses_is_a_clear_state(tmp_path: Path) -> None:
    def refuse(request: ActionRequest, caller: Caller) -> None:  # noqa: ARG001
        raise Refused("full", Status.RESOURCE_LIMITATION)

    with peer_node(refuse) as vna, gateway_node(tmp_path, vna.peer) as node:
        found = node.commitment.request("modality", [A, B])
        assert (found.state, found.note) == (inquiry.State.REFUSED, "the peer answered 0213H")


def test_a_peer_that_is_down_is_a_clear_state(tmp_path: Path) -> None:
    with gateway_node(tmp_path, Peer("modality", "MODALITY", "127.0.0.1", closed_port(), FAST)) as node:
        assert node.commitment.request("modality", [A]).state is inquiry.State.REFUSED
        with pytest.raises(KeyError):
            node.commitment.request("nobody", [A])


def test_a_report_is_awaited_after_a_restart(tmp_path: Path) -> None:
    with peer_node() as vna:
        with gateway_node(tmp_path, vna.peer) as node:
            uid = node.commitment.request("modality", [A, B]).transaction_uid
        with gateway_node(tmp_path, vna.peer) as node:
            assert reports(node.peer, event(uid)) == [0]
            node.inquiry_reaches(uid, inquiry.State.SUCCESS)


# A peer with manners of its own: scripted message by message.


@contextmanager
def scripted(script: Callable[[Exchange, Accepted], None]) -> Iterator[Peer]:
    """A peer that accepts one association and then follows its script."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                channel = Channel(sock, network=10, max_length=16384)
                first = channel.event(monotonic() + 10)
                assert isinstance(first, pdu.Control)
                request = acse.decode_request(first.data)
                context = request.contexts[0]
                accept = AssociateAccept((Answered(context.id, 0, context.transfer_syntaxes[0]),), 16384)
                channel.send(acse.encode_accept(accept, request))
                usable = Accepted(context.id, PUSH_MODEL, context.transfer_syntaxes[0], as_scp=True, as_scu=True)
                script(Exchange(channel, {context.id: usable}, request.max_length), usable)

        thread = threading.Thread(target=run)
        thread.start()
        yield Peer("modality", "MODALITY", "127.0.0.1", listener.getsockname()[1], FAST)
        thread.join(30)
        assert not thread.is_alive()


def send_report(exchange: Exchange, context: Accepted, report: EventReport) -> int:
    command = Command(Field.N_EVENT_REPORT, message_id=7, sop_class=report.sop_class_uid,
                      sop_instance=report.sop_instance_uid, event_type=report.event_type)  # fmt: skip
    exchange.send(context.id, command, report.information.encode(implicit=context.transfer_syntax == IMPLICIT))
    answer = exchange.receive(monotonic() + 10)
    assert answer is not None
    assert answer.command.responding_to == 7
    assert answer.command.status is not None
    return answer.command.status


def receive_request(exchange: Exchange, context: Accepted) -> tuple[Command, str]:
    message = exchange.receive(monotonic() + 10)
    assert message is not None
    data = Attributes.decode(exchange.dataset(message), implicit=context.transfer_syntax == IMPLICIT)
    return message.command, read_request(data).transaction_uid


def answer_release(exchange: Exchange) -> None:
    assert exchange.receive(monotonic() + 10) is None
    exchange.channel.send(pdu.RELEASE_REPLY)


def test_a_report_on_the_same_association_before_the_response(tmp_path: Path) -> None:
    statuses: list[int] = []

    def script(exchange: Exchange, context: Accepted) -> None:
        command, uid = receive_request(exchange, context)
        statuses.append(send_report(exchange, context, event(uid)))
        exchange.send(context.id, response(command, Status.SUCCESS))
        answer_release(exchange)

    with scripted(script) as peer, gateway_node(tmp_path, peer, same=True) as node:
        assert node.commitment.request("modality", [A, B]).state is inquiry.State.SUCCESS
    assert statuses == [0]


def test_an_association_that_breaks_after_the_report_is_no_failure(tmp_path: Path) -> None:
    def script(exchange: Exchange, context: Accepted) -> None:
        _, uid = receive_request(exchange, context)
        send_report(exchange, context, event(uid))
        exchange.channel.abort()

    with scripted(script) as peer, gateway_node(tmp_path, peer, same=True) as node:
        assert node.commitment.request("modality", [A, B]).state is inquiry.State.SUCCESS


def test_an_association_that_breaks_after_the_response_leaves_the_inquiry_pending(tmp_path: Path) -> None:
    def script(exchange: Exchange, context: Accepted) -> None:
        command, _ = receive_request(exchange, context)
        exchange.send(context.id, response(command, Status.SUCCESS))
        exchange.channel.abort()

    with scripted(script) as peer, gateway_node(tmp_path, peer, same=True) as node:
        assert node.commitment.request("modality", [A, B]).state is inquiry.State.PENDING


def test_a_requestor_that_leaves_the_role_out_of_its_answer_is_reported_to(tmp_path: Path) -> None:
    def script(exchange: Exchange, context: Accepted) -> None:
        message = exchange.receive(monotonic() + 10)
        assert message is not None
        exchange.discard(message)
        exchange.send(context.id, response(message.command, Status.SUCCESS))
        answer_release(exchange)

    with scripted(script) as peer, gateway_node(tmp_path, peer) as node:
        with asking(node.peer) as association:
            association.n_action(action("2.25.1"))
        node.job_reaches("2.25.1", job.State.REPORTED)


def test_a_requestor_that_aborts_while_it_is_reported_to_is_tried_on_a_new_association(tmp_path: Path) -> None:
    with peer_node() as modality, gateway_node(tmp_path, modality.peer, same=True) as node:
        association = asking(node.peer)
        assert association.n_action(action("2.25.1")) == 0
        association.abort()
        with pytest.raises(UpstreamError):
            association.n_action(action("2.25.2"))
        node.job_reaches("2.25.1", job.State.REPORTED)
        assert len(modality.events) == 1

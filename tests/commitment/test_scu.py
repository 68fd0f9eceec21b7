"""Asking peers, whose reports come in every order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.commitment.database import Database
from gateway.commitment.inquiries import InquiryLedger
from gateway.commitment.inquiry import State
from gateway.commitment.messages import (
    PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentResult,
    Reference,
    read_request,
    write_result,
)
from gateway.commitment.records import Bounds
from gateway.commitment.scu import CommitmentSCU
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse.ports import ActionRequest, EventHandler, EventReport, Peer
from gateway.errors import Refused, UpstreamError, UpstreamKind

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")
VNA = Peer("vna", "VNA", "127.0.0.1", 104)
FROM_VNA = Caller("VNA", "127.0.0.1", "vna")

Script = Callable[[str, EventHandler], int]


class ScriptedWire:
    """A peer that does with the Transaction UID and the association's event handler what its script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.lingers: list[float] = []

    def action(self, peer: Peer, request: ActionRequest, on_event: EventHandler, linger: float) -> int:
        assert peer is VNA
        self.lingers.append(linger)
        return self.script(read_request(request.information).transaction_uid, on_event)


def event(uid: str, *failed: Reference, event_type: int | None = None) -> EventReport:
    result = CommitmentResult(uid, tuple(one for one in (A, B) if one not in failed), dict.fromkeys(failed, 0x0112))
    return EventReport(PUSH_MODEL, WELL_KNOWN_INSTANCE, event_type or result.event_type, write_result(result))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Build = Callable[[Script], CommitmentSCU]


@pytest.fixture
def asking(tmp_path: Path, clock: Clock) -> Iterator[Build]:
    database = Database(tmp_path / "commitment.sqlite")
    yield lambda script: CommitmentSCU(
        InquiryLedger(database, Bounds()), ScriptedWire(script), timeout=60.0, clock=clock
    )
    database.close()


def takes(uid: str, on_event: EventHandler) -> int:  # noqa: ARG001
    return 0


def test_a_request_is_pending_until_the_report_on_another_association(asking: Build) -> None:
    scu = asking(takes)
    inquiry = scu.request(VNA, [A, B, A])
    assert (inquiry.state, inquiry.aet, inquiry.instances) == (State.PENDING, "VNA", 2)
    scu.on_event(event(inquiry.transaction_uid), FROM_VNA)
    assert scu.inquiries.inquiry(inquiry.transaction_uid).state is State.SUCCESS


def test_a_report_before_the_response_counts(asking: Build) -> None:
    def hasty(uid: str, on_event: EventHandler) -> int:
        on_event(event(uid), FROM_VNA)
        return 0

    assert asking(hasty).request(VNA, [A, B]).state is State.SUCCESS


def test_a_report_counts_though_the_response_never_came(asking: Build) -> None:
    def breaks(uid: str, on_event: EventHandler) -> int:
        on_event(event(uid, B), FROM_VNA)
        raise UpstreamError("aborted", UpstreamKind.ABORTED)

    assert asking(breaks).request(VNA, [A, B]).state is State.FAILURE


@pytest.mark.parametrize("answer", [Status.PROCESSING_FAILURE, Status.DUPLICATE_TRANSACTION_UID])
def test_a_refusal_is_a_clear_state(asking: Build, answer: int) -> None:
    scu = asking(lambda uid, on_event: answer)  # noqa: ARG005
    inquiry = scu.request(VNA, [A])
    assert (inquiry.state, inquiry.note) == (State.REFUSED, f"the peer answered {answer:04X}H")


def test_a_peer_that_is_down_is_a_clear_state(asking: Build) -> None:
    def down(uid: str, on_event: EventHandler) -> int:  # noqa: ARG001
        raise UpstreamError("connection refused", UpstreamKind.UNREACHABLE)

    inquiry = asking(down).request(VNA, [A])
    assert (inquiry.state, inquiry.note) == (State.REFUSED, "connection refused")


def test_without_a_report_it_expires_and_a_late_one_still_counts(asking: Build, clock: Clock) -> None:
    scu = asking(takes)
    uid = scu.request(VNA, [A, B]).transaction_uid
    clock.now += 59
    scu.expire()
    assert scu.inquiries.inquiry(uid).state is State.PENDING
    clock.now += 1
    scu.expire()
    assert scu.inquiries.inquiry(uid).state is State.EXPIRED
    scu.on_event(event(uid), FROM_VNA)
    assert scu.inquiries.inquiry(uid).state is State.SUCCESS


def test_a_second_report_is_answered_with_success_and_changes_nothing(asking: Build) -> None:
    scu = asking(takes)
    uid = scu.request(VNA, [A, B]).transaction_uid
    for _ in range(2):
        scu.on_event(event(uid, B), FROM_VNA)
    assert [one.reason for one in scu.inquiries.instances(uid)] == [0, 0x0112]


def refused(scu: CommitmentSCU, report: EventReport, caller: Caller = FROM_VNA) -> int:
    with pytest.raises(Refused) as found:
        scu.on_event(report, caller)
    return found.value.status


def test_a_report_for_an_unknown_transaction_is_refused(asking: Build) -> None:
    assert refused(asking(takes), event("2.25.404")) == Status.INVALID_ARGUMENT_VALUE


def test_a_report_from_somebody_else_is_refused(asking: Build) -> None:
    scu = asking(takes)
    uid = scu.request(VNA, [A, B]).transaction_uid
    assert refused(scu, event(uid), Caller("EVIL", "127.0.0.1", "evil")) == Status.INVALID_ARGUMENT_VALUE
    assert scu.inquiries.inquiry(uid).state is State.PENDING
    scu.on_event(event(uid), Caller("VNA_REPORTS", "127.0.0.1", "vna"))  # the same peer by another title
    assert scu.inquiries.inquiry(uid).state is State.SUCCESS


def test_an_event_type_that_contradicts_its_sequences_is_not_believed(asking: Build) -> None:
    scu = asking(takes)
    uid = scu.request(VNA, [A, B]).transaction_uid
    scu.on_event(event(uid, B, event_type=1), FROM_VNA)
    assert scu.inquiries.inquiry(uid).state is State.FAILURE


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (EventReport("1.2.3", WELL_KNOWN_INSTANCE, 1, Attributes()), Status.NO_SUCH_SOP_CLASS),
        (EventReport(PUSH_MODEL, "1.2.3", 1, Attributes()), Status.NO_SUCH_OBJECT_INSTANCE),
        (EventReport(PUSH_MODEL, WELL_KNOWN_INSTANCE, 3, Attributes()), Status.NO_SUCH_EVENT_TYPE),
        (EventReport(PUSH_MODEL, WELL_KNOWN_INSTANCE, 1, Attributes()), Status.INVALID_ARGUMENT_VALUE),
    ],
)
def test_other_events_are_refused(asking: Build, report: EventReport, status: Status) -> None:
    assert refused(asking(takes), report) == status


def test_asking_for_nothing_is_an_error(asking: Build) -> None:
    with pytest.raises(ValueError, match="no instances"):
        asking(takes).request(VNA, [])

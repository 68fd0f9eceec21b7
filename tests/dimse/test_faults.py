"""What hostile, broken and slow peers do to a server, and that nobody else feels it."""

# ruff: noqa: ARG001, ARG002 - handlers take what their port says

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from struct import pack
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.counter import SubOperations
from gateway.dicom.identifier import Query, Retrieve
from gateway.dicom.models import VERIFICATION
from gateway.dimse import acse, pdu
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.command import Command, Field, decode, response
from gateway.dimse.negotiation import Answered, AssociateAccept, AssociateRequest, Proposed, Role, propose
from gateway.dimse.ports import Cancelled, Originator, StoreChannel, StoreRequest, Timeouts, Verb
from gateway.dimse.requestor import Association, connect
from gateway.dimse.services import Handlers
from gateway.dimse.slots import Limits
from gateway.errors import Refused, UpstreamError, UpstreamKind
from gateway.rates import Rate
from tests.dimse.doubles import (
    CT,
    EXPLICIT,
    IMPLICIT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Finder,
    Folder,
    FolderIncoming,
    gateway,
    instance,
    peer_at,
    serving,
    studies,
)
from tests.dimse.raw import Raw, raw
from tests.support.waiting import wait_until

SHORT = Deadlines(setup=1, idle=30, network=1, linger=1)
QUERY = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
ECHO = pdu.message(1, Command(Field.C_ECHO, message_id=1, sop_class=VERIFICATION).encode(), None, 16384)


COMMAND_ONLY = pdu.message(
    1, Command(Field.C_FIND, message_id=1, sop_class=STUDY_ROOT_FIND, has_dataset=True).encode(), None, 16384
)


def find_request(message_id: int = 1, identifier: bytes | None = None) -> bytes:
    command = Command(Field.C_FIND, message_id=message_id, sop_class=STUDY_ROOT_FIND, priority=0, has_dataset=True)
    return pdu.message(1, command.encode(), identifier or QUERY.encode(implicit=False), 16384)


def store_request(dataset: bytes, uid: str = "1.2.3") -> bytes:
    command = Command(Field.C_STORE, message_id=1, sop_class=CT, sop_instance=uid, priority=0, has_dataset=True)
    return pdu.message(1, command.encode(), dataset, 16384)


def status_of(data: bytes) -> int | None:
    assert data[0] == pdu.P_DATA
    return decode(data[12:]).status


def assert_serves(port: int) -> None:
    with raw(port) as peer:
        assert peer.associate([(VERIFICATION, IMPLICIT)])[0] == pdu.ASSOCIATE_AC
        peer.send(ECHO)
        assert status_of(peer.pdu()) == 0
        peer.send(pdu.RELEASE_REQUEST)
        assert peer.pdu() == pdu.RELEASE_REPLY


def test_connections_that_say_nothing_take_no_slot_and_are_let_go() -> None:
    with serving(Handlers(), deadlines=SHORT, limits=Limits(associations=2)) as server, ExitStack() as stack:
        threads = threading.active_count()
        silent = [stack.enter_context(raw(server.port)) for _ in range(50)]
        assert_serves(server.port)
        assert threading.active_count() <= threads + 1
        assert all(peer.ends() == [] for peer in silent)  # closed at the set-up deadline


def test_the_oldest_silent_connection_makes_room() -> None:
    with serving(Handlers(), limits=Limits(waiting=3)) as server, ExitStack() as stack:
        silent = [stack.enter_context(raw(server.port)) for _ in range(5)]
        assert silent[0].ends() == []
        assert silent[1].ends() == []
        assert silent[4].associate([(VERIFICATION, IMPLICIT)])[0] == pdu.ASSOCIATE_AC


def test_a_set_up_that_drips_is_cut_at_its_absolute_deadline() -> None:
    request = acse.encode_request(AssociateRequest("ME", "GATEWAY", propose([(VERIFICATION, IMPLICIT)]), 0))
    with serving(Handlers(), deadlines=SHORT) as server, raw(server.port) as peer:
        began = monotonic()
        assert drip(peer, request) < len(request)
        assert monotonic() - began < 4
        assert_serves(server.port)


def drip(peer: Raw, data: bytes) -> int:
    """Send a byte every tenth of a second until the other side has had enough; how many were sent."""
    peer.sock.settimeout(0.1)
    for at in range(len(data)):
        try:
            peer.send(data[at : at + 1])
            peer.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except OSError:
            pass
        return at  # it has closed, or has something to say: an abort
    return len(data)


def test_a_pdu_that_drips_is_cut() -> None:
    with serving(Handlers(find=Finder([])), deadlines=SHORT) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        assert drip(peer, find_request()) < len(find_request())
        assert pdu.ABORT in peer.ends()


def test_a_data_set_that_drips_in_small_pdus_is_cut_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with serving(Handlers(store=folder), deadlines=SHORT) as server, raw(server.port) as peer:
        peer.associate([(CT, EXPLICIT)])
        command = Command(Field.C_STORE, message_id=1, sop_class=CT, sop_instance="1.2", priority=0, has_dataset=True)
        peer.send(pdu.message(1, command.encode(), None, 16384))
        small = b"".join(bytes(part) for part in pdu.cut(1, b"xy", 16384, command=False, last=False))
        pause = threading.Event()
        try:
            for _ in range(100):
                peer.send(small)
                pause.wait(0.05)
        except OSError:
            pass
        assert folder.aborted.wait(5)
        assert list(tmp_path.iterdir()) == []


def test_a_client_that_vanishes_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with serving(Handlers(store=folder)) as server:
        with raw(server.port) as peer:
            peer.associate([(CT, EXPLICIT)])
            peer.send(store_request(bytes(100_000))[:50_000])
        assert folder.aborted.wait(5)
        wait_until(lambda: server.active == 0, "its slot is free")
        assert list(tmp_path.iterdir()) == []


def test_a_client_that_vanishes_stops_its_query() -> None:
    gone = threading.Event()

    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        wait_until(cancelled, "the association is gone")
        gone.set()
        return iter(())

    with serving(Handlers(find=find)) as server:
        with raw(server.port) as peer:
            peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
            peer.send(find_request())
        assert gone.wait(5)


def test_a_peer_that_does_not_read_is_cut() -> None:
    finder = Finder(studies(1) * 200_000)
    with serving(Handlers(find=finder), deadlines=SHORT) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(find_request())
        wait_until(lambda: server.active == 1, "it is served")
        wait_until(lambda: server.active == 0, "it is cut")
        assert finder.closed.is_set()


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3/4", "", "1..2", "1" * 65])
def test_what_is_no_uid_never_reaches_a_receiver(uid: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with serving(Handlers(store=folder)) as server, raw(server.port) as peer:
        peer.associate([(CT, EXPLICIT)])
        peer.send(store_request(bytes(100), uid))
        assert status_of(peer.pdu()) == 0x0117
    assert folder.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        pack(">BxL", 1, 0xFFFFFFFF),
        pack(">BxL", 4, 0xFFFFFFFF),
        pdu.RELEASE_REQUEST,
        ECHO,
        pack(">BxL", 1, 10) + bytes(10),
    ],
)
def test_what_is_no_association_request_is_aborted(data: bytes) -> None:
    with serving(Handlers(), deadlines=SHORT) as server:
        with raw(server.port) as peer:
            peer.send(data)
            assert peer.ends() in ([pdu.ABORT], [])
        assert_serves(server.port)


@pytest.mark.parametrize(
    "data",
    [
        pdu.message(3, b"", None, 16384),  # a presentation context nobody accepted
        pdu.message(1, b"\0\0\0\0", None, 16384),
        b"".join(map(bytes, pdu.cut(1, b"data", 16384, command=False))),
        pdu.message(1, Command(Field.C_FIND | 0x8000, responding_to=1, status=0).encode(), None, 16384),
        pdu.message(1, Command(Field.C_FIND, sop_class=STUDY_ROOT_FIND).encode(), None, 16384),
        pdu.RELEASE_REPLY,
        acse.encode_request(AssociateRequest("ME", "GATEWAY", propose([(STUDY_ROOT_FIND, EXPLICIT)]), 0)),
        COMMAND_ONLY + pdu.RELEASE_REQUEST,
        COMMAND_ONLY + ECHO,
        pdu.message(1, bytes(1 << 17), None, 16384),
    ],
)
def test_what_has_no_place_in_an_association_ends_it(data: bytes) -> None:
    with serving(Handlers(find=Finder([])), deadlines=SHORT) as server:
        with raw(server.port) as peer:
            peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
            peer.send(data)
            assert peer.ends() in ([pdu.ABORT], [])
        assert_serves(server.port)


def test_a_nested_bomb_is_answered_and_the_association_goes_on() -> None:
    depth = 20_000
    bomb = (
        b"\x08\x00\x52\x00CS\x06\x00STUDY "
        + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    )
    with serving(Handlers(find=Finder([]))) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(find_request(1, bomb))
        assert status_of(peer.pdu()) == 0xC001
        peer.send(find_request(2))
        assert status_of(peer.pdu()) == 0


def test_a_handler_that_fails_is_a_failure_and_the_association_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        raise ZeroDivisionError

    with serving(Handlers(find=find)) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        for message_id in (1, 2):
            peer.send(find_request(message_id))
            assert status_of(peer.pdu()) == 0xC001
    assert "ZeroDivisionError" in caplog.text


def test_a_refusal_carries_status_comment_and_offending_element() -> None:
    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        raise Refused("not this one", 0xA700, offending=(0x00100010,))

    with serving(Handlers(find=find)) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(find_request())
        answer = decode(peer.pdu()[12:])
        assert (answer.status, answer.comment, answer.offending) == (0xA700, "not this one", (0x00100010,))


def test_an_unknown_operation_is_answered() -> None:
    with serving(Handlers(find=Finder([]))) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(pdu.message(1, Command(Field.N_CREATE, message_id=1, sop_class="1.2").encode(), None, 16384))
        assert status_of(peer.pdu()) == 0x0211


def test_a_store_on_a_context_for_c_get_is_not_authorised(tmp_path: Path) -> None:
    def get(retrieve: Retrieve, channel: StoreChannel, caller: Caller, cancelled: Cancelled) -> Iterator[SubOperations]:
        return iter(())

    handlers = Handlers(get=get, store=Folder(tmp_path))
    with serving(handlers, verbs=frozenset({Verb.GET})) as server, raw(server.port) as peer:
        peer.associate([(CT, EXPLICIT)], roles={CT: Role(scu=True, scp=True)})
        peer.send(store_request(bytes(100)))
        assert status_of(peer.pdu()) == 0x0124
        assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A Receiver whose disk is full."""

    def begin(self, request: StoreRequest) -> FullDisk:
        self._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
        return self

    @property
    def fd(self) -> int:
        return self._file.fileno()

    def commit(self) -> int:
        raise AssertionError("nothing was written")

    def abort(self) -> None:
        self._file.close()


def test_a_data_set_that_cannot_be_written_is_out_of_resources() -> None:
    with serving(Handlers(store=FullDisk())) as server, raw(server.port) as peer:
        peer.associate([(CT, EXPLICIT)])
        for _ in range(2):
            peer.send(store_request(bytes(500_000)))
            assert status_of(peer.pdu()) == 0xA700


def test_what_is_over_the_limits_is_rejected_and_room_is_made_by_a_release() -> None:
    with serving(Handlers(), limits=Limits(associations=1)) as server:
        with connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)]), pytest.raises(UpstreamError, match="2/3/2"):
            connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)])
        wait_until(lambda: server.active == 0, "the slot is free")
        assert_serves(server.port)


def test_one_address_cannot_take_all_slots_by_never_ending_its_negotiations() -> None:
    with serving(Handlers(), limits=Limits(associations=10, negotiating=2)) as server, ExitStack() as stack:
        for _ in range(3):  # what is admitted does not count for its address any more
            stack.enter_context(connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)]))
        slow = [stack.enter_context(raw(server.port)) for _ in range(2)]
        for peer in slow:
            peer.send(b"\x01")
        wait_until(lambda: server.active == 5, "both negotiate")
        with pytest.raises(UpstreamError, match="2/3/2"):
            connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)])
        slow[0].sock.close()
        wait_until(lambda: server.active == 4, "one is gone")
        assert_serves(server.port)


def test_an_address_that_calls_too_often_is_told_of_congestion() -> None:
    with serving(Handlers(), limits=Limits(rate=Rate(0.01, burst=2))) as server:
        assert_serves(server.port)
        assert_serves(server.port)
        with pytest.raises(UpstreamError, match="2/3/1"):
            connect(gateway(server), "ME", [(VERIFICATION, IMPLICIT)])


def test_a_drain_lets_a_running_operation_finish_and_refuses_new_ones() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        asked.set()
        go_on.wait(10)
        yield from studies(3)

    with serving(Handlers(find=find)) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(find_request())
        assert asked.wait(5)
        clean: list[bool] = []
        stopping = threading.Thread(target=lambda: clean.append(server.stop(drain=10)))
        port = server.port
        stopping.start()
        wait_until(lambda: _refuses(port), "no new connection is taken")
        go_on.set()
        statuses = [status_of(found) for found in iter(peer.pdu, b"") if found[0] == pdu.P_DATA and found[11] == 3]
        stopping.join(10)
        assert statuses == [0xFF00, 0xFF00, 0xFF00, 0]
        assert clean == [True]


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_drain_has_an_end() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        asked.set()
        wait_until(cancelled, "the connection is cut", seconds=10)
        go_on.set()
        return iter(())

    with serving(Handlers(find=find), deadlines=SHORT) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        peer.send(find_request())
        assert asked.wait(5)
        assert not server.stop(drain=0.2)
        assert go_on.wait(5)


def test_cancel_in_every_state() -> None:
    """Before an operation, during it, after it, and for another one."""
    cancel = pdu.message(1, Command(Field.C_CANCEL, responding_to=5).encode(), None, 16384)
    started = threading.Event()

    def find(query: Query, caller: Caller, cancelled: Cancelled) -> Iterator[Attributes]:
        started.set()
        yield from studies(2)
        wait_until(lambda: cancelled() or slow.is_set(), "cancelled")

    slow = threading.Event()
    with serving(Handlers(find=find)) as server, raw(server.port) as peer:
        peer.associate([(STUDY_ROOT_FIND, EXPLICIT)])
        slow.set()
        peer.send(cancel + find_request(1))
        assert final_status(peer) == 0  # nothing was running
        started.clear()
        slow.clear()
        peer.send(find_request(5))
        assert started.wait(5)
        peer.send(cancel)
        assert final_status(peer) == 0xFE00
        slow.set()
        peer.send(cancel + find_request(7))
        assert final_status(peer) == 0


def final_status(peer: Raw) -> int | None:
    while True:
        found = peer.pdu()
        if found[11] == 3 and (status := status_of(found)) != 0xFF00:
            return status


def test_an_even_context_id_and_an_unlimited_window_are_served() -> None:
    """As dcm4che's tools send them."""
    request = AssociateRequest("ME", "GATEWAY", (Proposed(2, VERIFICATION, (IMPLICIT,)),), 0, window=(0, 0))
    echo = pdu.message(2, Command(Field.C_ECHO, message_id=1, sop_class=VERIFICATION).encode(), None, 16384)
    with serving(Handlers()) as server, raw(server.port) as peer:
        peer.send(acse.encode_request(request))
        accept = acse.decode_accept(peer.pdu())
        assert (accept.contexts, accept.window) == ((Answered(2, 0, IMPLICIT),), (1, 1))
        peer.send(echo)
        assert status_of(peer.pdu()) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_messages_end_their_own_association_only(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = find_request() + store_request(bytes(300)).replace(b"\1\x03", b"\3\x03")
    mangled = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        mangled[data.draw(st.integers(0, len(mangled) - 1))] = data.draw(st.integers(0, 255))
    tmp_path = tmp_path_factory.mktemp("fuzz")
    handlers = Handlers(find=Finder(studies(2)), store=Folder(tmp_path))
    with serving(handlers, deadlines=Deadlines(setup=1, idle=5, network=1, linger=1)) as server:
        with raw(server.port) as peer:
            peer.associate([(STUDY_ROOT_FIND, EXPLICIT), (CT, EXPLICIT)])
            peer.send(bytes(mangled))
            peer.sock.shutdown(socket.SHUT_WR)
            peer.ends()
        wait_until(lambda: server.active == 0, "its slot is free")
        assert_serves(server.port)
    assert not list(tmp_path.glob("*.part"))


# Peers that we call.


class Script(threading.Thread):
    """A peer that accepts our association and then does what a test wants."""

    def __init__(self, *answers: bytes, accept: bool = True, close: bool = True) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answers = answers
        self._accept = accept
        self._close = close
        self.port = int(self._listener.getsockname()[1])
        self.received: list[bytes] = []
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        sock, _ = self._listener.accept()
        self._listener.close()
        with sock:
            peer = Raw(sock)
            request = acse.decode_request(peer.pdu())
            if self._accept:
                answered = tuple(Answered(one.id, 0, one.transfer_syntaxes[0]) for one in request.contexts)
                peer.send(acse.encode_accept(AssociateAccept(answered, 16384), request))
            for answer in self._answers:
                self.received.append(peer.pdu())
                peer.send(answer)
            while not self._close and (found := peer.pdu()):
                self.received.append(found)
        self.done.set()

    def associate(self) -> Association:
        return connect(peer_at(self.port, Timeouts(2, 2, 1, 1)), "ME", [(STUDY_ROOT_FIND, EXPLICIT)])


_REQUEST = Command(Field.C_FIND, message_id=1, sop_class=STUDY_ROOT_FIND)


def pending(identifier: bytes | None = None) -> bytes:
    command = response(_REQUEST, 0xFF00, has_dataset=True).encode()
    return pdu.message(1, command, identifier or studies(1)[0].encode(implicit=False), 16384)


def final(status: int) -> bytes:
    return pdu.message(1, response(_REQUEST, status).encode(), None, 16384)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (final(0xA700), UpstreamKind.STATUS),
        (final(0xFE00), UpstreamKind.STATUS),
        (final(0xB000), UpstreamKind.STATUS),
        (pending() + final(0xC001), UpstreamKind.STATUS),
        (pending() + pdu.abort(), UpstreamKind.ABORTED),
        (pending(), UpstreamKind.ABORTED),
        (pending() + pdu.RELEASE_REQUEST, UpstreamKind.PROTOCOL),
        (pending(b"\x08\x00\x05\x00CS\xff\xff"), UpstreamKind.PROTOCOL),
        (pdu.message(1, response(_REQUEST, 0xFF00).encode(), None, 16384), UpstreamKind.PROTOCOL),
        (pdu.message(1, Command(0x8020, responding_to=9, status=0).encode(), None, 16384), UpstreamKind.PROTOCOL),
        (pdu.message(1, Command(0x8020, responding_to=1).encode(), None, 16384), UpstreamKind.PROTOCOL),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", UpstreamKind.PROTOCOL),
        (pdu.message(99, b"", None, 16384), UpstreamKind.PROTOCOL),
    ],
)
def test_anything_but_success_is_no_answer(answer: bytes, kind: UpstreamKind) -> None:
    script = Script(answer)
    association = script.associate()
    with pytest.raises(UpstreamError) as caught:
        list(association.find(STUDY_ROOT_FIND, QUERY))
    assert caught.value.kind is kind
    association.abort()
    assert script.done.wait(5)


def test_silence_is_no_answer() -> None:
    script = Script(b"", close=False)
    association = script.associate()
    began = monotonic()
    with pytest.raises(UpstreamError) as caught:
        list(association.find(STUDY_ROOT_FIND, QUERY))
    assert caught.value.kind is UpstreamKind.TIMEOUT
    assert monotonic() - began < 4
    assert not association.is_open
    assert script.done.wait(5)


def test_a_release_collision_is_answered() -> None:
    """The peer asks for a release at the same moment: we answer, and wait for our own answer (PS3.8 9.2, Sta9)."""
    script = Script(pdu.RELEASE_REQUEST, pdu.RELEASE_REPLY)
    script.associate().release()
    assert script.done.wait(5)
    assert script.received == [pdu.RELEASE_REQUEST, pdu.RELEASE_REPLY]


@pytest.mark.parametrize("answer", [b"", pdu.abort(2), pdu.RELEASE_REPLY, b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_an_association_that_is_not_answered_as_one_raises(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                Raw(sock).pdu()
                sock.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()

        with pytest.raises(UpstreamError) as caught:
            connect(peer_at(listener.getsockname()[1]), "ME", [(VERIFICATION, IMPLICIT)])
        assert caught.value.kind in {UpstreamKind.ABORTED, UpstreamKind.PROTOCOL}
        thread.join(5)


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        with pytest.raises(UpstreamError) as caught:
            connect(peer_at(unused.getsockname()[1]), "ME", [(VERIFICATION, IMPLICIT)])
    assert caught.value.kind is UpstreamKind.UNREACHABLE


def test_a_file_that_shrinks_while_it_is_sent_aborts_its_association_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    outgoing = instance(tmp_path, "1.2.3", 40_000_000)

    class Shrinking(Folder):
        def begin(self, request: StoreRequest) -> FolderIncoming:
            Path(outgoing.path).write_bytes(b"")
            return super().begin(request)

    folder = Shrinking(tmp_path / "in")
    with serving(Handlers(store=folder)) as server:
        association = connect(gateway(server), "ME", [(CT, EXPLICIT)])
        with pytest.raises(UpstreamError) as caught:
            association.store(outgoing)
        assert caught.value.kind is UpstreamKind.ABORTED
        assert folder.aborted.wait(5)
        assert_serves(server.port)


def test_a_move_to_a_title_that_is_none_is_an_unknown_destination() -> None:
    def move(
        retrieve: Retrieve, destination: str, caller: Caller, originator: Originator, cancelled: Cancelled
    ) -> Iterator[SubOperations]:
        raise AssertionError("not reached")

    identifier = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"})
    with (
        serving(Handlers(move=move)) as server,
        connect(gateway(server), "ME", [(STUDY_ROOT_MOVE, EXPLICIT)]) as association,
    ):
        (answer,) = association.move(STUDY_ROOT_MOVE, identifier, "")
    assert (answer.status, answer.remaining) == (0xA801, None)

"""Clients that vanish, flood, drip and say nothing; and callers who may not what others may."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from faults.watch import FIND, MOVE, held
from faults.world import BOUND, NEW, OLD, STUDY, Broken, Scenario, World, question, require, together, told
from gateway.dicom.attributes import Attributes
from gateway.dimse import acse, pdu
from gateway.dimse.command import Command, Field
from gateway.dimse.negotiation import AssociateRequest, propose
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT
from gateway.errors import UpstreamError, UpstreamKind
from tests.dimse.raw import Raw
from tests.support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
_RESET = struct.pack("ii", 1, 0)


def request_bytes(aet: str, *sop_classes: str) -> bytes:
    """An association request."""
    return acse.encode_request(
        AssociateRequest(aet, "GATEWAY", propose([(one, EXPLICIT) for one in sop_classes]), pdu.MAX_PDU)
    )


@contextlib.contextmanager
def associated(port: int, aet: str, *sop_classes: str) -> Iterator[Raw]:
    """A raw association; the socket is closed at the end, without a word."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        line = Raw(sock)
        line.send(request_bytes(aet, *sop_classes))
        answer = line.pdu()
        require(answer[:1] == bytes([pdu.ASSOCIATE_AC]), f"not accepted: {answer[:10].hex()}")
        yield line


def vanishing(world: World) -> str:
    """Clients that are reset in the middle of each service leave no slot, file or thread behind."""
    asked = question().encode(implicit=False)
    retrieve = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": STUDY}).encode(implicit=False)

    def command(field: Field, sop_class: str, **values: str) -> Command:
        return Command(field, message_id=1, sop_class=sop_class, priority=0, has_dataset=True, **values)  # type: ignore[arg-type]

    whole = {
        "find": (FIND, command(Field.C_FIND, FIND), asked),
        "move": (MOVE, command(Field.C_MOVE, MOVE, destination="VIEWER"), retrieve),
        "get": (GET, command(Field.C_GET, GET), retrieve),
        "store": (CT, command(Field.C_STORE, CT, sop_instance="1.2.3.4.5"), bytes(200_000)),
    }
    clients = 20 if world.quick else 100

    def vanish(number: int) -> None:
        sop_class, asked, data = list(whole.values())[number % len(whole)]
        message = pdu.message(1, asked.encode(), data, 16384)
        with associated(world.gateway.port, "FLOOD", sop_class) as line:
            line.send(message[: len(message) // 2] if number % 3 == 0 or asked.field == Field.C_STORE else message)
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    for start in range(0, clients, 20):
        together(20, lambda number, start=start: vanish(start + number))  # type: ignore[misc]
    wait_until(lambda: _associations(world) <= 1, "the slots are free", seconds=BOUND)
    return f"{clients} clients reset in find, move, get and store"


def _associations(world: World) -> float:
    return world.gateway.metric("associations_active", role="acceptor")


def two_hundred(world: World) -> str:
    """200 associations at once, all of them asking."""
    count, rounds = 200, 2 if world.quick else 5
    barrier = threading.Barrier(count)
    slowest, lock, answered = [0.0], threading.Lock(), [0]

    def ask(_: int) -> None:
        with connect(world.peer(patience=40), "FLOOD", [(FIND, EXPLICIT)]) as association:
            barrier.wait(60)
            for _ in range(rounds):
                began = monotonic()
                require(told(list(association.find(FIND, question()))) == "new", "a wrong answer under load")
                with lock:
                    slowest[0] = max(slowest[0], monotonic() - began)
                    answered[0] += 1
            barrier.wait(60)

    began = monotonic()
    together(count, ask)
    seconds = monotonic() - began
    world.loads.append(f"200 associations, {world.workers} worker{'s' * (world.workers > 1)}")
    return f"{count} open at once, {answered[0]} queries right in {seconds:.1f} s, longest {slowest[0]:.1f} s"


def too_many(world: World) -> str:
    """More than are allowed: the rest are rejected as transient, and there is room again afterwards."""
    open_at_once, rejected = [0], [0]
    with contextlib.ExitStack() as stack:
        for _ in range(280):
            try:
                stack.enter_context(_opened(world))
                open_at_once[0] += 1
            except _Rejected:
                rejected[0] += 1
        require(open_at_once[0] == 240, f"{open_at_once[0]} open at once, 240 are allowed to a peer in all workers")
        require(rejected[0] == 40, f"{rejected[0]} rejected of 280")
    wait_until(lambda: _associations(world) <= 1, "the slots are free", seconds=2 * BOUND)
    return f"{open_at_once[0]} accepted, {rejected[0]} rejected with 2/3/2"


class _Rejected(Exception):
    pass


@contextlib.contextmanager
def _opened(world: World) -> Iterator[Raw]:
    with socket.create_connection(("127.0.0.1", world.gateway.port), 10) as sock:
        line = Raw(sock)
        line.send(request_bytes("FLOOD", FIND))
        answer = line.pdu()
        if answer[:1] == bytes([pdu.ASSOCIATE_RJ]):
            require(answer[7:10] == b"\x02\x03\x02", f"rejected with {answer[7:10].hex()}")
            raise _Rejected
        require(answer[:1] == bytes([pdu.ASSOCIATE_AC]), f"answered with {answer[:10].hex()}")
        yield line


def silent_connects(world: World) -> str:
    """Thousands of TCP connections that never say a word."""
    count = 2000 if world.quick else 5000
    before = held(world.gateway.process.pid)
    most = before.threads
    with contextlib.ExitStack() as stack:
        began = monotonic()
        for number in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", world.gateway.port), 10))
            if number % 200 == 0:
                most = max(most, held(world.gateway.process.pid).threads)
        opened = monotonic() - began
        answered = monotonic()
        require(told(world.find("FLOOD")) == "new", "a wrong answer beside silent connections")
        answered = monotonic() - answered
    wait_until(lambda: _threads(world) <= before.threads + 8, "the threads end", seconds=2 * BOUND)
    return f"{count} connects in {opened:.1f} s, {most - before.threads:+d} threads at most, find {answered:.2f} s"


def _threads(world: World) -> int:
    return held(world.gateway.process.pid).threads


def drips(world: World) -> str:
    """Association requests and messages sent byte by byte are cut at their deadline."""
    request = request_bytes("FLOOD", FIND)
    message = pdu.message(
        1, Command(Field.C_FIND, message_id=1, sop_class=FIND, priority=0, has_dataset=True).encode(),
        question().encode(implicit=False), 16384,
    )  # fmt: skip
    longest, lock = [0.0], threading.Lock()
    pause = threading.Event()

    def drip(number: int) -> None:
        data = request if number % 2 else message
        with contextlib.ExitStack() as stack:
            if number % 2:
                line = Raw(stack.enter_context(socket.create_connection(("127.0.0.1", world.gateway.port), 10)))
            else:
                line = stack.enter_context(associated(world.gateway.port, "FLOOD", FIND))
            began = monotonic()
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for at in range(len(data)):
                    line.send(data[at : at + 1])
                    if pause.wait(0.05) or _hung_up(line.sock):
                        break
                else:
                    raise Broken("a dripping client was not cut")
            with lock:
                longest[0] = max(longest[0], monotonic() - began)

    clients = 30
    together(clients, drip)
    require(longest[0] < BOUND, f"cut after {longest[0]:.1f} s")
    return f"{clients} clients at 20 bytes/s cut, the last after {longest[0]:.1f} s (deadline 1 s)"


def _hung_up(sock: socket.socket) -> bool:
    try:
        data = sock.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not data or data[0] == pdu.ABORT


def permissions(world: World) -> str:
    """Callers with different permissions ask the same at the same time; each gets its own answer."""
    told_new = {value.encode() for value in NEW.values()}
    told_old = {value.encode() for value in OLD.values()}
    rounds = 10 if world.quick else 40
    counts = {"VIEWER": 0, "READER": 0, "refused": 0}
    lock = threading.Lock()

    def ask(number: int) -> None:
        aet, own, others = (
            ("VIEWER", told_new, told_old), ("READER", told_old, told_new)
        )[number % 2]  # fmt: skip
        for _ in range(rounds):
            (answer,) = world.find(aet)
            data = answer.encode(implicit=False)
            require(all(value in data for value in own), f"{aet} was not told its own")
            require(not any(value in data for value in others), f"{aet} was told what only others may know")
            with lock:
                counts[aet] += 1

    def refused(_: int) -> None:
        forbidden: list[Callable[[], object]] = [
            lambda: world.find("NOBODY"), lambda: world.find("STRANGER"), lambda: world.find("ELSEWHERE"),
            lambda: _not_moved(world),
        ]  # fmt: skip
        for attempt in forbidden * rounds:
            try:
                attempt()
            except UpstreamError:
                with lock:
                    counts["refused"] += 1
            else:
                raise Broken("somebody was served who may not ask")

    together(6, lambda number: refused(number) if number > 3 else ask(number))
    return f"{counts['VIEWER']} corrected, {counts['READER']} local, {counts['refused']} refused, none mixed"


def _not_moved(world: World) -> None:
    """READER may not move; that an association without a context for it is refused is as good."""
    final = world.move("READER")
    require(final.status in {0x0124, 0xA801, 0xC000, 0x0122}, f"a move was carried out: {final.status:04X}H")
    require(not final.completed, "instances were moved")
    raise UpstreamError("refused", UpstreamKind.STATUS)


SCENARIOS = [
    Scenario("clients: vanish in the middle", vanishing),
    Scenario("clients: 200 at once", two_hundred),
    Scenario("clients: more than allowed", too_many),
    Scenario("clients: thousands of silent connects", silent_connects),
    Scenario("clients: byte by byte", drips),
    Scenario("callers with different permissions", permissions),
]

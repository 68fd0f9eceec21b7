"""The measuring SCU, the same for every archive and cheaper than all of them.

Requests are bytes made beforehand; of an answer only its end is looked for while the clock runs. What came is counted
afterwards.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from struct import unpack_from
from time import perf_counter

from bench.archives import AET, MAX_PDU, Archive
from bench.data import EXPLICIT, Study
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dimse import acse, pdu
from gateway.dimse.command import Command, Field, decode
from gateway.dimse.negotiation import AssociateRequest, propose
from gateway.dimse.ports import StoreRequest

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
KEYS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
)
_NO_DATASET = b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
_TAIL = 256  # a final response's command set is shorter


def query(**matching: str) -> bytes:
    """A C-FIND request at study level with the twelve keys, whole, ready to be sent."""
    values = {"QueryRetrieveLevel": "STUDY", **dict.fromkeys(KEYS, ""), **matching}
    command = Command(Field.C_FIND, message_id=1, sop_class=STUDY_ROOT_FIND, priority=0, has_dataset=True)
    return pdu.message(1, command.encode(), Attributes.of(values).encode(implicit=False), 16384)


class Client:
    """An association for queries."""

    def __init__(self, archive: Archive) -> None:
        self._sock = socket.create_connection(("127.0.0.1", archive.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = AssociateRequest(AET, archive.aet, propose([(STUDY_ROOT_FIND, EXPLICIT)]), MAX_PDU)
        self._sock.sendall(acse.encode_request(request))
        answer = self._sock.recv(65536)
        assert answer[0] == pdu.ASSOCIATE_AC, f"{archive.name} does not accept"
        self._buffer = memoryview(bytearray(1 << 24))
        self._bytes = self._buffer.obj
        self._length = 0

    def send(self, request: bytes) -> None:
        """Send a request without waiting."""
        self._sock.sendall(request)
        self._length = 0

    def receive(self) -> None:
        """Receive until the final response is there."""
        assert isinstance(self._bytes, bytearray)
        while True:
            count = self._sock.recv_into(self._buffer[self._length :])
            assert count, "connection closed in the middle of an answer"
            start = max(0, self._length - _TAIL)
            self._length += count
            if self._bytes.find(_NO_DATASET, max(start, self._length - _TAIL), self._length) >= 0:
                return

    def find(self, request: bytes) -> None:
        """Ask and receive all answers."""
        self.send(request)
        self.receive()

    def answers(self) -> int:
        """How many answers the last query had.

        Raises:
            AssertionError: it did not end with Success.
        """
        command, found = bytearray(), 0
        data, pos = self._buffer[: self._length], 0
        status = -1
        while pos < len(data):
            length = unpack_from(">L", data, pos + 2)[0]
            for control, value in _values(data[pos + 6 : pos + 6 + length]):
                if control & 1:
                    command += value
                if control == 3:
                    status = decode(bytes(command)).status or 0
                    command.clear()
                found += control == 2
            pos += 6 + length
        assert status == 0, f"final status {status:04X}H"
        return found

    def release(self) -> None:
        """Release and wait for the answer."""
        self._sock.sendall(pdu.RELEASE_REQUEST)
        assert self._sock.recv(64)[:1] == bytes([pdu.RELEASE_RP])
        self._sock.close()


def _values(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    pos = 0
    while pos < len(data):
        length = unpack_from(">L", data, pos)[0]
        yield data[pos + 5], data[pos + 6 : pos + 4 + length]
        pos += 4 + length


@contextmanager
def client(archive: Archive) -> Iterator[Client]:
    """An open association, released at the end."""
    opened = Client(archive)
    yield opened
    opened.release()


def queries_per_second(archive: Archive, requests: Sequence[bytes], clients: int, seconds: float) -> float:
    """Queries answered a second with ``clients`` associations at once, from two processes."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    rates = context.SimpleQueue()
    workers = [
        context.Process(target=_hammer, args=(archive, requests, clients // 2, seconds, barrier, rates))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, f"{archive.name}: a client failed"
    return sum(float(rates.get()) for _ in workers)


def _hammer(
    archive: Archive,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    barrier: Barrier,
    rates: SimpleQueue[float],
) -> None:
    opened = [Client(archive) for _ in range(clients)]
    for request in requests:  # so that each of its processes has answered each of them
        for one in opened:
            one.find(request)
    barrier.wait(60)
    began, turns = perf_counter(), 0
    while perf_counter() - began < seconds:
        for one in opened:
            one.send(requests[turns % len(requests)])
        for one in opened:
            one.receive()
        turns += 1
    rates.put(clients * turns / (perf_counter() - began))
    assert all(one.answers() == 1 for one in opened)
    for one in opened:
        one.release()


def store(archive: Archive, study: Study) -> float:
    """Store instances over one association; the seconds from the first request to the last response.

    What is sent is made beforehand, and the pixels are in memory.

    Raises:
        AssertionError: one was not answered with Success.
    """
    pixels = {one.path: Path(one.path).read_bytes() for one in study.instances}
    classes = sorted({one.sop_class_uid for one in study.instances})
    with socket.create_connection(("127.0.0.1", archive.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proposed = propose([(one, EXPLICIT) for one in classes])
        sock.sendall(acse.encode_request(AssociateRequest(AET, archive.aet, proposed, MAX_PDU)))
        accept = acse.decode_accept(sock.recv(65536))
        room = min(accept.max_length or MAX_PDU, MAX_PDU)
        contexts = {one.abstract_syntax: one.id for one in proposed}
        requests = [_store_request(one, contexts[one.sop_class_uid], pixels[one.path], room) for one in study.instances]
        answers = []
        began = perf_counter()
        for request in requests:
            _send(sock, request)
            answers.append(_receive(sock))
        took = perf_counter() - began
        sock.sendall(pdu.RELEASE_REQUEST)
        assert sock.recv(64)[:1] == bytes([pdu.RELEASE_RP])
    for answer in answers:
        status = decode(answer[12:]).status
        assert status == 0, f"{archive.name}: {status}"
    return took


def _store_request(one: Outgoing, context: int, pixels: bytes, room: int) -> list[pdu.Buffer]:
    command = Command(
        Field.C_STORE,
        message_id=1,
        has_dataset=True,
        sop_class=one.sop_class_uid,
        sop_instance=one.sop_instance_uid,
        priority=0,
    )
    parts = list(pdu.cut(context, command.encode(), room, command=True))
    parts += pdu.cut(context, one.head, room, command=False, last=not one.length)
    if one.length:
        parts += pdu.cut(context, memoryview(pixels)[one.offset : one.offset + one.length], room, command=False)
    return parts


def _send(sock: socket.socket, parts: list[pdu.Buffer]) -> None:
    sent = sock.sendmsg(parts)
    if sent < sum(map(len, parts)):
        sock.sendall(memoryview(b"".join(parts))[sent:])


def _receive(sock: socket.socket) -> bytes:
    """One PDU, a response's command set."""
    data = sock.recv(65536)
    while len(data) < 6 or len(data) < 6 + unpack_from(">L", data, 2)[0]:
        more = sock.recv(65536)
        assert more, "connection closed in the middle of an answer"
        data += more
    return data


class Sink:
    """A Receiver that drops what it gets and counts it."""

    def __init__(self) -> None:
        self.instances = 0
        self._fd = os.open(os.devnull, os.O_WRONLY)

    @property
    def fd(self) -> int:
        """The bit bucket."""
        return self._fd

    def begin(self, request: StoreRequest) -> Sink:  # noqa: ARG002 - one place for all
        """Take an instance."""
        return self

    def commit(self) -> int:
        """Count it."""
        self.instances += 1
        return 0

    def abort(self) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

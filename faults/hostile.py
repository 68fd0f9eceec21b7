"""Bad inputs over the wire: spoilt PDUs, identifiers, DICOM files and HTTP requests, from a seed."""

from __future__ import annotations

import contextlib
import http.client
import socket
from struct import pack
from time import monotonic

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from faults.callers import CT, request_bytes
from faults.mutation import mutated
from faults.watch import FIND, held
from faults.world import Scenario, World, question, require
from gateway.dicom.attributes import Attributes
from gateway.dimse import pdu
from gateway.dimse.command import Command, Field
from tests.dimse.raw import Raw
from tests.support import dicomfiles

_SPOILER = "SPOILER"
_STORE = Command(Field.C_STORE, message_id=1, sop_class=CT, priority=0, has_dataset=True)
_FIND = Command(Field.C_FIND, message_id=1, sop_class=FIND, priority=0, has_dataset=True)


def _counted(world: World, quick: int, full: int) -> int:
    count = quick if world.quick else full
    world.tried += count
    return count


def pdus(world: World) -> str:
    """Whole conversations with spoilt bytes; whatever comes back, the connection ends when the client is through."""
    count, began = _counted(world, 2500, 10000), monotonic()
    request = request_bytes(_SPOILER, FIND, CT)
    message = pdu.message(1, _FIND.encode(), question().encode(implicit=False), 16384)
    whole = [request, request + message + pdu.RELEASE_REQUEST, request + message, request + pdu.abort(0)]
    ends: dict[str, int] = {}
    for _ in range(count):
        data = mutated(world.chance.choice(whole), world.chance, whole)
        with socket.create_connection(("127.0.0.1", world.gateway.port), 10) as sock:
            end = _answer(sock, data)
        ends[end] = ends.get(end, 0) + 1
    return f"{count} in {monotonic() - began:.1f} s: {_shown(ends)}"


def _answer(sock: socket.socket, data: bytes) -> str:
    """What kind of PDU comes last before the gateway closes, once everything is sent."""
    sock.settimeout(10)
    found = b""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while more := sock.recv(65536):
            found = more
    except TimeoutError as error:
        raise AssertionError(f"the gateway neither answers nor closes: {data[:40].hex()}") from error
    except OSError:
        return "reset"
    names = {pdu.ASSOCIATE_AC: "accepted", pdu.ASSOCIATE_RJ: "rejected", pdu.ABORT: "aborted", pdu.P_DATA: "answered",
             pdu.RELEASE_RP: "released"}  # fmt: skip
    return names.get(found[0], "other") if found else "closed"


def _shown(ends: dict[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in sorted(ends.items(), key=lambda one: -one[1]))


class _Line:
    """An association for many messages, opened anew when the gateway has ended it."""

    def __init__(self, world: World, *sop_classes: str) -> None:
        self._world = world
        self._request = request_bytes(_SPOILER, *sop_classes)
        self._raw: Raw | None = None

    def ask(self, message: bytes) -> str:
        """Send one message; the class of the final status, or how the association ended."""
        try:
            line = self._raw or self._opened()
            line.send(message)
            return self._status(line)
        except TimeoutError as error:
            raise AssertionError("the gateway neither answers nor closes") from error
        except (ConnectionResetError, BrokenPipeError):
            self.close()
            return "aborted"

    def _opened(self) -> Raw:
        self._raw = Raw(socket.create_connection(("127.0.0.1", self._world.gateway.port), 10))
        self._raw.send(self._request)
        require(self._raw.pdu()[:1] == bytes([pdu.ASSOCIATE_AC]), "not accepted any more")
        return self._raw

    def _status(self, line: Raw) -> str:
        while data := line.pdu():
            if data[0] != pdu.P_DATA:
                self.close()
                return "aborted"
            at = data.find(b"\x00\x00\x00\x09\x02\x00\x00\x00")
            if not data[11] & 1 or at < 0:
                continue
            status = int.from_bytes(data[at + 8 : at + 10], "little")
            if status & 0xFF00 != 0xFF00:
                return f"{status:04X}H"
        self.close()
        return "closed"

    def close(self) -> None:
        """Hang up."""
        if self._raw:
            self._raw.sock.close()
        self._raw = None


def identifiers(world: World) -> str:
    """C-FIND identifiers with spoilt elements."""
    count, began = _counted(world, 1500, 10000), monotonic()
    nested = question().encode(implicit=False) + b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0" * 3
    dates = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyDate": "20200101-20211231", "StudyTime": "1000-1200",
                           "PatientName": "A*^?", "ModalitiesInStudy": "CT\\MR", "StudyInstanceUID": ""})  # fmt: skip
    whole = [question().encode(implicit=False), nested, dates.encode(implicit=False)]
    command, ends = _FIND.encode(), dict[str, int]()
    line = _Line(world, FIND)
    with contextlib.closing(line):
        for _ in range(count):
            spoilt = mutated(world.chance.choice(whole), world.chance, whole)
            end = line.ask(pdu.message(1, command, spoilt, 16384))
            ends[end] = ends.get(end, 0) + 1
    require(ends.get("0110H", 0) == 0, "an identifier made a handler fail")
    return f"{count} in {monotonic() - began:.1f} s: {_shown(ends)}"


def files(world: World) -> str:
    """C-STOREs of spoilt data sets, of path-like and foreign UIDs; what is kept is whole, what is not is refused."""
    count, began = _counted(world, 600, 4000), monotonic()
    dataset = dicomfiles.instance(
        "spoilt", "1", 1, "CT", PatientName="SPOILT", PatientID="SPOILT", PixelData=b"\0" * 64
    )
    dataset.Rows = dataset.Columns = 4
    heads = _encoded(dataset)
    own = str(dataset.SOPInstanceUID).encode()
    ends: dict[str, int] = {}
    line = _Line(world, CT)
    before = {path for path in world.folder.rglob("*") if ".part" in path.name}
    with contextlib.closing(line):
        for number in range(count):
            uid = f"1.2.826.0.1.3680043.8.498.5.{world.workers}.{number}"
            data = heads.replace(own, uid.encode().ljust(len(own), b"\0"))
            data, uid = _spoilt(data, uid, number, world)
            _STORE.sop_instance = uid
            end = line.ask(pdu.message(1, _STORE.encode(), data, 16384))
            ends[end] = ends.get(end, 0) + 1
    left = {path for path in world.folder.rglob("*") if ".part" in path.name} - before
    require(not left, f"{len(left)} temporary files are left")
    outside = list(world.folder.rglob("*passwd*"))
    require(not outside, f"a file named by a UID: {outside[:1]}")
    return f"{count} in {monotonic() - began:.1f} s: {_shown(ends)}"


def _encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


_NASTY = ("../../../../tmp/passwd", "/etc/passwd", "1.2.3/../passwd", "..", "1..2", "9" * 64, "1.2.3\\4", "")


def _spoilt(data: bytes, uid: str, number: int, world: World) -> tuple[bytes, str]:
    """A spoilt data set, and what the command says its UID is."""
    kind = number % 6
    if kind == 0:
        return data, world.chance.choice(_NASTY)
    if kind == 1:
        return data, f"{uid}.7"
    if kind == 2:
        bomb = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20000
        return (data[:200] + bomb if number % 60 == 2 else data[: world.chance.randint(0, len(data))]), uid
    if kind == 3:
        return data.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00UN" + pack("<HL", 0, 0xFFFFFFF0)), uid
    return mutated(data, world.chance), uid


def requests(world: World) -> str:
    """HTTP requests that are none, and those that are not allowed."""
    count, began = _counted(world, 500, 3000), monotonic()
    paths = ["/livez", "/readyz", "/metrics", "/api/cache", "/api/logging", "/modalities", "/api/commitment/jobs",
             "/storage-commitment/1.2.3", "/modalities/VIEWER/store", "/api/commitment/jobs/1/resume"]  # fmt: skip
    bodies = [b"", b"{}", b'{"Resources": ["x"]}', b'{"level": "debug"}', b"[" * 5000, b'{"a": 1e999999}']
    ends: dict[str, int] = {}
    for number in range(count):
        method = world.chance.choice(["GET", "POST", "PUT", "DELETE", "BREW"])
        body = world.chance.choice(bodies)
        path = world.chance.choice(paths)
        whole = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        end = _http(world, mutated(whole, world.chance) if number % 3 else whole)
        ends[end] = ends.get(end, 0) + 1
    require(ends.get("5xx", 0) == 0, f"a server error: {_shown(ends)}")
    require(world.gateway.http("/livez")[0] == 200, "not live any more")
    return f"{count} in {monotonic() - began:.1f} s: {_shown(ends)}"


def _http(world: World, data: bytes) -> str:
    with socket.create_connection(("127.0.0.1", world.gateway.http_port), 10) as sock:
        sock.settimeout(10)
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(sock)
            answer.begin()
        except TimeoutError as error:
            raise AssertionError(f"HTTP neither answers nor closes: {data[:60]!r}") from error
        except (http.client.HTTPException, OSError, ValueError):
            return "closed"
        if answer.status == 503 and b"readyz" in data:
            return "not ready"
        if answer.status >= 500:
            print(f"       {answer.status} to {data[:200]!r}", flush=True)
        return f"{answer.status // 100}xx"


def bombs(world: World) -> str:
    """Lengths that are believed before anything is read: PDUs of 4 GB, and control PDUs of 600 MB."""
    held_before = _memory(world)
    sent: list[bytes] = [
        pack(">BxL", kind, length) + b"x" * 70000
        for kind in (1, 2, 3, 4, 5, 6, 7, 0, 255)
        for length in (0, 1, 5, 1 << 20, 600 << 20, 0xFFFFFFFF)
    ]
    world.tried += len(sent)
    for data in sent:
        with socket.create_connection(("127.0.0.1", world.gateway.port), 10) as sock:
            _answer(sock, data)
    grown = _memory(world) - held_before
    require(grown < 64 << 20, f"{grown >> 20} MiB more")
    return f"{len(sent)} PDUs with impossible lengths, {grown / (1 << 20):+.1f} MiB at most"


def _memory(world: World) -> int:
    return held(world.gateway.process.pid).memory


SCENARIOS = [
    Scenario("bad inputs: PDUs", pdus),
    Scenario("bad inputs: impossible lengths", bombs),
    Scenario("bad inputs: identifiers", identifiers),
    Scenario("bad inputs: DICOM files", files),
    Scenario("bad inputs: HTTP", requests),
]

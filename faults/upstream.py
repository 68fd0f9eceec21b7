"""Leading archives that are down, slow, hanging, half-open, refusing or lying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import pack
from threading import Event
from time import monotonic

from faults.scripted import Behaviour, Line, Scripted, finds
from faults.watch import FIND
from faults.world import BOUND, MOST, NEW, STUDY, Scenario, World, question, require, together, told
from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.dicom.tags import StudyInstanceUID
from gateway.dimse import pdu
from gateway.dimse.command import Command
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import EXPLICIT
from gateway.errors import UpstreamError
from tests.support.ports import closed_port

PENDING = 0xFF00
_ANSWER = Attributes.of({**NEW, "QueryRetrieveLevel": "STUDY", "StudyInstanceUID": STUDY})


@contextmanager
def _instead(world: World, behaviour: Behaviour) -> Iterator[Scripted]:
    """Put a scripted archive in the leading one's place."""
    with Scripted(behaviour) as liar:
        try:
            world.upstream.retarget(liar.port)
            world.upstream.drop()
            yield liar
        finally:
            world.upstream.retarget(world.leading.port)
            world.upstream.drop()


def _asked(world: World, wanted: set[str]) -> str:
    """Ask once with nothing remembered; what came, in time, and nothing partial or made up."""
    world.forget()
    began = monotonic()
    try:
        end = told(world.find())
    except UpstreamError as error:
        require(error.upstream_status, f"no status but {error.message}")
        end = f"{error.upstream_status:04X}H"
    seconds = monotonic() - began
    require(seconds < BOUND, f"answered after {seconds:.1f} s")
    require(end in wanted, f"answered with {end}")
    return f"{end} after {seconds * 1000:.0f} ms"


_LOCAL = {"old", "A700H", "A702H"}


def down(world: World) -> str:
    """Nobody listens there."""
    world.forget()
    world.upstream.retarget(closed_port())
    try:
        return _asked(world, _LOCAL)
    finally:
        world.upstream.retarget(world.leading.port)


def stopped(world: World) -> str:
    """The real archive is stopped and started again."""
    world.leading.stop()
    world.upstream.drop()
    said = _asked(world, _LOCAL)
    world.leading.start()
    return said


def _hangs(line: Line) -> None:
    line.silence()


def _half_open(line: Line) -> None:
    line.accept()
    line.silence()


def _rejects(line: Line) -> None:
    line.reject()


def _refuses(line: Line) -> None:
    line.accept(refuse=3)
    line.silence()


def _aborts(line: Line) -> None:
    line.accept()
    line.message()
    line.send(pdu.abort(0))


def _garbage(line: Line) -> None:
    line.accept()
    line.message()
    line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40)


def _huge(line: Line) -> None:
    line.accept()
    line.message()
    line.send(pack(">BxL", pdu.P_DATA, 0xFFFFFFF0))
    line.silence()


_MADE_UP = Attributes.of({**NEW, "QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3.99"})


def _partial(line: Line, context: int, command: Command, _: bytes) -> None:
    line.answer(context, command, PENDING, _MADE_UP)
    line.answer(context, command, Status.OUT_OF_RESOURCES)


def _cut(line: Line, context: int, command: Command, _: bytes) -> None:
    line.answer(context, command, PENDING, _MADE_UP)
    raise OSError


def _pending_without_identifier(line: Line, context: int, command: Command, _: bytes) -> None:
    line.answer(context, command, PENDING)
    line.answer(context, command, 0)


def _other_message(line: Line, context: int, command: Command, _: bytes) -> None:
    command.message_id = (command.message_id or 0) ^ 0x5555
    line.answer(context, command, PENDING, _ANSWER)
    line.answer(context, command, 0)


def _other_studies(line: Line, context: int, command: Command, _: bytes) -> None:
    for number in range(50):
        other = Attributes.of({"PatientName": "LIE", "PatientID": "LIE", "StudyInstanceUID": f"1.2.3.{number}"})
        line.answer(context, command, PENDING, other)
    line.answer(context, command, 0)


def _deep(line: Line, context: int, command: Command, _: bytes) -> None:
    bomb = b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20000
    line.send(b"".join(pdu.cut(context, _pending_command(command), 16384, command=True)))
    line.send(b"".join(pdu.cut(context, bomb, 16384, command=False)))
    line.answer(context, command, 0)


def _pending_command(command: Command) -> bytes:
    from gateway.dimse.command import response  # noqa: PLC0415

    return response(command, PENDING, has_dataset=True).encode()


_LIES: dict[str, tuple[Behaviour, set[str]]] = {
    "hanging before the accept": (_hangs, _LOCAL),
    "half-open after the accept": (_half_open, _LOCAL),
    "rejecting": (_rejects, _LOCAL),
    "refusing every context": (_refuses, _LOCAL),
    "aborting": (_aborts, _LOCAL),
    "garbage": (_garbage, _LOCAL),
    "a PDU of 4 GB": (_huge, _LOCAL),
    "pending without identifier": (finds(_pending_without_identifier), _LOCAL),
    "answers to another message": (finds(_other_message), _LOCAL),
    "studies nobody asked for": (finds(_other_studies), _LOCAL),
    "20,000 nested sequences": (finds(_deep), _LOCAL),
}


def _scenario(name: str, behaviour: Behaviour, wanted: set[str]) -> Scenario:
    def run(world: World) -> str:
        with _instead(world, behaviour) as liar:
            said = _asked(world, wanted)
            require(liar.calls, "it was never asked")
            return said

    return Scenario(f"leading archive: {name}", run)


def _unfinished(name: str, behaviour: Behaviour) -> Scenario:
    """Some answers and then a failure are not remembered as the answer."""

    def run(world: World) -> str:
        asked = question(StudyInstanceUID="", PatientID=NEW["PatientID"])

        def studies() -> list[str]:
            with connect(world.peer(), "VIEWER", [(FIND, EXPLICIT)]) as association:
                return sorted(one.text(StudyInstanceUID) for one in association.find(FIND, asked))

        world.forget()
        with _instead(world, behaviour) as liar:
            during = len(studies())
            require(liar.calls, "it was never asked")
        after = studies()
        require(after == [STUDY], f"{len(after)} studies once it is repaired, without the made-up one: {after}")
        return f"{during} answers meanwhile, the right one as soon as it is repaired"

    return Scenario(f"leading archive: {name}", run)


class _Endless:
    """Answers for as long as anybody listens."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = Event()

    def __call__(self, line: Line, context: int, command: Command, _: bytes) -> None:
        try:
            while not line.ended.is_set():
                other = Attributes.of({"PatientName": "X", "StudyInstanceUID": f"1.2.3.{self.sent}"})
                line.answer(context, command, PENDING, other)
                self.sent += 1
        finally:
            self.ended.set()


def endless(world: World) -> str:
    """Answers without end: the caller hangs up, and the archive is told."""
    forever = _Endless()
    with _instead(world, finds(forever)):
        world.forget()
        began = monotonic()
        association = connect(world.peer(patience=2 * BOUND), "VIEWER", [(FIND, EXPLICIT)])
        answers = association.find(FIND, question(StudyInstanceUID="", PatientName="X"))
        try:
            for number, _ in enumerate(answers):
                if number == 500:
                    break
        except UpstreamError:
            pass
        association.abort()
        require(forever.ended.wait(BOUND), "the archive without end is not hung up on")
    return f"hung up after {forever.sent} answers, {monotonic() - began:.1f} s"


def endless_heard(world: World) -> str:
    """Answers without end to a caller who listens: hung up on at leading.max_answers, and not remembered."""
    forever = _Endless()
    asked = question(StudyInstanceUID="", PatientID=NEW["PatientID"])
    with _instead(world, finds(forever)):
        world.forget()
        began = monotonic()
        with connect(world.peer(patience=4 * BOUND), "VIEWER", [(FIND, EXPLICIT)]) as association:
            heard = sum(1 for _ in association.find(FIND, asked))
        require(forever.ended.wait(BOUND), "the archive without end is not hung up on")
        require(heard <= MOST, f"{heard} answers passed on, {MOST} are allowed")
        seconds = monotonic() - began
    with connect(world.peer(), "VIEWER", [(FIND, EXPLICIT)]) as association:
        after = [one.text(StudyInstanceUID) for one in association.find(FIND, asked)]
    require(after == [STUDY], f"{len(after)} answers once it is repaired")
    return f"hung up at {MOST} answers, {seconds:.1f} s, the right one as soon as it is repaired"


def herd(world: World) -> str:
    """Many ask the same at once while the archive hangs: one question goes out, all are answered."""
    callers = 40
    with _instead(world, _half_open) as liar:
        world.forget()
        ends: list[str] = []

        def ask(_: int) -> None:
            ends.append(told(world.find("FLOOD")))

        began = monotonic()
        together(callers, ask)
        seconds = monotonic() - began
        require(set(ends) == {"old"}, f"answers: {sorted(set(ends))}")
        require(seconds < 2 * BOUND, f"answered after {seconds:.1f} s")
        require(liar.calls <= 8 * world.workers, f"{liar.calls} connections to an archive that hangs")
        return f"{callers} callers answered in {seconds:.1f} s over {liar.calls} connections"


_MAKERS: list[Callable[[], Scenario]] = [
    lambda: Scenario("leading archive: down", down),
    lambda: Scenario("leading archive: stopped and started", stopped),
]
SCENARIOS = [
    *(make() for make in _MAKERS),
    *(_scenario(name, *lie) for name, lie in _LIES.items()),
    _unfinished("an answer, then A700H", finds(_partial)),
    _unfinished("an answer, then a cut", finds(_cut)),
    Scenario("leading archive: endless answers, and a caller who leaves", endless),
    Scenario("leading archive: endless answers, and a caller who listens", endless_heard),
    Scenario("leading archive: hanging, and a herd", herd),
]

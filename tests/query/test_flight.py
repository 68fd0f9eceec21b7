"""One upstream query for several readers: what streams, what is kept, who cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest

from gateway.dicom.attributes import Attributes
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.query.flight import Flight
from tests.query.doubles import instance
from tests.support.waiting import wait_until


class Upstream:
    """Answers that are there as soon as the test says so."""

    def __init__(self, answers: int, error: UpstreamError | None = None) -> None:
        self.gates = [Event() for _ in range(answers)]
        self.error = error
        self.closed = False
        self.ended: list[tuple[tuple[Attributes, ...] | None, UpstreamError | None]] = []

    def start(self, cancelled: Callable[[], bool]) -> Iterator[Attributes]:  # noqa: ARG002
        try:
            for number, gate in enumerate(self.gates):
                assert gate.wait(10)
                yield instance(number)
            if self.error:
                raise self.error
        except GeneratorExit:
            self.closed = True
            raise

    def flight(self, max_bytes: int = 0) -> Flight:
        return Flight(self.start, lambda answers, error: self.ended.append((answers, error)), max_bytes)

    def open(self) -> None:
        for gate in self.gates:
            gate.set()


def join(flight: Flight, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Attributes]:
    answers = flight.join(cancelled)
    assert answers is not None
    return answers


def test_answers_are_read_while_they_arrive() -> None:
    upstream = Upstream(2)
    answers = join(upstream.flight())
    upstream.gates[0].set()
    assert next(answers) == instance(0)
    assert not upstream.ended
    upstream.gates[1].set()
    assert list(answers) == [instance(1)]
    assert upstream.ended == [((instance(0), instance(1)), None)]


def test_a_late_reader_reads_from_the_first_answer_on() -> None:
    upstream = Upstream(2)
    upstream.open()
    flight = upstream.flight()
    first = join(flight)
    next(first)
    second = join(flight)
    assert list(second) == [instance(0), instance(1)]
    assert list(first) == [instance(1)]
    assert flight.join(lambda: False) is None
    assert len(upstream.ended) == 1


def test_a_failure_is_every_readers_failure() -> None:
    upstream = Upstream(1, UpstreamError("silent", UpstreamKind.TIMEOUT))
    upstream.open()
    flight = upstream.flight()
    readers = [join(flight), join(flight)]
    for reader in readers:
        with pytest.raises(UpstreamError, match="silent"):
            list(reader)
    (ended,) = upstream.ended
    assert ended == (None, upstream.error)


def test_a_reader_that_leaves_does_not_disturb_the_others() -> None:
    upstream = Upstream(2)
    upstream.open()
    flight = upstream.flight()
    leaving, staying = join(flight), join(flight)
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    assert list(staying) == [instance(0), instance(1)]
    assert not upstream.closed


def test_the_last_reader_to_leave_closes_the_query() -> None:
    upstream = Upstream(2)
    upstream.open()
    flight = upstream.flight()
    answers = join(flight)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert upstream.closed
    assert upstream.ended == [(None, None)]
    assert flight.join(lambda: False) is None


def test_upstream_is_cancelled_when_every_reader_has_cancelled() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    one, two = Event(), Event()
    readers = [join(flight, one.is_set), join(flight, two.is_set)]
    one.set()
    assert not flight._abandoned()
    two.set()
    assert flight._abandoned()
    assert flight.join(lambda: False) is None
    for reader in readers:
        with pytest.raises(Cancelled):
            list(reader)


def test_a_waiting_reader_can_cancel() -> None:
    upstream = Upstream(1)
    flight = upstream.flight()
    fetching, waiting = join(flight), join(flight, lambda: True)
    got: list[Attributes] = []
    thread = Thread(target=lambda: got.extend(fetching))
    thread.start()
    with pytest.raises(Cancelled):
        list(waiting)
    upstream.open()
    thread.join(10)
    assert got == [instance(0)]


def test_too_large_an_answer_goes_through_without_being_kept() -> None:
    upstream = Upstream(50)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    answers = join(flight)
    assert len(list(answers)) == 50
    assert upstream.ended == [(None, None)]
    assert len(flight._answers) == 0


def test_nobody_joins_what_is_no_longer_kept() -> None:
    upstream = Upstream(50)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    answers = join(flight)
    for _ in range(10):
        next(answers)
    assert flight.join(lambda: False) is None
    answers.close()  # type: ignore[attr-defined]


def test_a_fast_reader_of_too_large_an_answer_waits_for_the_slow_one() -> None:
    upstream = Upstream(3_000)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    slow, fast = join(flight), join(flight)
    got: list[Attributes] = []
    thread = Thread(target=lambda: got.extend(fast))
    thread.start()
    wait_until(lambda: len(got) >= 1_000, "the fast reader to be a window ahead")
    assert len(flight._answers) <= 1_000
    assert len(list(slow)) == 3_000
    thread.join(10)
    assert len(got) == 3_000

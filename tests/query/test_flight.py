"""One upstream query for several readers: what streams, what is kept, who cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
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
        self.started = False
        self.cancelled: Callable[[], bool] = lambda: False
        self.ended: list[tuple[tuple[Attributes, ...] | None, UpstreamError | None]] = []

    def start(self, cancelled: Callable[[], bool]) -> Iterator[Attributes]:
        self.started, self.cancelled = True, cancelled
        try:
            for number, gate in enumerate(self.gates):
                assert gate.wait(10)
                yield instance(number)
            if self.error:
                raise self.error
        except GeneratorExit:
            self.closed = True
            raise

    def flight(self, max_bytes: int = 0, wanted: Callable[[], bool] = lambda: False) -> Flight:
        def ended(answers: tuple[Attributes, ...] | None, error: UpstreamError | None) -> None:
            self.ended.append((answers, error))

        return Flight(self.start, ended, max_bytes, wanted=wanted)

    def open(self) -> None:
        for gate in self.gates:
            gate.set()


def join(flight: Flight, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Attributes]:
    batches = flight.join(cancelled)
    assert batches is not None
    return flat(batches)


def flat(batches: Iterator[list[Attributes]]) -> Iterator[Attributes]:
    with closing(batches):  # type: ignore[type-var]
        for batch in batches:
            yield from batch


def test_answers_are_read_while_they_arrive() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    answers = join(flight)
    flight.launch()
    upstream.gates[0].set()
    assert next(answers) == instance(0)
    assert not upstream.ended
    upstream.gates[1].set()
    assert list(answers) == [instance(1)]
    assert upstream.ended == [((instance(0), instance(1)), None)]


def test_a_late_reader_reads_from_the_first_answer_on() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    first = join(flight)
    flight.launch()
    upstream.gates[0].set()
    assert next(first) == instance(0)
    second = join(flight)
    upstream.open()
    assert list(second) == [instance(0), instance(1)]
    assert list(first) == [instance(1)]
    assert flight.join(lambda: False) is None
    assert len(upstream.ended) == 1


def test_a_failure_is_every_readers_failure_after_what_came_before_it() -> None:
    upstream = Upstream(1, UpstreamError("silent", UpstreamKind.TIMEOUT))
    upstream.open()
    flight = upstream.flight()
    readers = [join(flight), join(flight)]
    flight.launch()
    for reader in readers:
        assert next(reader) == instance(0)
        with pytest.raises(UpstreamError, match="silent"):
            next(reader)
    assert upstream.ended == [(None, upstream.error)]


def test_a_reader_that_leaves_does_not_disturb_the_others() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    leaving, staying = join(flight), join(flight)
    flight.launch()
    upstream.gates[0].set()
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    upstream.open()
    assert list(staying) == [instance(0), instance(1)]
    assert not upstream.closed


def test_the_last_reader_to_leave_closes_the_query() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    answers = join(flight)
    flight.launch()
    upstream.gates[0].set()
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert flight.join(lambda: False) is None
    upstream.open()
    flight.wait()
    assert upstream.closed
    assert upstream.ended == [(None, None)]


def test_upstream_is_cancelled_when_every_reader_has_left() -> None:
    upstream = Upstream(2)
    flight = upstream.flight()
    one, two = Event(), Event()
    readers = [join(flight, one.is_set), join(flight, two.is_set)]
    flight.launch()
    one.set()
    with pytest.raises(Cancelled):
        next(readers[0])
    assert not upstream.cancelled(), "somebody is still waiting"
    two.set()
    with pytest.raises(Cancelled):
        next(readers[1])
    assert upstream.cancelled()
    assert flight.join(lambda: False) is None
    upstream.open()
    flight.wait()
    assert upstream.ended == [(None, None)]


def test_a_refresh_needs_no_reader() -> None:
    upstream = Upstream(2)
    upstream.open()
    flight = upstream.flight(wanted=lambda: True)
    flight.launch()
    flight.wait()
    assert upstream.ended == [((instance(0), instance(1)), None)]


def test_a_bug_upstream_is_a_failure_of_all_and_not_a_hang() -> None:
    def broken(_: Callable[[], bool]) -> Iterator[Attributes]:
        yield instance(0)
        raise ZeroDivisionError

    flight = Flight(broken, lambda *_: None, 0)
    reader = join(flight)
    flight.launch()
    assert next(reader) == instance(0)
    with pytest.raises(UpstreamError, match="broke off"):
        next(reader)


def test_too_large_an_answer_goes_through_without_being_kept() -> None:
    upstream = Upstream(50)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    answers = join(flight)
    flight.launch()
    assert len(list(answers)) == 50
    assert upstream.ended == [(None, None)]


def test_nobody_joins_what_is_no_longer_kept() -> None:
    upstream = Upstream(5_000)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    answers = join(flight)
    flight.launch()
    wait_until(lambda: len(flight._answers) >= 1_000, "the window to be full")
    assert flight.join(lambda: False) is None
    answers.close()  # type: ignore[attr-defined]


def test_too_large_an_answer_waits_for_the_slowest_reader() -> None:
    upstream = Upstream(5_000)
    upstream.open()
    flight = upstream.flight(max_bytes=5_000)
    slow, fast = join(flight), join(flight)
    flight.launch()
    got: list[Attributes] = []
    thread = Thread(target=lambda: got.extend(fast))
    thread.start()
    wait_until(lambda: len(got) >= 1_000, "the fast reader to be a window ahead")
    assert len(flight._answers) <= 1_000
    assert len(list(slow)) == 5_000
    thread.join(10)
    assert len(got) == 5_000

"""Limits towards a destination, with a simulated clock where time matters."""

import threading

from gateway.retrieve.limits import Limits
from tests.support.waiting import wait_until


def never() -> bool:
    return False


def test_a_rate_lets_the_first_through_and_makes_the_next_wait_for_its_share() -> None:
    now = 100.0
    limits = Limits(bytes_per_second=1000, clock=lambda: now)
    paid: list[float] = []
    limits.pay(5000, never)
    assert now == 100.0

    def second() -> None:
        limits.pay(1000, never)
        paid.append(now)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    now = 105.0
    thread.join(5)
    assert paid == [105.0]
    now = 200.0
    limits.pay(1000, never)  # what was not used is not saved up, but nobody waits either


def test_who_is_stopped_does_not_wait_for_the_rate() -> None:
    limits = Limits(bytes_per_second=1, clock=lambda: 0.0)
    limits.pay(1000, never)
    limits.pay(1000, lambda: True)


def test_places_are_given_back_and_taken_by_who_waits() -> None:
    limits = Limits(associations=1)
    assert limits.acquire(never)
    got = threading.Event()

    def wait() -> None:
        assert limits.acquire(never)
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not limits.acquire(lambda: True)
    assert not got.is_set()
    limits.release()
    wait_until(got.is_set, "the place was taken")
    thread.join()


def test_without_limits_nobody_waits() -> None:
    limits = Limits()
    assert all(limits.acquire(never) for _ in range(1000))
    limits.pay(1 << 40, never)
    limits.pay(1 << 40, never)

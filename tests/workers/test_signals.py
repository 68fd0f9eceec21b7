"""Signals that a process waits for: none is lost, none stops it from stopping."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from gateway.workers.signals import Signals
from tests.support.gateways import gateway
from tests.support.waiting import wait_until


def test_what_comes_is_told_wherever_it_is_delivered_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Signals((signal.SIGUSR1, signal.SIGUSR2)) as signals:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert signals.wait() == {signal.SIGUSR2}
        other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        other.start()
        assert signals.wait() == {signal.SIGUSR1}
        other.join()
        for _ in range(2000):  # more than the descriptor holds is no more than one of each
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.wait() == {signal.SIGUSR1}
        assert signals.wait(0.01) == frozenset()
        for _ in range(2000):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)  # when the descriptor has no room for it
        assert signals.wait() == {signal.SIGUSR1, signal.SIGUSR2}
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_close_upon_another_do_not_keep_a_gateway_from_stopping(tmp_path: Path, workers: int) -> None:
    ae = {"title": "GATEWAY", "port": 0, "workers": workers}
    with gateway(tmp_path / "gw", peers={}, ae=ae) as running:
        for _ in range(3000):
            os.killpg(running.process.pid, signal.SIGHUP)
        for _ in range(20):
            os.killpg(running.process.pid, signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert "killed: they did not end in time" not in running.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_that_is_told_twice_to_stop_says_that_it_stopped_well(tmp_path: Path, workers: int) -> None:
    ae = {"title": "GATEWAY", "port": 0, "workers": workers}
    with gateway(tmp_path / "gw", peers={}, ae=ae) as running:
        os.kill(running.process.pid, signal.SIGTERM)
        wait_until(lambda: "stopping" in running.text, "it begins to stop")
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.process.wait(30) == 0

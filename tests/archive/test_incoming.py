"""Temporary files made ahead of need."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.archive.incoming import Incoming
from tests.support.waiting import wait_until

_NEVER = float("inf")


@pytest.fixture
def incoming(tmp_path: Path) -> Iterator[Incoming]:
    one = Incoming(tmp_path, slow=_NEVER)
    yield one
    one.close()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Incoming]:
    """One for which every file takes long."""
    one = Incoming(tmp_path, slow=0)
    yield one
    one.close()


def test_every_file_is_another_and_empty(incoming: Incoming) -> None:
    taken = [incoming.take() for _ in range(20)]
    assert len({path for path, _ in taken}) == 20
    for path, fd in taken:
        assert Path(path).stat().st_ino == os.fstat(fd).st_ino
        assert os.fstat(fd).st_size == 0
        incoming.give_up(path, fd)


def test_the_next_one_is_made_while_nobody_waits(incoming: Incoming, tmp_path: Path) -> None:
    incoming.give_up(*incoming.take())
    incoming.rest()
    (ready,) = tmp_path.iterdir()
    path, fd = incoming.take()
    assert path == str(ready)
    incoming.drop(path, fd)


def test_nothing_is_made_for_requests_that_store_nothing(incoming: Incoming, tmp_path: Path) -> None:
    incoming.rest()
    assert list(tmp_path.iterdir()) == []
    incoming.give_up(*incoming.take())
    for _ in range(10):
        incoming.rest()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_slow_file_system_has_a_thread_for_it(slow: Incoming, tmp_path: Path) -> None:
    slow.give_up(*slow.take())
    slow.rest()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 3, "three files are ready")
    ready = set(tmp_path.iterdir())
    path, fd = slow.take()
    assert Path(path) in ready
    slow.give_up(path, fd)
    slow.rest()
    wait_until(lambda: not Path(path).exists(), "the name goes")
    assert "incoming" in {one.name for one in threading.enumerate()}


def _is_open(fd: int, path: str) -> bool:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(path)
    except FileNotFoundError:
        return False


def test_a_name_given_up_goes_and_its_file_is_closed(incoming: Incoming) -> None:
    path, fd = incoming.take()
    incoming.give_up(path, fd)
    incoming.rest()
    assert not Path(path).exists()
    assert not _is_open(fd, path)


def test_what_is_given_up_is_gone_when_it_is_asked_for(slow: Incoming) -> None:
    path, fd = slow.take()
    slow.give_up(path, fd)
    slow.clear()
    assert not Path(path).exists()


def test_what_is_dropped_is_gone_at_once(incoming: Incoming, tmp_path: Path) -> None:
    path, fd = incoming.take()
    incoming.drop(path, fd)
    assert list(tmp_path.iterdir()) == []
    assert not _is_open(fd, path)


def test_not_more_names_wait_than_it_says(incoming: Incoming, tmp_path: Path) -> None:
    for _ in range(100):
        incoming.give_up(*incoming.take())
    assert len(list(tmp_path.iterdir())) == 64


def test_nothing_is_left_when_it_is_closed(incoming: Incoming, tmp_path: Path) -> None:
    incoming.give_up(*incoming.take())
    kept, fd = incoming.take()
    incoming.close()
    assert list(tmp_path.iterdir()) == [Path(kept)]
    incoming.give_up(kept, fd)
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_holds_is_left_over(incoming: Incoming, tmp_path: Path) -> None:
    (tmp_path / "dead").touch()
    (tmp_path / "DICOMDIR").touch()
    path, fd = incoming.take()
    assert list(Incoming(tmp_path).leftovers()) == [tmp_path / "dead"]
    incoming.give_up(path, fd)


def test_a_folder_that_is_gone_is_told_to_whoever_asks(tmp_path: Path) -> None:
    one = Incoming(tmp_path / "nowhere")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            one.take()
    (tmp_path / "nowhere").mkdir()
    one.give_up(*one.take())
    one.close()

"""Temporary files made ahead of need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.archive.incoming import Incoming
from tests.support.waiting import wait_until


@pytest.fixture
def incoming(tmp_path: Path) -> Iterator[Incoming]:
    one = Incoming(tmp_path)
    yield one
    one.close()


def test_every_file_is_another_and_empty(incoming: Incoming) -> None:
    taken = [incoming.take() for _ in range(20)]
    assert len({path for path, _ in taken}) == 20
    for path, fd in taken:
        assert path.stat().st_ino == os.fstat(fd).st_ino
        assert os.fstat(fd).st_size == 0
        incoming.give_up(path, fd)


def test_some_are_ready_before_they_are_asked_for(incoming: Incoming, tmp_path: Path) -> None:
    incoming.give_up(*incoming.take())
    wait_until(lambda: len(list(tmp_path.iterdir())) == 3, "three files are ready")
    ready = set(tmp_path.iterdir())
    path, fd = incoming.take()
    assert path in ready
    incoming.give_up(path, fd)


def test_a_name_given_up_goes_and_its_file_is_closed(incoming: Incoming) -> None:
    path, fd = incoming.take()
    incoming.give_up(path, fd)
    wait_until(lambda: not path.exists(), "the name goes")

    def closed() -> bool:
        try:
            return str(Path(f"/proc/self/fd/{fd}").readlink()) != f"{path} (deleted)"
        except FileNotFoundError:
            return True

    wait_until(closed, "the file is closed")


def test_nothing_is_left_when_it_is_closed(incoming: Incoming, tmp_path: Path) -> None:
    incoming.give_up(*incoming.take())
    kept, fd = incoming.take()
    incoming.close()
    assert list(tmp_path.iterdir()) == [kept]
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

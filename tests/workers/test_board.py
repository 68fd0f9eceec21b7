"""What the processes on one port know of each other; test_supervisor has real ones."""

from __future__ import annotations

from gateway.workers.board import Board


def test_counts_of_all_processes_are_added_and_those_of_a_dead_one_are_wiped() -> None:
    board = Board(3)
    for slot in range(3):
        place = board.place(slot)
        place.serves(slot + 1)
        place.add("peer A", slot + 1)
    here = board.place(0)
    assert (here.total, here.count("peer A"), here.count("peer B")) == (6, 6, 0)
    assert not here.is_ahead
    assert board.place(2).is_ahead
    board.wipe(2)
    assert (here.total, here.count("peer A")) == (3, 3)
    here.add("peer A", -1)
    assert here.count("peer A") == 2


def test_times_are_those_of_all_processes() -> None:
    board = Board(2)
    board.place(1).times.put("address 192.0.2.1", 12.5)
    assert board.place(0).times.of("address 192.0.2.1") == 12.5


def test_a_key_is_hardly_ever_counted_for_another() -> None:
    board = Board()
    place = board.place()
    for number in range(200):
        place.add(f"address 192.0.2.{number}", 1)
    assert sum(place.count(f"address 192.0.2.{number}") > 1 for number in range(200)) <= 6
    assert sum(place.count(f"address 198.51.100.{number}") > 0 for number in range(200)) <= 6

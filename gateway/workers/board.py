"""Shared memory of the processes: a number for each, written by its owner and read by all."""

from __future__ import annotations

import mmap
from struct import Struct

_NUMBER = Struct("q")  # aligned, so that it is read and written in one piece


class Board:
    """Associations served by each process; made before the fork.

    Args:
        slots: processes that serve associations.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, (slots + 1) * _NUMBER.size)

    def active(self, slot: int) -> int:
        """Associations that a process serves."""
        return int(_NUMBER.unpack_from(self._memory, slot * _NUMBER.size)[0])

    def set_active(self, slot: int, count: int) -> None:
        """Note how many associations a process serves; 0 when it has died."""
        _NUMBER.pack_into(self._memory, slot * _NUMBER.size, count)

    @property
    def restarts(self) -> int:
        """Processes replaced so far."""
        return self.active(self.slots)

    def note_restart(self) -> None:
        """Count a process that was replaced; only the parent does."""
        self.set_active(self.slots, self.restarts + 1)

    def place(self, slot: int) -> Place:
        """One process's view."""
        return Place(self, slot)


class Place:
    """What the server of one process asks of the board."""

    def __init__(self, board: Board, slot: int) -> None:
        self._board = board
        self._slot = slot

    def serves(self, count: int) -> None:
        """Note how many associations this process serves."""
        self._board.set_active(self._slot, count)

    @property
    def elsewhere(self) -> int:
        """Associations of the other processes."""
        return sum(self._board.active(slot) for slot in range(self._board.slots) if slot != self._slot)

    @property
    def is_ahead(self) -> bool:
        """Whether another process serves fewer associations, and so should accept the next one."""
        mine = self._board.active(self._slot)
        return any(self._board.active(slot) < mine for slot in range(self._board.slots) if slot != self._slot)

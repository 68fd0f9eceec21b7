"""Shared memory of the processes on one port: who takes up how much of all of them together.

Each process writes its own counts and reads those of all, so no lock is needed and none can be left held; the parent
wipes those of a process that has died. What is counted by a key, such as an address, is kept in the two cells that
:func:`gateway.rates.cells_of` gives it, so a board has one size however many call.
"""

from __future__ import annotations

import mmap

from gateway.rates import CELLS, Times, cells_of

_ROWS = 2 * CELLS
_SLOT = 1 + _ROWS
"""Numbers of one process: its associations in all, then those by key."""


class Board:
    """Made before the fork.

    Args:
        slots: processes that serve associations.

    Attributes:
        times: when the buckets of the rates that hold for all processes are full again.
    """

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        end = (slots * _SLOT + 1) * 8
        memory = memoryview(mmap.mmap(-1, end + _ROWS * 8))
        self._counts = memory[:end].cast("q")  # aligned, so that each is written in one piece
        self._slots = [self._counts[slot * _SLOT : (slot + 1) * _SLOT] for slot in range(slots)]
        self.times = Times(memory[end:].cast("d"))

    @property
    def restarts(self) -> int:
        """Processes replaced so far."""
        return self._counts[-1]

    def note_restart(self) -> None:
        """Count a process that was replaced; only the parent does."""
        self._counts[-1] += 1

    def active(self, slot: int) -> int:
        """Associations that a process serves."""
        return self._slots[slot][0]

    def set_active(self, slot: int, count: int) -> None:
        """Note how many associations a process serves."""
        self._slots[slot][0] = count

    def add(self, slot: int, key: str, change: int) -> None:
        """Count what a process has more, or less, of a key."""
        one, other = self._keyed(key)
        self._slots[slot][one] += change
        self._slots[slot][other] += change

    def count(self, key: str) -> int:
        """What all processes have of a key; too much only where both its cells are shared."""
        return min(sum(slot[cell] for slot in self._slots) for cell in self._keyed(key))

    def wipe(self, slot: int) -> None:
        """Forget what a process has that has died; only the parent does."""
        self._slots[slot][:] = memoryview(bytes(_SLOT * 8)).cast("q")

    def place(self, slot: int = 0) -> Place:
        """One process's view."""
        return Place(self, slot)

    @staticmethod
    def _keyed(key: str) -> tuple[int, int]:
        one, other = cells_of(key)
        return 1 + one, 1 + other


class Place:
    """What the server of one process asks of the board.

    Attributes:
        times: see :class:`Board`.
    """

    def __init__(self, board: Board, slot: int) -> None:
        self._board = board
        self._slot = slot
        self.times = board.times

    def serves(self, count: int) -> None:
        """Note how many associations this process serves."""
        self._board.set_active(self._slot, count)

    def add(self, key: str, change: int) -> None:
        """Count what this process has more, or less, of a key."""
        self._board.add(self._slot, key, change)

    def count(self, key: str) -> int:
        """What all processes have of a key."""
        return self._board.count(key)

    @property
    def total(self) -> int:
        """Associations of all processes."""
        return sum(self._board.active(slot) for slot in range(self._board.slots))

    @property
    def is_ahead(self) -> bool:
        """Whether another process serves fewer associations, and so should accept the next one."""
        mine = self._board.active(self._slot)
        return any(self._board.active(slot) < mine for slot in range(self._board.slots) if slot != self._slot)

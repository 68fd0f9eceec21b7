"""Memory that the C library holds: few places to look for some, and what is free in them given back.

glibc gives threads arenas of their own, eight a core, and what one has freed does not serve another: with a thread an
association, each arena grows to what its largest operation took. And it gives back the end of an arena only, not what
is free between two things that stay. Both are told to do otherwise; other C libraries have no such calls.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

GIVE_BACK_SECONDS = 60.0
_M_ARENA_MAX = -8  # malloc.h
_libc = ctypes.CDLL(None)


def share_arenas() -> None:
    """Have all threads take from the same two arenas; to be called before there are any threads.

    The interpreter's lock leaves them little to contend for.
    """
    with suppress(AttributeError):
        _libc.mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return free pages to the kernel; some milliseconds for 100 MiB."""
    with suppress(AttributeError):
        _libc.malloc_trim(0)

"""What is stored under the UID of an instance that came, and whether it is the same."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from gateway.archive.heads import Head, read_head
from gateway.errors import BadInstance

_BLOCK = 1 << 20


class There(Enum):
    """What is stored under the UID of an instance that came."""

    SAME = "same"
    OTHER = "other"
    LOST = "lost"


def compared(stored: Path, head: Head, fd: int) -> There:
    """Whether a stored file has the same data set, byte for byte, in the same transfer syntax."""
    try:
        other = read_head(stored)
        file = os.open(stored, os.O_RDONLY)
    except (BadInstance, FileNotFoundError):
        return There.LOST
    if other.transfer_syntax_uid != head.transfer_syntax_uid or _length(other) != _length(head):
        os.close(file)
        return There.OTHER
    try:
        shift = other.dataset_offset - head.dataset_offset
        blocks = range(head.dataset_offset, head.size, _BLOCK)
        same = all(os.pread(fd, _BLOCK, at) == os.pread(file, _BLOCK, at + shift) for at in blocks)
    finally:
        os.close(file)
    return There.SAME if same else There.OTHER


def _length(head: Head) -> int:
    return head.size - head.dataset_offset

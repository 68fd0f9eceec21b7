"""What an acknowledged C-STORE survives."""

from __future__ import annotations

from enum import Enum


class Durability(Enum):
    """What an acknowledged C-STORE survives; ``archive.durability``."""

    FULL = "full"
    """A power cut: files, folders and index are synced before Success."""
    DATA = "data"
    """A kill; after a power cut the files' bytes are there, but folders and index may be some seconds old."""
    NONE = "none"
    """A kill; nothing is synced."""

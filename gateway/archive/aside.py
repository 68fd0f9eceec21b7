"""``python -m gateway.archive.aside DICOMDIR INDEX DURABILITY``: merge and publish in a process of its own.

A million records take some seconds of computing, which the threads that serve would have to share.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.errors import StorageError
from gateway.logs import get_logger

_NICE = 10


def main(dicomdir: str, index: str, durability: str) -> int:
    """Do it, and say in the exit status whether it was done."""
    os.nice(_NICE)
    archive = LocalArchive(Path(dicomdir), index=Path(index), durability=Durability(durability))
    try:
        archive.sync()
    except StorageError as error:
        get_logger("archive").error("the DICOMDIR was not imported", reason=error.message)
        return 1
    finally:
        archive.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

"""Digests of files that were read for a commitment, so that bytes which changed by themselves are seen the next time.

A digest belongs to one file: written anew or replaced (another inode, size or time of change), it gets a new one. So
this finds a disk that forgets, not a program that rewrites.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.commitment.database import Database


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file held.

    Attributes:
        file: which file it was: changes whenever it is written or replaced.
        sha256: of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


class DigestLedger:
    """Digests on disk, by SOP Instance UID."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, sop_instance_uids: Sequence[str]) -> Mapping[str, Digest]:
        """The digests there are for these instances."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM digest WHERE sop_instance_uid IN (SELECT value FROM json_each(?))",
                (json.dumps(sop_instance_uids),),
            )
            return {row["sop_instance_uid"]: Digest(row["file"], row["sha256"]) for row in rows}

    def remember(self, digests: Mapping[str, Digest]) -> None:
        """Write digests down, in place of older ones."""
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO digest VALUES (?, ?, ?)",
                [(uid, one.file, one.sha256) for uid, one in digests.items()],
            )

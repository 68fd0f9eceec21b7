"""What a DICOMDIR is made of: its elements, the shape of the usual record, and a record as a value (PS3.3 Annex F)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

NEXT, IN_USE, LOWER, TYPE = 0x00041400, 0x00041410, 0x00041420, 0x00041430
PRIVATE_UID, FILE_ID = 0x00041432, 0x00041500
SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX = 0x00041510, 0x00041511, 0x00041512
FIRST_ROOT, CONSISTENCY, SEQUENCE = 0x00041200, 0x00041212, 0x00041220

MAX_BYTES = 2**31 - 1
"""dcm4che keeps offsets in an int; a larger file-set has to be split."""

ITEM = b"\xfe\xff\x00\xe0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
RECORD = Struct("<4sL8sL8sH8sL6sH")
"""Item tag and length, then next, in use, lower and the header of the type: the shape of the usual record."""
NEXT_HEADER, USE_HEADER, LOWER_HEADER = b"\4\0\0\x14UL\4\0", b"\4\0\x10\x14US\2\0", b"\4\0\x20\x14UL\4\0"
TYPE_HEADER = b"\4\0\x30\x14CS"
NEXT_AT, USE_AT, LOWER_AT, BODY_AT = 16, 28, 38, 42
"""Offsets from a record's item tag to the values of its links, and to its type element."""


class Record(NamedTuple):
    """One directory record.

    Attributes:
        offset: of its item tag from the beginning of the file.
        next: offset of the next record of the same parent; 0 for none.
        lower: offset of the first child; 0 for none.
        file_id: as on the wire, components divided by backslashes; empty where the record refers to no file.
        body: everything from Directory Record Type on, explicit VR little endian.
        split: where in ``body`` the attributes of the entity begin, behind group 0004.
    """

    offset: int
    next: int
    lower: int
    in_use: bool
    type: str
    file_id: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    body: bytes
    split: int

    @property
    def attributes(self) -> bytes:
        """The entity's attributes, encoded in explicit VR little endian."""
        return self.body[self.split :]


@dataclass(frozen=True)
class Quarantined:
    """A record, or a link, that could not be used."""

    offset: int
    reason: str

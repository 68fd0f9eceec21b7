"""Composite instances as values: where one is stored, and what is put on the wire for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance whose bytes are on this machine, in a DICOM file (PS3.10).

    Attributes:
        path: the file; a string, since this package opens nothing.
        size: of the whole file in bytes.
        dataset_offset: where the data set begins, behind preamble and File Meta Information.
    """

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    size: int
    dataset_offset: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What one C-STORE request carries: ``head`` followed by a range of a file.

    An uncoerced instance has an empty head and the whole data set as its range. A coerced one has its changed head in
    memory and the untouched rest, pixel data included, in the file.

    Attributes:
        transfer_syntax_uid: of the data set as sent.
        offset: of the range in the file, in bytes.
        length: of the range, in bytes.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    head: bytes
    path: str
    offset: int
    length: int

    @classmethod
    def untouched(cls, instance: StoredInstance) -> Outgoing:
        """The stored data set as it is."""
        return cls(
            instance.sop_class_uid,
            instance.sop_instance_uid,
            instance.transfer_syntax_uid,
            b"",
            instance.path,
            instance.dataset_offset,
            instance.size - instance.dataset_offset,
        )

"""DICOM files of a folder, for trying rules on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from gateway.coercion.splice import read_head
from gateway.dicom import tags
from gateway.dicom.instance import StoredInstance
from gateway.errors import BadInstance


def files(path: Path) -> Iterator[Path]:
    """The DICOM files under a path, or the path itself where it is a file; a DICOMDIR is none of them."""
    if path.is_file():
        yield path
        return
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        if is_dicom(file) and file.name.upper() != "DICOMDIR":
            yield file


def is_dicom(path: Path) -> bool:
    """Whether a file has the prefix of PS3.10 7.1."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def instance_of(path: Path) -> StoredInstance:
    """What an index would know of a file.

    Raises:
        BadInstance: no DICOM file, or one whose head cannot be read.
    """
    if not is_dicom(path):
        raise BadInstance(f"{path} is no DICOM file")
    try:
        meta = read_file_meta_info(path)
        offset = 144 + int(meta.FileMetaInformationGroupLength)
        syntax = str(meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, ValueError) as error:
        raise BadInstance(f"{path} has no File Meta Information") from error
    bare = StoredInstance("", "", "", "", "", syntax, str(path), path.stat().st_size, offset)
    head = read_head(bare, tags.SeriesInstanceUID + 1)
    return StoredInstance(
        head.text(tags.PatientID),
        head.text(tags.StudyInstanceUID),
        head.text(tags.SeriesInstanceUID),
        head.text(tags.SOPInstanceUID),
        head.text(tags.SOPClassUID),
        syntax,
        str(path),
        bare.size,
        offset,
    )

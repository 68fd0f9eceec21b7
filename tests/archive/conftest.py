"""Instances and archives for the tests of the archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.dicom import encoding
from gateway.dicom.attributes import Attributes, Element
from gateway.dicom.caller import Caller
from gateway.dimse.ports import StoreRequest
from gateway.errors import StorageError

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CALLER = Caller("SENDER")

Made = tuple[StoreRequest, bytes]
Make = Callable[..., Made]


def instance(patient: int = 1, study: int = 1, series: int = 1, number: int = 1, **values: str) -> Made:
    """A small CT as a C-STORE request and its data set."""
    uid = f"1.2.3.{patient}.{study}.{series}.{number}"
    attributes = Attributes.of(
        {
            "SOPClassUID": CT,
            "SOPInstanceUID": uid,
            "StudyDate": f"2024{patient % 12 + 1:02d}{study % 28 + 1:02d}",
            "StudyTime": "101500",
            "AccessionNumber": f"A{patient}-{study}",
            "Modality": "CT",
            "PatientName": f"Patient^{patient}",
            "PatientID": f"P{patient}",
            "PatientBirthDate": "19700101",
            "StudyDescription": "Thorax",
            "StudyInstanceUID": f"1.2.3.{patient}.{study}",
            "SeriesInstanceUID": f"1.2.3.{patient}.{study}.{series}",
            "SeriesNumber": str(series),
            "InstanceNumber": str(number),
            "Rows": "2",
            "Columns": "2",
        }
        | values
    )
    request = StoreRequest(CT, values.get("SOPInstanceUID", uid), EXPLICIT, CALLER)
    pixels = Element("OW", bytes(range(8)))
    return request, attributes.encode(implicit=False) + encoding.write([(0x7FE00010, pixels)], implicit=False)


def send(archive: LocalArchive, made: Made) -> int:
    """Store as the wire does it; the status."""
    request, data = made
    incoming = archive.begin(request)
    try:
        while data:
            data = data[os.write(incoming.fd, data) :]
    except OSError as error:
        incoming.abort()
        raise StorageError(f"write failed: {error.strerror}") from error
    return incoming.commit()


@pytest.fixture
def make() -> Make:
    return instance


@pytest.fixture
def store() -> Callable[[LocalArchive, Made], int]:
    return send


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[LocalArchive]:
    one = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE)  # no power cut to come
    one.prepare()
    yield one
    one.close()

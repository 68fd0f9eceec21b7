"""Real files for the tests: pydicom's samples, and instances made for a purpose."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dicom.part10 import file_head


def sample(name: str) -> StoredInstance:
    """One of the files that come with pydicom."""
    found = get_testdata_file(name, download=False)
    assert found is not None, name
    return stored(Path(str(found)))


def stored(path: Path) -> StoredInstance:
    """What an archive's index knows of a file."""
    dataset = pydicom.dcmread(path, defer_size=1024, force=True)
    meta = read_file_meta_info(path)
    return StoredInstance(
        patient_id=str(dataset.get("PatientID", "")),
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        path=str(path),
        size=path.stat().st_size,
        dataset_offset=144 + meta.FileMetaInformationGroupLength,
    )


def written(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> StoredInstance:
    """Write a data set as a DICOM file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.save_as(path, enforce_file_format=True)
    return stored(path)


def small(**values: object) -> Dataset:
    """A small CT with pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Modality = "CT"
    dataset.PatientName, dataset.PatientID = "Doe^John", "P1"
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated, dataset.SamplesPerPixel = 16, 1
    dataset.PixelData = bytes(range(32))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def dataset_bytes(outgoing: Outgoing) -> bytes:
    """The data set as the wire sends it."""
    with Path(outgoing.path).open("rb") as file:
        file.seek(outgoing.offset)
        return outgoing.head + file.read(outgoing.length)


def reread(outgoing: Outgoing, path: Path) -> Dataset:
    """What a receiver makes of it: the data set put in a file and read by pydicom."""
    head = file_head(outgoing.sop_class_uid or "1.2", outgoing.sop_instance_uid or "1.2", outgoing.transfer_syntax_uid)
    path.write_bytes(head + dataset_bytes(outgoing))
    return pydicom.dcmread(path)

"""DICOM files for tests: real ones of pydicom's collection, given the identity a test wants.

Pixel data, private elements and everything else of the real files stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet  # noqa: TID251 - an independent writer of the DICOMDIRs that our reader reads
from pydicom.uid import generate_uid

MODALITIES = {"CT": "CT_small.dcm", "MR": "MR_small.dcm", "SR": "reportsi.dcm", "US": "examples_rgb_color.dcm",
              "RTDOSE": "rtdose.dcm", "ECG": "waveform_ecg.dcm", "OT": "JPEG2000.dcm"}  # fmt: skip
"""A real file for each; explicit and implicit little endian, one JPEG 2000, one without pixel data."""


def uid(*parts: object) -> str:
    """A UID that is always the same for the same parts, and another one for others: ("a", 11) is not ("a1", 1)."""
    return str(generate_uid(entropy_srcs=["/".join(map(str, parts))]))


def real(modality: str = "CT") -> Dataset:
    """A real instance of a modality."""
    path = get_testdata_file(MODALITIES[modality])
    assert isinstance(path, str)
    return dcmread(path)


def instance(study: str, series: str = "1", number: int = 1, modality: str = "CT", **attributes: object) -> Dataset:
    """A real instance made number ``number`` of a series of a study.

    Args:
        study: any name; the UIDs are derived from it, so that two calls mean the same study.
        attributes: by keyword, such as ``PatientName="DOE^JANE"``.
    """
    dataset = real(modality)
    dataset.StudyInstanceUID = uid(study)
    dataset.SeriesInstanceUID = uid(study, series)
    dataset.SOPInstanceUID = uid(study, series, number)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceNumber = str(number)
    dataset.SeriesNumber = "".join(char for char in series if char.isdigit()) or "1"
    dataset.StudyID = dataset.get("StudyID") or "1"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def study(name: str, instances: int = 2, modality: str = "CT", **attributes: object) -> list[Dataset]:
    """One series of several instances."""
    return [instance(name, "1", number, modality, **attributes) for number in range(1, instances + 1)]


def write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    """Write instances as DICOM files and return their paths in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in datasets]
    for file, dataset in zip(files, datasets, strict=True):
        dataset.save_as(file, enforce_file_format=True)
    return files


def write_file_set(root: Path, datasets: Sequence[Dataset]) -> Path:
    """Write a file-set with pydicom and return its DICOMDIR."""
    file_set = FileSet()
    for dataset in datasets:
        file_set.add(dataset)
    file_set.write(root)
    file_set._stage["t"].cleanup()  # it would only warn that nobody did
    return root / "DICOMDIR"

"""Real files for the demo: the long-term archive's, and the same studies as the leading archive corrected them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pydicom.data


@dataclass(frozen=True)
class Correction:
    """What the leading archive received for one study after the long-term archive had stored it."""

    files: tuple[str, ...]
    name: str
    patient_id: str
    accession: str
    charset: str = "ISO_IR 100"


_DOE = "dicomdirtests/77654033"
CORRECTIONS = (
    Correction(("CT_small.dcm",), "Adams^Nora", "H-1001", "ACC-2041"),
    Correction(("MR_small.dcm",), "Baker^Luis^M", "H-1002", "ACC-2042"),
    Correction((f"{_DOE}/CR1/6154", f"{_DOE}/CR2/6247", f"{_DOE}/CR3/6278"), "Dow^Archibald", "H-1003", "ACC-2043"),
    Correction(tuple(f"{_DOE}/CT2/{n}" for n in (17106, 17136, 17166, 17196)), "Dow^Archibald", "H-1003", "ACC-2044"),
    Correction(("examples_overlay.dcm",), "Nováková^Žofie", "H-1004", "ACC-2045", charset="ISO_IR 192"),
    Correction(("examples_rgb_color.dcm",), "Okafor^Chidi", "H-1005", "ACC-2046"),
)
"""A renamed patient, a merged patient with two studies, a name outside the stored character set."""

UNCORRECTED = ("rtplan.dcm", "test-SR.dcm")
"""Studies that the leading archive has never heard of."""


def write_local(folder: Path) -> int:
    """Copy the long-term archive's files as they are; return how many."""
    names = [name for correction in CORRECTIONS for name in correction.files] + list(UNCORRECTED)
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        shutil.copyfile(shipped(name), folder / f"{number:04}.dcm")
    return len(names)


def write_corrected(folder: Path) -> int:
    """Write the studies as the leading archive holds them; return how many files."""
    folder.mkdir(parents=True)
    number = 0
    for correction in CORRECTIONS:
        for name in correction.files:
            dataset = pydicom.dcmread(shipped(name))
            dataset.SpecificCharacterSet = correction.charset
            dataset.PatientName = correction.name
            dataset.PatientID = correction.patient_id
            dataset.AccessionNumber = correction.accession
            dataset.save_as(folder / f"{number:04}.dcm")
            number += 1
    return number


def shipped(name: str) -> Path:
    """A file of pydicom's collection."""
    return Path(pydicom.data.__file__).parent / "test_files" / name

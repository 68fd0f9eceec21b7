"""Synthetic DICOMDIRs of any size, to measure imports and queries with.

The records look like those of a hospital's CT archive, 100 instances a series, 3 series a study, 2 studies a patient,
about 220 bytes an instance. There are no object files behind them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.archive import canvas, records
from gateway.archive.canvas import Canvas
from gateway.dicom.attributes import Attributes

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SERIES_SIZE, STUDY_SIZE, PATIENT_SIZE = 100, 300, 600
_SURNAMES = ("Adler", "Berger", "Curie", "Dorn", "Eder", "Fink", "Gruber", "Huber", "Iwanow", "Jansen", "Koch", "Lang")


def make(path: Path, instances: int) -> None:
    """Write a DICOMDIR with so many instances."""
    path.write_bytes(canvas.blank("BENCH"))
    drawing = Canvas(path)
    patient = study = series = 0
    for number in range(instances):
        if number % PATIENT_SIZE == 0:
            patient = drawing.append(0, _patient(number // PATIENT_SIZE))
        if number % STUDY_SIZE == 0:
            study = drawing.append(patient, _study(number // STUDY_SIZE))
        if number % SERIES_SIZE == 0:
            series = drawing.append(study, _series(number // SERIES_SIZE))
        drawing.append(series, _instance(number))
    drawing.finish()


def study_uid(study: int) -> str:
    """The Study Instance UID of a study by its position."""
    return f"1.2.826.0.1.3680043.9.7433.1.{study}"


def _patient(patient: int) -> bytes:
    name = f"{_SURNAMES[patient % len(_SURNAMES)]}^{patient:06d}"
    return records.parent("PATIENT", _encoded({"PatientName": name, "PatientID": f"PID{patient:07d}"}))


def _study(study: int) -> bytes:
    values = {
        "StudyInstanceUID": study_uid(study),
        "StudyDate": f"{2000 + study % 25}{study % 12 + 1:02d}{study % 28 + 1:02d}",
        "StudyTime": "101530",
        "StudyID": str(study),
        "AccessionNumber": f"ACC{study:08d}",
        "StudyDescription": "CT Thorax",
    }
    return records.parent("STUDY", _encoded(values))


def _series(series: int) -> bytes:
    values = {
        "SeriesInstanceUID": f"1.2.826.0.1.3680043.9.7433.2.{series}",
        "Modality": ("CT", "MR", "PT")[series % 3],
        "SeriesNumber": str(series % 3 + 1),
    }
    return records.parent("SERIES", _encoded(values))


def _instance(number: int) -> bytes:
    series = number // SERIES_SIZE
    file_id = f"DICOM/{series // 3:08X}/{series:08X}/{number:08X}"
    blob = _encoded({"InstanceNumber": str(number % SERIES_SIZE + 1)})
    return records.instance(CT, f"1.2.826.0.1.3680043.9.7433.3.{series}.{number}", EXPLICIT, file_id, blob)


def _encoded(values: dict[str, str]) -> bytes:
    return Attributes.of(values).encode(implicit=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("instances", type=int)
    arguments = parser.parse_args()
    make(arguments.path, arguments.instances)

"""The instances all archives get: a study of CTs, and many studies of one small instance each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import Outgoing
from gateway.dicom.part10 import file_head

CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
ROOT = "1.2.826.0.1.3680043.8.498.77"
CT_STUDY = f"{ROOT}.1"
HUNDRED_DATE, OTHER_DATE = "20240102", "20230504"
_PIXELS = 512 * 512 * 2


@dataclass(frozen=True)
class Sizes:
    """How much work a run does."""

    studies: int
    cts: int
    small: int
    large: int
    """Bytes of the multi-frame instance."""
    rounds: int


FULL = Sizes(studies=2000, cts=500, small=2000, large=2 << 30, rounds=5)
QUICK = Sizes(studies=400, cts=60, small=200, large=256 << 20, rounds=3)


def _patient(name: str, number: int) -> dict[str, str]:
    return {
        "PatientName": name,
        "PatientID": f"P{number:06d}",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "ReferringPhysicianName": "HOUSE^GREGORY",
    }


def small_studies(count: int) -> Iterator[tuple[str, Attributes]]:
    """Studies of one small instance each, as (SOP Instance UID, data set); a hundred have a date of their own."""
    for number in range(count):
        study = f"{ROOT}.2.{number}"
        uid = f"{study}.1.1"
        values = {
            **_patient(f"STUDY{number:05d}^ANNA", number),
            "SOPClassUID": SECONDARY,
            "SOPInstanceUID": uid,
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.1",
            "StudyDate": HUNDRED_DATE if number < 100 else OTHER_DATE,
            "StudyTime": "101112",
            "AccessionNumber": f"A{number:06d}",
            "StudyID": str(number),
            "StudyDescription": "CT THORAX WITH CONTRAST",
            "Modality": "OT",
            "SeriesNumber": "1",
            "InstanceNumber": "1",
            "ConversionType": "WSD",
        }
        yield uid, Attributes.of(values)


def ct_head(study: str, uid: str, number: int, name: str = "CTSTUDY^CARL") -> bytes:
    """The data set of a CT up to and with the header of its pixel data."""
    values: dict[str, str | int] = {
        **_patient(name, 900000),
        "SOPClassUID": CT,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "StudyDate": "20220101",
        "StudyTime": "080000",
        "AccessionNumber": "CTACC",
        "StudyID": "1",
        "StudyDescription": "CT ABDOMEN",
        "Modality": "CT",
        "SeriesNumber": "1",
        "InstanceNumber": str(number),
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "SliceThickness": "1.25",
        "ImagePositionPatient": f"-250\\-250\\{number}",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "PixelSpacing": "0.9765625\\0.9765625",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 512,
        "Columns": 512,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
    }
    return Attributes.of(values).encode(implicit=False) + _pixel_header(_PIXELS)


def _pixel_header(length: int) -> bytes:
    return b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little")


@dataclass(frozen=True)
class Study:
    """Instances as they are sent to every archive: each a head in memory and one file of pixels for all."""

    instances: tuple[Outgoing, ...]

    @property
    def bytes(self) -> int:
        """Of all data sets."""
        return sum(len(one.head) + one.length for one in self.instances)


def pixel_file(folder: Path) -> Path:
    """One frame of noise, which nothing compresses."""
    path = folder / "pixels"
    path.write_bytes(random.Random(7).randbytes(_PIXELS))
    return path


def ct_study(pixels: Path, count: int, study: str = CT_STUDY) -> Study:
    """A study of CTs of 512 KB."""
    whole = pixels.stat().st_size
    uids = [f"{study}.1.{number}" for number in range(count)]
    return Study(
        tuple(
            Outgoing(CT, uid, EXPLICIT, ct_head(study, uid, at), str(pixels), 0, whole) for at, uid in enumerate(uids)
        )
    )


def corrected(pixels: Path) -> Study:
    """One instance of the CT study as the leading archive has it: the patient has another name."""
    (one,) = ct_study(pixels, 1).instances
    return Study((replace(one, head=ct_head(CT_STUDY, one.sop_instance_uid, 0, "CORRECTED^CARLA")),))


def small_study_list(pixels: Path, count: int, run: str = "") -> Study:
    """Small instances to be stored; ``run`` makes their UIDs new."""
    found = []
    for uid, dataset in small_studies(count):
        head = dataset.encode(implicit=False)
        if run:
            new = f"{ROOT}.3.{run}.{uid.rsplit('.', 3)[-3]}"
            head = Attributes({**dataset, **Attributes.of({"SOPInstanceUID": new})}).encode(implicit=False)
            uid = new  # noqa: PLW2901 - the instance's UID from here on
        found.append(Outgoing(SECONDARY, uid, EXPLICIT, head, str(pixels), 0, 0))
    return Study(tuple(found))


def renewed(study: Study, run: str) -> Study:
    """The same CTs under new study and instance UIDs, so that they are stored and not recognised."""
    return ct_study(Path(study.instances[0].path), len(study.instances), f"{ROOT}.4.{run}")


def large_instance(folder: Path, size: int) -> Outgoing:
    """A multi-frame instance of ``size`` bytes; its file is sparse."""
    uid = f"{ROOT}.5.1"
    head = ct_head(f"{ROOT}.5", uid, 1)[:-12] + _pixel_header(size)
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate(size)
    return replace(ct_study(pixel_file(folder), 1).instances[0], sop_instance_uid=uid, head=head, path=str(path),
                   length=size)  # fmt: skip


def write_file(folder: Path, outgoing: Outgoing) -> Path:
    """An instance as a DICOM file."""
    path = folder / outgoing.sop_instance_uid
    head = file_head(outgoing.sop_class_uid, outgoing.sop_instance_uid, outgoing.transfer_syntax_uid)
    rest = Path(outgoing.path).read_bytes()[outgoing.offset : outgoing.offset + outgoing.length]
    path.write_bytes(head + outgoing.head + rest)
    return path

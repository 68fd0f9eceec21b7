"""What a coerced instance costs beyond reading its head: ``python -m bench.coercion``.

The same CT again and again, as the instances of a series are alike; its head has 124 elements before the last one that
changes, private ones included. For comparison the same change by pydicom, head only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import pydicom
from pydicom.data import get_testdata_file

from gateway.coercion.draft import Context
from gateway.coercion.engine import plan
from gateway.coercion.folders import instance_of
from gateway.coercion.parser import parse_rules
from gateway.coercion.rules import RuleSet, Where
from gateway.coercion.splice import HeadReader
from gateway.dicom.attributes import Attributes
from gateway.dicom.instance import StoredInstance

_ROUNDS, _CALLS = 9, 1000
NEW = {
    "PatientName": "Müller^Jörg", "PatientID": "N-1", "PatientBirthDate": "19700101", "PatientSex": "M",
    "AccessionNumber": "A-1", "StudyDate": "20200101", "StudyTime": "101010", "StudyID": "S1",
    "StudyDescription": "Schädel", "ReferringPhysicianName": "Ref^Doc", "IssuerOfPatientID": "HOSP",
}  # fmt: skip
RULES = {
    "the leading archive's attributes": "",
    "the same, into a file without a character set": "",
    "and a rule with a condition on an attribute": (
        "rules: [{name: r, where: sent, when: {attribute: Modality, equals: CT}, then: [set: {PatientComments: x}]}]"
    ),
    "and the old Patient ID kept among the others": (
        "rules: [{name: r, where: sent, then: [keep_patient_id: {issuer: OLD}]}]"
    ),
    "and Original Attributes Sequence": "record_originals: [received, sent]",
    "and every UID remapped": "rules: [{name: r, where: sent, then: [remap_uids: all]}]",
}


def _microseconds(work: Callable[[], object], calls: int = _CALLS) -> float:
    figures = []
    for _ in range(_ROUNDS):
        began = perf_counter()
        for _ in range(calls):
            work()
        figures.append((perf_counter() - began) / calls * 1e6)
    return min(figures)  # what else the machine does only adds to it


def _sample(name: str) -> StoredInstance:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return instance_of(Path(path))


def _read(instance: StoredInstance) -> None:
    with HeadReader(instance):
        pass


def _by_pydicom(instance: StoredInstance) -> None:
    dataset = pydicom.dcmread(instance.path, stop_before_pixels=True)
    for keyword, value in NEW.items():
        setattr(dataset, keyword, value)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, dataset)


def main() -> None:
    """Measure and print."""
    context = Context(sending="GATEWAY", receiving="VIEWER", leading=Attributes.of(NEW, terms=("ISO_IR 100",)))
    ct, mr = _sample("CT_small.dcm"), _sample("MR_small.dcm")
    read = _microseconds(lambda: _read(ct))
    print(f"{read:8.1f} us  reading 16 KiB of the file (in all figures below taken off)")
    for name, text in RULES.items():
        instance = mr if "without" in name else ct
        made = plan(parse_rules(text) if text else RuleSet.default(), Where.SENT, context)
        calls = 100 if "UID" in name else _CALLS
        print(f"{_microseconds(partial(made.apply_to_instance, instance), calls) - read:8.1f} us  {name}")
    print(f"{_microseconds(lambda: _by_pydicom(ct), 50) - read:8.1f} us  the first of them by pydicom")


if __name__ == "__main__":
    main()

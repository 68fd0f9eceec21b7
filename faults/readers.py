"""Spoilt bytes straight into everything that reads what strangers send: ``python -m faults.readers --count 1000000``.

Inputs come from a seeded mutator (``faults.mutation``), or with ``--atheris`` from libFuzzer by way of atheris, which
is not among the locked tools: ``.venv/bin/pip install atheris`` where there is a wheel for the machine. A reader may
refuse with the gateway's own errors; another exception, or more than a second, is a defect.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from faults.callers import request_bytes
from faults.mutation import mutated
from faults.watch import FIND
from faults.world import question
from gateway.archive import heads
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.directorybytes import NotADicomdir
from gateway.coercion.changes import Changes
from gateway.coercion.patch import Patch
from gateway.coercion.splice import splice
from gateway.dicom import matching
from gateway.dicom.attributes import Attributes
from gateway.dicom.encoding import MalformedDataset
from gateway.dicom.identifier import InvalidIdentifier, Negotiated, parse_query
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Model
from gateway.dimse import acse, command, pdu
from gateway.dimse.negotiation import Answered, AssociateAccept
from gateway.errors import GatewayError
from tests.coercion.files import sample
from tests.support import dicomfiles

_WORDS = (GatewayError, MalformedDataset, InvalidIdentifier, NotADicomdir)
_PATCH = Patch(Changes(Attributes.of({"PatientName": "Neu^Jörg", "PatientID": "N", "StudyID": "S"})))
_ENTITY = Attributes.of({"PatientName": "Smith^Jon", "StudyDate": "20200101", "StudyTime": "1015", "PatientID": "1"})
_SLOW = 1.0


class Target(NamedTuple):
    """A reader.

    Attributes:
        read: gives it some bytes.
        whole: what it reads well, as a beginning.
    """

    name: str
    read: Callable[[bytes], object]
    whole: list[bytes]


def _pdus(data: bytes) -> None:
    reader = pdu.PduReader(capacity=65536)
    for start in range(0, len(data), 4096):
        part = data[start : start + 4096]
        reader.space[: len(part)] = part
        reader.received(len(part))
        while reader.next():
            pass


def _identifier(data: bytes) -> None:
    keys = Attributes.decode(data, implicit=False)
    for model in (Model.STUDY_ROOT, Model.PATIENT_ROOT):
        query = parse_query(keys, model, Negotiated(relational=True, combined_datetime=True, multiple_value=True))
        assert query.canonical
        matching.compile(query).matches(_ENTITY)


@contextmanager
def _file(data: bytes) -> Iterator[tuple[int, str]]:
    """A file in memory: its descriptor and a path that leads to it."""
    fd = os.memfd_create("spoilt")
    try:
        os.write(fd, data)
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _head(data: bytes) -> None:
    with _file(data) as (fd, _):
        head = heads.head_of(fd)
        _ = head.uids  # reading them may refuse them


def _spliced(syntax: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> None:
        with _file(data) as (_, path):
            splice(StoredInstance("P", "1.2", "1.3", "1.4", "1.5", syntax, path, len(data), 0), _PATCH)

    return read


def _directory(data: bytes) -> None:
    with _file(data) as (_, path), Dicomdir(Path(path)) as directory:
        for _ in directory.records():
            pass


def _accept() -> bytes:
    request = acse.decode_request(request_bytes("ME", FIND))
    return acse.encode_accept(AssociateAccept((Answered(1, 0, "1.2.840.10008.1.2"),), 16384), request)


def targets(folder: Path) -> list[Target]:
    """All readers."""
    asked = command.Command(command.Field.C_FIND, message_id=1, sop_class=FIND, priority=0, has_dataset=True)
    answer = command.response(asked, 0xB000, comment="x", offending=(0x00100010,))
    request, find = request_bytes("ME", FIND), pdu.message(1, asked.encode(), question().encode(implicit=False), 16384)
    explicit, implicit = sample("CT_small.dcm"), sample("MR_small_implicit.dcm")
    datasets = {one: Path(one.path).read_bytes()[one.dataset_offset :][:6000] for one in (explicit, implicit)}
    buffer = BytesIO()
    dicomfiles.instance("s", "1", 1, "SR").save_as(buffer, enforce_file_format=True)
    made = dicomfiles.write_file_set(folder / "set", dicomfiles.study("d", 2))
    dates = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyDate": "20200101-20211231", "StudyTime": "1000-1200",
                           "PatientName": "Müller*^A?", "ModalitiesInStudy": ["CT", "MR"]})  # fmt: skip
    sequence = datasets[explicit][:800]
    return [
        Target("PDUs", _pdus, [request + find + pdu.RELEASE_REQUEST, find * 3, pdu.abort(0)]),
        Target("association requests", acse.decode_request, [request]),
        Target("association accepts", acse.decode_accept, [_accept()]),
        Target("command sets", command.decode, [asked.encode(), answer.encode()]),
        Target("identifiers", _identifier, [question().encode(implicit=False), dates.encode(implicit=False)]),
        Target("data sets, explicit", lambda data: Attributes.decode(data, implicit=False), [sequence]),
        Target("data sets, implicit", lambda data: Attributes.decode(data, implicit=True), [datasets[implicit][:800]]),
        Target("DICOM files", _head, [buffer.getvalue(), Path(explicit.path).read_bytes()[:6000]]),
        Target("coerced files, explicit", _spliced(explicit.transfer_syntax_uid), [datasets[explicit]]),
        Target("coerced files, implicit", _spliced(implicit.transfer_syntax_uid), [datasets[implicit]]),
        Target("DICOMDIRs", _directory, [made.read_bytes()]),
    ]


def tried(target: Target, data: bytes) -> str:
    """Give a reader some bytes; what is wrong about how it took them, or nothing."""
    began = monotonic()
    try:
        target.read(data)
    except _WORDS:
        pass
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        return f"{target.name}: {type(error).__name__}: {error}; input {data[:400].hex()}"
    seconds = monotonic() - began
    return f"{target.name}: {seconds:.1f} s; input {data[:400].hex()}" if seconds > _SLOW else ""


def run(folder: Path, count: int, seed: int) -> Iterator[tuple[str, int, float, list[str]]]:
    """Spoil ``count`` inputs, as many for each reader; for each its name, how many, seconds and problems."""
    every = targets(folder)
    for target in every:
        chance, began, problems = random.Random(f"{seed}/{target.name}"), monotonic(), list[str]()
        corpus, each = list(target.whole), count // len(every)
        for _ in range(each):
            data = mutated(chance.choice(corpus), chance, corpus)
            if problem := tried(target, data):
                problems.append(problem)
            elif len(corpus) < 64 and chance.random() < 0.01:
                corpus.append(data)
        yield target.name, each, monotonic() - began, problems


def main() -> int:
    """So many inputs by hand; 1 when a reader took one badly."""
    options = argparse.ArgumentParser(prog="python -m faults.readers", description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options.add_argument("--folder", type=Path, default=Path("var/readers"))
    options.add_argument("--atheris", action="store_true")
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # of pydicom, about what was spoilt; the gateway logs them without their text
    if chosen.atheris:
        _by_atheris(chosen.folder, chosen.count, chosen.seed)
    print(f"seed {chosen.seed}", flush=True)
    bad = total = 0
    for name, each, seconds, problems in run(chosen.folder, chosen.count, chosen.seed):
        print(f"{name}: {each} in {seconds:.1f} s, {len(problems)} taken badly", *problems[:3], sep="\n  ", flush=True)
        total, bad = total + each, bad + len(problems)
    print(f"{total} bad inputs, {bad} taken badly")
    return 1 if bad else 0


def _by_atheris(folder: Path, count: int, seed: int) -> None:
    """Guided by what code is reached; libFuzzer ends the process, with 0 when nothing was found."""
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 - by hand only, it is not locked

    every = targets(folder)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, target in enumerate(every):
        for at, whole in enumerate(target.whole):
            (corpus / f"{number}-{at}").write_bytes(bytes([number]) + whole)

    def one(data: bytes) -> None:
        if data and (problem := tried(every[data[0] % len(every)], data[1:])):
            raise AssertionError(problem)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={count}", f"-seed={seed}", "-max_len=8192", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

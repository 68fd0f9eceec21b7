"""Files that are received: whole under their names, or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dimse.ports import StoreRequest
from gateway.errors import Refused, StorageError
from gateway.retrieve.incoming import FolderReceiver, Received, remove_parts

REQUEST = StoreRequest("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", Caller("MODALITY"))
DATASET = Attributes.of({"SOPInstanceUID": "1.2.3", "PatientID": "P"}).encode(implicit=False)


def receiver(folder: Path, arrived: list[Received], name: str = "it.dcm") -> FolderReceiver:
    return FolderReceiver(folder, lambda request: name, arrived.append, durable=True)  # noqa: ARG005


def test_a_committed_file_is_whole_and_told_of(tmp_path: Path) -> None:
    arrived: list[Received] = []
    incoming = receiver(tmp_path, arrived).begin(REQUEST)
    os.write(incoming.fd, DATASET)
    assert not (tmp_path / "it.dcm").exists()
    assert incoming.commit() == 0
    [one] = arrived
    assert (one.path, one.size) == (tmp_path / "it.dcm", one.path.stat().st_size)
    assert one.path.read_bytes()[one.dataset_offset :] == DATASET
    read = dcmread(one.path)
    assert (read.PatientID, read.file_meta.SourceApplicationEntityTitle) == ("P", "MODALITY")


def test_an_aborted_file_leaves_nothing(tmp_path: Path) -> None:
    incoming = receiver(tmp_path, []).begin(REQUEST)
    os.write(incoming.fd, DATASET)
    incoming.abort()
    assert list(tmp_path.iterdir()) == []


def test_two_of_one_name_do_not_meet(tmp_path: Path) -> None:
    both = [receiver(tmp_path, []).begin(REQUEST) for _ in range(2)]
    for incoming in both:
        os.write(incoming.fd, DATASET)
        incoming.commit()
    assert [file.name for file in tmp_path.iterdir()] == ["it.dcm"]


def test_a_folder_that_is_gone_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        receiver(tmp_path / "gone", []).begin(REQUEST)
    incoming = receiver(tmp_path, [], "sub").begin(REQUEST)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()
    with pytest.raises(StorageError):
        incoming.commit()
    assert [one.name for one in tmp_path.iterdir()] == ["sub"]


def test_what_is_not_wanted_is_not_begun(tmp_path: Path) -> None:
    def refuse(request: StoreRequest) -> str:
        raise Refused(f"not {request.sop_class_uid}", 0x0124)

    with pytest.raises(Refused):
        FolderReceiver(tmp_path, refuse, lambda received: None, durable=False).begin(REQUEST)  # noqa: ARG005
    assert list(tmp_path.iterdir()) == []


def test_parts_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f".a.dcm.{int(dead.stdout)}-0.part").touch()
    mine = receiver(tmp_path, []).begin(REQUEST)
    (tmp_path / ".other.part").touch()
    remove_parts(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    mine.commit()
    assert (tmp_path / "it.dcm").exists()

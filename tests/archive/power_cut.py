"""A power cut: what was not synced is gone, what was acknowledged is not.

An ext4 image is mounted through a loop device; while a process works on the archive in it, the process is stopped and
the image copied. What the kernel has not written to the device is not in the copy, as after a power cut. The copy is
mounted, the archive opened as a start opens it, and compared with what the process said was done.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.archive.dicomdir import Dicomdir
from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.runs import Entry, entries
from gateway.archive.store import OnConflict
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level
from gateway.dicom.tags import PatientID
from gateway.reconcile.difference import StudyDifference
from gateway.reconcile.reconciler import Reconciler
from tests.archive.conftest import instance, send

Say = Callable[[str], None]
JOURNAL = 4 << 20
_SIZE = 64 << 20
_AHEAD = 4
"""There is so many times more to do than is waited for, so that the cut comes in the middle."""


class Unavailable(Exception):
    """This machine lets nobody mount images."""


@dataclass(frozen=True)
class Cut:
    """What came of one.

    Attributes:
        lost: of what was acknowledged.
        journaled: instances of which the journal tells.
        problems: what ``archive verify`` and the DICOMDIR say of the rest.
    """

    acknowledged: int
    lost: int
    journaled: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """Something that is done again and again until the power goes.

    Attributes:
        before: makes the archive hold so much, all of it on the disk.
        during: works on that and says what is acknowledged.
        lost: whether what was said is not so afterwards.
    """

    before: Callable[[LocalArchive, int], None]
    during: Callable[[LocalArchive, int, Say], None]
    lost: Callable[[LocalArchive, str], bool]


def _store_many(archive: LocalArchive, count: int) -> None:
    for number in range(1, count + 1):
        send(archive, instance(number % 7 + 1, number=number))


def _uid(number: int) -> str:
    return f"1.2.3.{number % 7 + 1}.1.1.{number}"


def _stores(archive: LocalArchive, count: int, say: Say) -> None:
    for number in range(1, count + 1):
        send(archive, instance(number % 7 + 1, number=number))
        say(_uid(number))


def _not_found(archive: LocalArchive, uid: str) -> bool:
    return not archive.instances(sop_uids=[uid])


def _deletes(archive: LocalArchive, count: int, say: Say) -> None:
    for number in range(1, count + 1):
        archive.delete(Level.IMAGE, _uid(number))
        say(_uid(number))


def _back(archive: LocalArchive, uid: str) -> bool:
    return bool(archive.instances(sop_uids=[uid]))


def _replaces(archive: LocalArchive, count: int, say: Say) -> None:
    for number in range(1, count + 1):
        send(archive, instance(number % 7 + 1, number=number, ImageComments="replaced"))
        say(_uid(number))


def _old(archive: LocalArchive, uid: str) -> bool:
    return [b"replaced" in data for data in _contents(archive.instances(sop_uids=[uid]))] != [True]


def _contents(instances: list[StoredInstance]) -> Iterator[bytes]:
    for one in instances:
        try:
            yield Path(one.path).read_bytes()
        except FileNotFoundError:
            yield b""


def _store_studies(archive: LocalArchive, count: int) -> None:
    for study in range(1, count + 1):
        for number in (1, 2):
            send(archive, instance(1, study, number=number))


def _reconciles(archive: LocalArchive, count: int, say: Say) -> None:
    reconciler = Reconciler(archive, "GATEWAY")
    for study in range(1, count + 1):
        uid = f"1.2.3.1.{study}"
        reconciler.reconcile(StudyDifference(uid, Attributes.of({"PatientID": f"NEW-{study % 5}"}), ()))
        say(uid)


def _stores_and_reconciles(archive: LocalArchive, count: int, say: Say) -> None:
    """One instance of each study has been corrected by its sender already, so that its file stays."""
    reconciler = Reconciler(archive, "GATEWAY")
    for study in range(1, count + 1):
        uid, corrected = f"1.2.3.1.{study}", f"NEW-{study % 5}"
        send(archive, instance(1, study, number=1))
        send(archive, instance(1, study, number=2, PatientID=corrected))
        reconciler.reconcile(StudyDifference(uid, Attributes.of({"PatientID": corrected}), ()))
        say(uid)


def _not_reconciled(archive: LocalArchive, uid: str) -> bool:
    wanted = f"NEW-{int(uid.rpartition('.')[2]) % 5}"
    told = archive.studies([uid], Caller("X")).get(uid, Attributes())
    new = [wanted.encode() in data for data in _contents(archive.instances(study_uids=[uid]))]
    return new != [True, True] or told.text(PatientID) != wanted


WORKS = {
    "store": Work(lambda *_: None, _stores, _not_found),
    "delete": Work(_store_many, _deletes, _back),
    "replace": Work(_store_many, _replaces, _old),
    "reconcile": Work(_store_studies, _reconciles, _not_reconciled),
    "store and reconcile": Work(lambda *_: None, _stores_and_reconciles, _not_reconciled),
}


def cut(folder: Path, work: Work, durability: Durability, most: int, journal_bytes: int = JOURNAL) -> Cut:
    """Work until so much is acknowledged, cut the power, and look at what is left.

    Args:
        journal_bytes: size of the archive's journal; 0 for none.

    Raises:
        Unavailable: images cannot be mounted here.
    """
    image, copy = folder / "disk", folder / "after"
    _make(image)
    with _mounted(image, folder / "before") as place:
        archive = _archive(place, Durability.NONE)
        archive.prepare()
        work.before(archive, _AHEAD * most)
        archive.sync()
        archive.close()
        os.sync()
        archive = _archive(place, durability, journal_bytes)
        said = _cut(archive, work, most, lambda: shutil.copyfile(image, copy))
    with _mounted(copy, folder / "mounted") as place:
        archive = _archive(place, Durability.FULL)
        journaled = sum(1 for _ in _journaled(place, archive))
        try:
            archive.prepare()
            lost = sum(work.lost(archive, one) for one in said)
            return Cut(len(said), lost, journaled, tuple(_problems(archive)))
        finally:
            archive.close()


def _archive(place: Path, durability: Durability, journal_bytes: int = 0) -> LocalArchive:
    return LocalArchive(
        place / "files" / "DICOMDIR",
        durability=durability,
        on_conflict=OnConflict.REPLACE,
        publish_delay=0.02,
        journal_bytes=journal_bytes,
    )


def _journaled(place: Path, archive: LocalArchive) -> Iterator[Entry]:
    """What the journals tell before anything is put back."""
    for path in (place / "files.index").glob("index.sqlite.journal-*"):
        with path.open("rb") as file:
            yield from entries(path, file.fileno(), archive.identity)


def _cut(archive: LocalArchive, work: Work, most: int, copy: Callable[[], object]) -> list[str]:
    """What a child said was done before it was stopped."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where an archive that nobody configured logs
            archive.start()
            work.during(archive, _AHEAD * most, lambda said: _write(writing, said))
            signal.pause()
        finally:
            os._exit(70)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        heard = b""
        try:
            while heard.count(b"\n") < most:
                part = pipe.read(4096)
                assert part, "the child ended by itself"
                heard += part
            os.kill(child, signal.SIGSTOP)
            os.waitpid(child, os.WUNTRACED)
            copy()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return (heard + pipe.read()).decode().split()


def _write(pipe: int, said: str) -> None:
    os.write(pipe, f"{said}\n".encode())


def _problems(archive: LocalArchive) -> Iterator[str]:
    """What is wrong with what is left; read from the DICOMDIR as others read it."""
    yield from (f"{one.kind.value}: {one.place}" for one in archive.verify() if one.kind.name != "EMPTY")
    uids = {one.study_instance_uid for one in archive.listing()}
    stored = {one.sop_instance_uid for one in archive.instances(study_uids=sorted(uids))}
    with Dicomdir(archive.dicomdir) as source:
        listed = {record.sop_instance_uid for _, record in source.records() if record.file_id}
    if stored != listed:
        yield f"{len(stored ^ listed)} instances are in the index or in the DICOMDIR only"


def _make(image: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise Unavailable("needs root and mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)


@contextmanager
def _mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    # The kernel writes back by itself after 300 s only, so that what reaches the image was synced.
    command = ["mount", "-o", "loop,commit=300", str(image), str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise Unavailable("loop devices may not be mounted here")
        yield folder
    finally:  # also when somebody was interrupted, with files open
        subprocess.run(["umount", "-l", folder], capture_output=True, check=False)

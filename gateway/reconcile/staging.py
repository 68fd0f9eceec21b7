"""Changed files beside the archive: made, synced and listed before anything in the archive is touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.coercion.rewrite import write_file
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.errors import StorageError

_LIST = "complete.json"


@dataclass(frozen=True)
class Staged:
    """One changed instance.

    Attributes:
        file: the name of the new file in the staging's folder.
        original: the path of the old file, with its size and time of change as they were.
        dataset_offset: where the data set begins in the new file.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file: str
    dataset_offset: int
    original: str
    size: int
    mtime_ns: int

    def is_current(self) -> bool:
        """Whether the old file is still the one this was made from."""
        try:
            found = Path(self.original).stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Staging:
    """The changed files of one study; it is complete when it can be read back."""

    folder: Path
    study_instance_uid: str
    instances: tuple[Staged, ...]

    def drop(self) -> None:
        """Remove it: the list first, so that what is left of a removal is never taken for complete."""
        (self.folder / _LIST).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def stage(
    root: Path, study: str, instances: Sequence[StoredInstance], change: Callable[[StoredInstance], Outgoing]
) -> Staging:
    """Make the changed files of a study. Instances that do not change are left out.

    Raises:
        BadInstance: an instance cannot be read; nothing is staged then.
        StorageError: the disk is full or failing.
    """
    folder = root / hashlib.sha256(study.encode()).hexdigest()[:16]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        changed = [(one, change(one)) for one in instances]
        made = [_write(folder, number, *pair) for number, pair in enumerate(changed) if pair[1].head]
        _sync(folder)
        staging = Staging(folder, study, tuple(made))
        _complete(staging)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(f"the changed files cannot be written: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return staging


def leftovers(root: Path) -> Iterator[Staging]:
    """Complete stagings of an earlier run; incomplete ones are removed."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            listed = json.loads((folder / _LIST).read_text())
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        yield Staging(folder, listed["study"], tuple(Staged(**one) for one in listed["instances"]))


def _write(folder: Path, number: int, instance: StoredInstance, outgoing: Outgoing) -> Staged:
    before = Path(instance.path).stat()
    name = f"{number:06}.dcm"
    with (folder / name).open("wb") as file:
        offset = write_file(outgoing, file.fileno())
        os.fsync(file.fileno())
    return Staged(
        outgoing.sop_instance_uid,
        outgoing.sop_class_uid,
        outgoing.transfer_syntax_uid,
        name,
        offset,
        instance.path,
        before.st_size,
        before.st_mtime_ns,
    )


def _complete(staging: Staging) -> None:
    listed = {"study": staging.study_instance_uid, "instances": [asdict(one) for one in staging.instances]}
    new = staging.folder / f"{_LIST}.new"
    with new.open("w") as file:
        json.dump(listed, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(staging.folder / _LIST)
    _sync(staging.folder)
    _sync(staging.folder.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Instances received into a folder: each file appears whole under its name, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from gateway.dicom.part10 import file_head
from gateway.dicom.status import Status
from gateway.dimse.ports import StoreRequest
from gateway.errors import StorageError

_PART = ".part"
_numbers = count()


@dataclass(frozen=True)
class Received:
    """A file that has arrived.

    Attributes:
        dataset_offset: where its data set begins, in bytes.
    """

    request: StoreRequest
    path: Path
    size: int
    dataset_offset: int


class FolderReceiver:
    """A :class:`~gateway.dimse.ports.Receiver` that keeps instances as files.

    Args:
        name: the file name for a request; raises Refused where the instance is not wanted.
        arrived: told of each file before its C-STORE is answered.
        durable: whether a file is on the disk, and not only in the system's cache, when Success is answered.
    """

    def __init__(
        self,
        folder: Path,
        name: Callable[[StoreRequest], str],
        arrived: Callable[[Received], None],
        *,
        durable: bool,
    ) -> None:
        self._folder = folder
        self._name = name
        self._arrived = arrived
        self._durable = durable

    def begin(self, request: StoreRequest) -> IncomingFile:
        """Open a temporary file beside the place the instance will have.

        Raises:
            Refused: it is not wanted.
            StorageError: the folder cannot be written to.
        """
        return IncomingFile(request, self._folder / self._name(request), self._arrived, durable=self._durable)


class IncomingFile:
    """A file on its way in, under a temporary name."""

    def __init__(
        self, request: StoreRequest, path: Path, arrived: Callable[[Received], None], *, durable: bool
    ) -> None:
        self._request = request
        self._path = path
        self._arrived = arrived
        self._durable = durable
        self._part = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}{_PART}")
        head = file_head(
            request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid, request.caller.aet
        )
        self._offset = len(head)
        self._fd = -1
        try:
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            os.write(self._fd, head)
        except OSError as error:
            self.abort()
            raise StorageError(f"cannot write to the folder ({os.strerror(error.errno or 0)})") from error

    @property
    def fd(self) -> int:
        """Open for writing, behind the File Meta Information."""
        return self._fd

    def commit(self) -> int:
        """Give the file its name.

        Raises:
            StorageError: it could not be finished; nothing of it is left.
        """
        try:
            size = os.fstat(self._fd).st_size
            if self._durable:
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._part.rename(self._path)
        except OSError as error:
            self.abort()
            raise StorageError(f"cannot finish a file ({os.strerror(error.errno or 0)})") from error
        self._arrived(Received(self._request, self._path, size, self._offset))
        return Status.SUCCESS

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()


def remove_parts(folder: Path) -> None:
    """Remove temporary files of processes that have ended."""
    for part in folder.glob(f".*{_PART}"):
        number = part.name.removesuffix(_PART).rpartition(".")[2].partition("-")[0]
        if number.isdecimal() and not _runs(int(number)):
            part.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

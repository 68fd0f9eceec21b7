"""A coerced instance as a file of its own: for received instances, and for those that are reconciled."""

from __future__ import annotations

import os

from gateway.dicom.instance import Outgoing
from gateway.dicom.part10 import file_head
from gateway.errors import StorageError

_CHUNK = 1 << 20


def write_file(outgoing: Outgoing, target: int, source_aet: str = "") -> int:
    """Write preamble, File Meta Information, the new head and the untouched rest; memory stays constant.

    The meta information follows the data set, changed UIDs included (PS3.10 7.1).

    Args:
        target: a descriptor open for writing, positioned at the start of an empty file.
        source_aet: for Source Application Entity Title.

    Returns:
        Where the data set begins in the new file.

    Raises:
        StorageError: reading or writing failed; what was written is of no use.
    """
    before = file_head(outgoing.sop_class_uid, outgoing.sop_instance_uid, outgoing.transfer_syntax_uid, source_aet)
    try:
        _write(target, before)
    except OSError as error:
        raise StorageError("a coerced instance cannot be written") from error
    write_dataset(outgoing, target)
    return len(before)


def write_dataset(outgoing: Outgoing, target: int) -> None:
    """Write the new head and the untouched rest, from where the descriptor stands.

    Raises:
        StorageError: reading or writing failed; what was written is of no use.
    """
    try:
        _write(target, outgoing.head)
        source = os.open(outgoing.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _copy(source, target, outgoing.offset, outgoing.length)
        finally:
            os.close(source)
    except OSError as error:
        raise StorageError("a coerced instance cannot be written") from error


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _copy(source: int, target: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        sent = os.sendfile(target, source, offset, min(end - offset, _CHUNK))
        if not sent:
            raise OSError("the source is shorter than its index says")
        offset += sent

"""File IDs: how an object's place in the file-set is named and found (PS3.10 8.2, PS3.12).

A File ID is up to eight components of up to eight characters. Ours follow dcm4che's default,
``DICOM/<study>/<series>/<instance>``, each a 32-bit hash of the UID as eight hexadecimal digits, so that no path is
ever made of text a peer sent. Foreign File IDs are followed only to regular files inside the root.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = "DICOM"
_COMPONENT = re.compile(r"[A-Z0-9_]{1,8}")


class BadFileID(ValueError):
    """A Referenced File ID that names no place inside the file-set."""


def candidates(study_uid: str, series_uid: str, sop_uid: str) -> Iterator[str]:
    """Places for an instance, in the order to try them: the next one is for a collision of hashes."""
    folder = f"{FOLDER}/{_hash(study_uid):08X}/{_hash(series_uid):08X}"
    first = _hash(sop_uid)
    for step in range(1 << 16):
        yield f"{folder}/{(first + step) & 0xFFFFFFFF:08X}"


def _hash(uid: str) -> int:
    return int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=4).digest(), "big")


def parse(value: str) -> str:
    r"""A Referenced File ID (0004,1500) as a relative path with slashes; ``A\B\C`` on the wire.

    Raises:
        BadFileID: empty, absolute, with an empty, dotted, slashed or NUL component.
    """
    components = [component.strip(" ") for component in value.rstrip(" \0").split("\\")]
    for component in components:
        if not component or component in {".", ".."} or "/" in component or "\0" in component:
            raise BadFileID("Referenced File ID leads out of the file-set or nowhere")
    return "/".join(components)


def resolve(root: Path, file_id: str) -> Path:
    """The file of a File ID that :func:`parse` let through; other spellings of its letters' case are found too.

    Raises:
        BadFileID: a link on the way leads out of the root.
        FileNotFoundError: no such file.
    """
    path = root / file_id
    if not path.exists():
        path = _ignoring_case(root, file_id)
    real = os.path.realpath(path)
    home = os.path.realpath(root)
    if os.path.commonpath([real, home]) != home:
        raise BadFileID("Referenced File ID leads out of the file-set")
    return path


def _ignoring_case(root: Path, file_id: str) -> Path:
    """ISO 9660 media come with names in lower case, or with a version such as ``;1``."""
    path = root
    for component in file_id.split("/"):
        wanted = component.casefold()
        found = [one for one in _names(path) if one.casefold().rstrip(".").removesuffix(";1").rstrip(".") == wanted]
        if not found:
            raise FileNotFoundError(file_id)
        path /= min(found)
    return path


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names only, of folders with thousands of files
    except NotADirectoryError:
        return []


def is_file_id(path: str) -> bool:
    """Whether a relative path can stand in a DICOMDIR (PS3.10 8.2, PS3.3 F.3.2.2)."""
    components = path.split("/")
    return len(components) <= 8 and all(_COMPONENT.fullmatch(one) for one in components)

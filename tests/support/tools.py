"""Which tools of other makers the machine has.

A test that needs one that is missing is skipped and says so, on a newcomer's machine. With ``GATEWAY_PEERS=required``,
as in CI, it fails instead.
"""

from __future__ import annotations

import os
import shutil

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])

PACKAGES = {
    "dicom3tools": ("dciodvfy",),
    "dcmtk": ("dcmqrscp", "storescp", "echoscu", "findscu", "movescu", "getscu", "storescu", "dcmsend"),
    "orthanc": ("Orthanc",),
    "prometheus": ("prometheus", "promtool"),
    "curl": ("curl",),
}
"""Debian packages and the commands of them that tests use."""


def find(name: str) -> str | None:
    """The path of a command, also where only the superuser's PATH has it."""
    return shutil.which(name, path=_PATH)


def path_of(name: str) -> str:
    """The path of a command that is there."""
    found = find(name)
    assert found is not None, f"{name} is not installed"
    return found


def need(*packages: str) -> None:
    """Skip the test, or fail it where peers are required, when a package's commands are missing."""
    missing = [one for one in packages if not all(find(command) for command in PACKAGES[one])]
    if not missing:
        return
    reason = f"needs {' and '.join(missing)}: apt-get install {' '.join(missing)}"
    if os.environ.get("GATEWAY_PEERS") == "required":
        pytest.fail(f"{reason} (GATEWAY_PEERS=required)")
    pytest.skip(reason)

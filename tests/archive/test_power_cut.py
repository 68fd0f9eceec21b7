"""A power cut: what was not synced is gone, what was acknowledged is not.

An ext4 image is mounted through a loop device; while a process stores into it, the process is stopped and the image
copied. What the kernel has not written to the device is not in the copy, as after a power cut.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.dicomdir import Dicomdir
from gateway.archive.index import Durability
from gateway.archive.local import LocalArchive

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]
STORED = 150


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(["mount", "-o", "loop,commit=300", image, folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("loop devices may not be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def cut(tmp_path: Path, durability: Durability, make: Make, store: Send) -> tuple[int, LocalArchive, Iterator[None]]:
    """Store, cut the power, and open what is left; how many were acknowledged, and the archive in its mounted copy."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    image, copy = tmp_path / "disk", tmp_path / "after"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with mounted(image, tmp_path / "before") as folder:
        setup = LocalArchive(folder / "files" / "DICOMDIR", durability=durability, publish_delay=0.02)
        setup.prepare()
        setup.close()
        os.sync()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                archive = LocalArchive(folder / "files" / "DICOMDIR", durability=durability, publish_delay=0.02)
                archive.start()
                for number in range(1, 100_000):
                    store(archive, make(number % 7 + 1, number=number))
                    os.write(writing, b".")
            finally:
                os._exit(70)
        os.close(writing)
        heard = 0
        while heard < STORED:
            heard += len(os.read(reading, 64))
        os.kill(child, signal.SIGSTOP)
        shutil.copyfile(image, copy)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    context = mounted(copy, tmp_path / "mounted")
    folder = context.__enter__()
    archive = LocalArchive(folder / "files" / "DICOMDIR")

    def ending() -> Iterator[None]:
        yield
        archive.close()
        context.__exit__(None, None, None)

    end = ending()
    next(end)
    return heard, archive, end


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, make: Make, store: Send) -> None:
    heard, archive, end = cut(tmp_path, Durability.FULL, make, store)
    try:
        archive.prepare()
        uids = [f"1.2.3.{number % 7 + 1}.1.1.{number}" for number in range(1, heard + 1)]
        assert len(archive.instances(sop_uids=uids)) == heard
        assert archive.verify() == []
        with Dicomdir(archive.dicomdir) as source:
            assert {record.sop_instance_uid for _, record in source.records() if record.file_id} >= set(uids)
    finally:
        next(end, None)


def test_without_syncing_it_would_lose_much(tmp_path: Path, make: Make, store: Send) -> None:
    """The same cut with ``durability: none`` shows that the test above can fail."""
    heard, archive, end = cut(tmp_path, Durability.NONE, make, store)
    try:
        archive.prepare()
        assert sum(one.instances for one in archive.listing()) < heard
    finally:
        next(end, None)

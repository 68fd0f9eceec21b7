"""DCMTK's client tools, run as a user would; answers come back as pydicom data sets."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.support.tools import path_of

SECONDS = 60
Keys = Mapping[str, str] | Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What a tool did.

    Attributes:
        answers: of findscu, in the order they came.
        status: of the final response, or None where the tool named none.
        text: everything it wrote, with ``-d``.
    """

    returncode: int
    text: str
    status: int | None = None
    answers: tuple[Dataset, ...] = ()


def run(tool: str, *arguments: str | Path, seconds: float = SECONDS, folder: Path | None = None) -> Outcome:
    """Run a tool to its end."""
    done = subprocess.run(
        [path_of(tool), *(str(one) for one in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        cwd=folder,
        check=False,
    )
    text = done.stdout.decode("utf-8", errors="replace")
    statuses = re.findall(r"DIMSE Status\s+: 0x([0-9a-f]{4})", text)
    return Outcome(done.returncode, text, int(statuses[-1], 16) if statuses else None)


def echo(port: int, *, aet: str = "ECHOSCU", aec: str = "ANY-SCP", options: Sequence[str] = ()) -> Outcome:
    """echoscu."""
    return run("echoscu", "-d", "-aet", aet, "-aec", aec, *options, "127.0.0.1", str(port), seconds=30)


def find(
    port: int, level: str, keys: Keys, *, aet: str = "FINDSCU", aec: str = "ANY-SCP", model: str = "-S",
    options: Sequence[str] = (),
) -> Outcome:  # fmt: skip
    """findscu: ``find(port, "STUDY", {"PatientName": "DOE*", "StudyInstanceUID": ""})``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome = run(
            "findscu", "-d", "-X", "-od", folder, model, "-aet", aet, "-aec", aec, *options,
            "127.0.0.1", str(port), *_keys(level, keys), folder=folder,
        )  # fmt: skip
        answers = []
        for file in sorted(folder.glob("rsp*.dcm")):
            answer = dcmread(file, force=True)
            answer.decode()
            answers.append(answer)
        return Outcome(outcome.returncode, outcome.text, outcome.status, tuple(answers))


def move(
    port: int, level: str, keys: Keys, destination: str, *, aet: str = "MOVESCU", aec: str = "ANY-SCP",
    model: str = "-S", options: Sequence[str] = (),
) -> Outcome:  # fmt: skip
    """movescu to a destination's AE title."""
    return run(
        "movescu", "-d", model, "-aet", aet, "-aec", aec, "-aem", destination, *options,
        "127.0.0.1", str(port), *_keys(level, keys),
    )  # fmt: skip


def get(
    port: int, level: str, keys: Keys, folder: Path, *, aet: str = "GETSCU", aec: str = "ANY-SCP", model: str = "-S",
    options: Sequence[str] = (),
) -> Outcome:  # fmt: skip
    """getscu into a folder, bytes as received."""
    folder.mkdir(parents=True, exist_ok=True)
    return run(
        "getscu", "-d", "+B", "-od", folder, model, "-aet", aet, "-aec", aec, *options,
        "127.0.0.1", str(port), *_keys(level, keys),
    )  # fmt: skip


def store(
    port: int, files: Sequence[Path], *, aet: str = "STORESCU", aec: str = "ANY-SCP", options: Sequence[str] = ()
) -> Outcome:
    """dcmsend, which proposes each file's own transfer syntax and decompresses nothing."""
    return run("dcmsend", "-d", "-dn", "-nuc", "-aet", aet, "-aec", aec, *options, "127.0.0.1", str(port), *files)


def _keys(level: str, keys: Keys) -> list[str]:
    pairs = [f"{name}={value}" for name, value in keys.items()] if isinstance(keys, Mapping) else list(keys)
    return [part for one in [f"QueryRetrieveLevel={level}", *pairs] for part in ("-k", one)]

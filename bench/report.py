"""Medians and ratios as JSON for scripts and as a table for people (the keys are DESIGN section 7's)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.rows import MEMORY_TARGET_MB, Row
from tests.support.tools import find


@dataclass(frozen=True)
class Measured:
    """A row's figures of all rounds; an archive that could not do the work has a reason instead."""

    row: Row
    ours: list[float]
    peers: Mapping[str, list[float]]
    limit: list[float]
    failures: Mapping[str, str]
    synced_limit: list[float] = field(default_factory=list)


def as_json(measured: Measured) -> dict[str, Any]:
    """One row of the file; ``ratio`` over 1 is better for us."""
    row = measured.row
    ours = median(measured.ours) if measured.ours else None
    peers = {name: median(values) for name, values in measured.peers.items() if values}
    ratio = None
    if ours is not None and peers:
        ratio = ours / max(peers.values()) if row.more else min(peers.values()) / ours
    elif ours is not None and row.unit == "MB":
        ratio = MEMORY_TARGET_MB / ours
    return {
        "name": row.name,
        "work": row.work,
        "unit": row.unit,
        "ours": ours,
        "peers": peers,
        "ratio": ratio,
        "target": row.target,
        "met": None if ratio is None else ratio >= row.target,
        "rounds": len(measured.ours),
        **_limit("limit", measured.limit, ours),
        **_limit("synced_limit", measured.synced_limit, ours),
        "failures": dict(measured.failures),
    }


def _limit(name: str, values: list[float], ours: float | None) -> dict[str, float | None]:
    limit = median(values) if values else None
    return {name: limit, f"share_of_{name}": limit / ours if limit and ours else None}


def machine() -> dict[str, Any]:
    """Where it was measured."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(":")[2].strip() if models else platform.processor()
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "dcmtk": _version("dcmqrscp"),
        "orthanc": _version("Orthanc"),
    }


def _version(tool: str) -> str:
    path = find(tool)
    if path is None:
        return "not installed"
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def write(path: Path, rows: list[dict[str, Any]], *, quick: bool) -> None:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": rows, "machine": machine(), "quick": quick}, indent=2) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        f"{'':24}{'ours':>12}{'Orthanc':>12}{'dcmqrscp':>12}{'ratio':>8}{'target':>8}{'of limit':>10}{'of synced':>11}"
    ]
    for row in rows:
        cells = [row["ours"], row["peers"].get("Orthanc"), row["peers"].get("dcmqrscp")]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        mark = " " if row["met"] else "!"
        shares = ["" if row[key] is None else f"{row[key]:.0%}" for key in ("share_of_limit", "share_of_synced_limit")]
        figures = "".join(f"{_figure(cell, row['unit']):>12}" for cell in cells)
        lines.append(
            f"{row['name']:24}{figures}{ratio:>8}{row['target']:>7g}{mark}{shares[0]:>10}{shares[1]:>11}".rstrip()
        )
        lines += [f"    {name}: {why}" for name, why in row["failures"].items()]
    return "\n".join(lines)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit != "s":
        return f"{value:.0f} {unit}"
    return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"

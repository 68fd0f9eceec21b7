"""Audit the locks: every requirement pinned with hashes, none with a known hole; exit status 1 when one is not.

Asks OSV through pip-audit. Where OSV cannot be reached that is said, and the locks are held to what can be known
without it: their own form, and ``minimum-versions.toml``. Whether a version was yanked cannot be known offline.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_ROOT = Path(__file__).resolve().parent.parent
_MINIMUM = Path(__file__).with_name("minimum-versions.toml")
_LOCKS = ("requirements.lock", "requirements-runtime.lock", "requirements-build.lock")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?= |$)")
_SECONDS = 300


class Unreachable(Exception):
    """The vulnerability service gave no answer."""


def entries(lock: Path) -> Iterator[str]:
    """The lines of a lock, continued ones joined, comments left out."""
    text = re.sub(r"\\\n\s*", "", lock.read_text("utf-8"))
    for line in text.splitlines():
        if entry := line.partition("#")[0].strip():
            yield entry


def versions(lock: Path) -> dict[str, list[str]]:
    """The pinned versions by name; several where they depend on the Python version."""
    found: dict[str, list[str]] = {}
    for entry in entries(lock):
        if pinned := re.match(r"([A-Za-z0-9._-]+)==([^\s;,*]+)(?=[\s;]|$)", entry):
            found.setdefault(canonicalize_name(pinned[1]), []).append(pinned[2])
    return found


def malformed(lock: Path) -> Iterator[str]:
    """Entries that are not one exact version with hashes, from whatever index is configured."""
    for entry in entries(lock):
        if entry.startswith("-"):
            yield f"{entry.split()[0]} has no place in a lock: where packages come from is the installer's to say"
            continue
        try:
            requirement = Requirement(_HASH.sub("", entry).strip())
        except InvalidRequirement:
            yield f"not understood: {entry[:60]}"
            continue
        if requirement.url:
            yield f"{requirement.name} comes from a URL"
        elif not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
            yield f"{requirement.name} is not pinned to one version"
        elif not _HASH.search(entry):
            yield f"{requirement.name} has no hash"


def too_old(lock: Path) -> Iterator[str]:
    """Versions below those that are known to be needed."""
    needed = tomllib.loads(_MINIMUM.read_text("utf-8"))
    for name, pinned in versions(lock).items():
        if name in needed:
            least = needed[name]["at_least"]
            yield from (
                f"{name} {one} is below {least}: {needed[name]['why']}"
                for one in pinned
                if Version(one) < Version(least)
            )


def vulnerable(lock: Path, osv_url: str | None) -> list[str]:
    """What OSV knows against the locked versions.

    Raises:
        Unreachable: OSV did not answer, or not for every package.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command += ["--osv-url", osv_url] if osv_url else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {_SECONDS} s") from None
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise Unreachable((done.stderr.strip() or "no answer").splitlines()[-1]) from None
    if skipped := [one["name"] for one in found if "skip_reason" in one]:
        raise Unreachable(f"nothing was said of {', '.join(skipped)}")
    return [
        f"{one['name']} {one['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'no version'}"
        for one in found
        for hole in one["vulns"]
    ]


def main() -> int:
    """Audit and print; the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("locks", nargs="*", type=Path, default=[_ROOT / name for name in _LOCKS])
    arguments.add_argument("--offline", action="store_true", help="do not ask OSV")
    arguments.add_argument("--osv-url", help="ask this mirror of OSV")
    options = arguments.parse_args()
    problems = [f"{lock.name}: {text}" for lock in options.locks for text in (*malformed(lock), *too_old(lock))]
    asked = "OSV was not asked"
    if not options.offline:
        try:
            problems += [f"{lock.name}: {text}" for lock in options.locks for text in vulnerable(lock, options.osv_url)]
            asked = "OSV was asked"
        except Unreachable as error:
            asked = f"OSV could NOT be asked ({error}), so only form and minimum versions were checked"
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    count = len({(name, one) for lock in options.locks for name, some in versions(lock).items() for one in some})
    print(f"audited {count} locked versions: {len(problems)} problems; {asked}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

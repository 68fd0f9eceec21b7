"""One process speaking for all: metrics, caches, readiness and the level of the log across the workers.

With one process the answers are its own; with several, each is asked over its control socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.exposition import generate_latest
from starlette.routing import Route

from gateway import logs, metrics
from gateway.coercion.reload import Reloader
from gateway.daemon.leading import LeadingArchives
from gateway.query.desk import CacheDesk, joined
from gateway.web.cache import cache_routes
from gateway.web.rules import rules_routes
from gateway.workers.control import ask_all
from gateway.workers.totals import Totals


def control_verbs(reloader: Reloader, leading: LeadingArchives) -> Mapping[str, Callable[[Any], Any]]:
    """What the other processes may ask of one."""
    return {
        "metrics": lambda _: [os.getpid(), generate_latest(metrics.REGISTRY).decode()],
        "log.level": logs.set_level,
        "reload": lambda _: reloader.reload().version,
        "leading": lambda _: leading.standings(),
        "cache.show": leading.desk.show,
        "cache.flush": lambda chosen: leading.desk.flush(**chosen),
    }


def totals(own: Callable[[], str], name: str, control: Path | None) -> Callable[[], str]:
    """The metrics of all processes together; what is the same in all of them is told by this one."""
    if control is None:
        return own
    added = Totals()

    def everywhere() -> str:
        others = {other: tuple(told) for other, told in ask_all(control, "metrics").items() if other != name}
        return added({name: (os.getpid(), own()), **others})

    return everywhere


def log_level(control: Path | None) -> Callable[[str], None]:
    """Changes the level of the log in all processes."""
    if control is None:
        return logs.set_level

    def everywhere(level: str) -> None:
        ask_all(control, "log.level", level)

    return everywhere


def leading_up(leading: LeadingArchives, control: Path | None) -> Callable[[], Mapping[str, bool]]:
    """By name, whether a leading archive answers.

    It does not when a process has found it so and none has had an answer since: an idle process learns of nothing.
    """

    def everywhere() -> Mapping[str, bool]:
        own = leading.standings()
        known = [own, *(ask_all(control, "leading").values() if control else ())]
        return {name: is_up([one[name] for one in known if name in one]) for name in own}

    return everywhere


def is_up(standings: Sequence[tuple[bool, float, float]]) -> bool:
    """Whether a leading archive answers, from what each process knows of it."""
    answered = max(at for _, at, _ in standings)
    return all(closed or failed < answered for closed, _, failed in standings)


def rules(reloader: Reloader, control: Path | None) -> list[Route]:
    """The rules in force, and reading them again in all processes."""

    def reload() -> str:
        version = reloader.reload().version  # raises for a bad file before any other process is asked
        if control is not None:
            ask_all(control, "reload")
        return version

    return rules_routes(lambda: reloader().version, reload)


def caches(desk: CacheDesk, control: Path | None) -> list[Route]:
    """Looking at and emptying the caches of all processes."""
    if control is None:
        return cache_routes(desk.show, desk.flush)

    def show(archive: str) -> dict[str, Any]:
        desk.show(archive)  # refuses a name that is none, where asking all would leave every process out
        return joined(ask_all(control, "cache.show", archive).values())

    def flush(*, archive: str, study: str, patient: str) -> int:
        desk.show(archive)
        chosen = {"archive": archive, "study": study, "patient": patient}
        return sum(ask_all(control, "cache.flush", chosen).values())

    return cache_routes(show, flush)

"""Rules that are read again when their file changes: checked first, then swapped in one assignment.

An operation takes the rules once, at its beginning, and keeps those. A file with problems leaves the rules in force as
they are, counts in a metric, and is logged; the next good one takes over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import watchfiles

from gateway import metrics
from gateway.coercion.lint import lint
from gateway.coercion.parser import load_rules
from gateway.coercion.rules import RuleSet
from gateway.errors import ConfigError
from gateway.logs import get_logger

_log = get_logger("coercion")
_DEBOUNCE_MS = 200
_STEP_MS = 50
_GLANCE_MS = 1000
_QUIET_S = 0.25


class Reloader:
    """The rules in force; calling it gives them.

    Reading the rules needs no lock. The watching thread is started by ``start``, after any fork.

    Args:
        path: the rule file; None: the built-in rule, for good.

    Raises:
        ConfigError: the file has problems already.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rules = RuleSet.default() if path is None else load_rules(path)
        self._seen = _stamps(self._rules.files)
        self._reloading = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.observers: list[Callable[[RuleSet], None]] = []
        """Called with the new rules whenever others are in force, from the thread that read them."""
        self._taken()

    def __call__(self) -> RuleSet:
        """The rules in force now."""
        return self._rules

    def reload(self) -> RuleSet:
        """Read the file again; from now on its rules are in force.

        Raises:
            ConfigError: the file has problems; the rules stay as they were.
        """
        if self._path is None:
            return self._rules
        with self._reloading:
            self._seen = _stamps(self._rules.files)
            try:
                rules = load_rules(self._path)
            except ConfigError as error:
                metrics.RULES_RELOADS.labels("failed").inc()
                metrics.RULES_GOOD.set(0)
                _log.error("rules not reloaded", problems=error.problems, version=self._rules.version)
                raise
            before, self._rules = self._rules.version, rules
            self._seen = {
                file: stamp for file, stamp in (_stamps(rules.files) | self._seen).items() if file in rules.files
            }
            metrics.RULES_RELOADS.labels("good").inc()
            self._taken()
            if rules.version != before:
                _log.info("rules reloaded", version=rules.version, rules=len(rules.rules), warnings=lint(rules))
                for observer in self.observers:
                    observer(rules)
        return rules

    def start(self) -> Self:
        """Watch the folders of the rule file and of its tables, so that editors that rename are noticed too."""
        if self._path is not None and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="rules-watch", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End the watching thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._stop.is_set():
            folders = self._folders()
            for _ in self._events(folders):
                if self._changed():
                    self._reload_quietly()
                if self._folders() != folders:
                    break  # the new rules name other tables: watch their folders

    def _changed(self) -> bool:
        """Whether the files are others than those read last, and have been left alone for a moment.

        Most editors, and ``cp``, empty a file before they fill it: what is seen in between is nobody's rules.
        """
        now = _stamps(self._rules.files)
        while now != self._seen and not self._stop.wait(_QUIET_S):
            before, now = now, _stamps(self._rules.files)
            if before == now:
                return True
        return False

    def _folders(self) -> set[Path]:
        return {Path(file).absolute().parent for file in self._rules.files}

    def _events(self, folders: set[Path]) -> Iterator[object]:
        """Something happened in a folder, or a second went by: a change before watching began is noticed then."""
        return watchfiles.watch(
            *folders,
            stop_event=self._stop,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=_GLANCE_MS,
            yield_on_timeout=True,
            recursive=False,
            raise_interrupt=False,
        )

    def _reload_quietly(self) -> None:
        try:
            self.reload()
        except ConfigError:
            return  # counted and logged; the rules in force stay

    def _taken(self) -> None:
        metrics.RULES_GOOD.set(1)
        metrics.RULES_TIME.set(time.time())
        for rule in self._rules.rules:  # counted from 0 on, so that the first failure is an increase
            metrics.RULES_APPLIED.tally(rule.name)
            metrics.RULES_FAILURES.labels(rule.name, rule.on_failure.value)


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, int, int] | None]:
    """What tells that a file was changed or replaced: inode, size and time of change; None while it is away."""
    return {file: _stamp(file) for file in files}


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

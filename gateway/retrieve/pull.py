"""Pull-through: instances of the leading archive pass through the spool to whoever asked, as they arrive.

Whoever needs instances of a study enters its folder in the spool and follows the log there. If nobody asks the leading
archive for the study at the moment, the one who comes becomes the one who does, in a thread of its own; all others
only follow. A pull goes on until it is done or everybody has left. Its failure is everybody's: those who waited for
the same instances do not ask again, each in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.dicom.instance import StoredInstance
from gateway.errors import Cancelled, GatewayError, StorageError
from gateway.logs import carried, get_logger
from gateway.metrics import PULLS
from gateway.retrieve.arrival import Keeper, PullReceiver
from gateway.retrieve.missing import Missing
from gateway.retrieve.spool import Arrived, Ended, Entry, Lead, Log, Spool, Wanted
from gateway.retrieve.upstream import Upstream

_log = get_logger("retrieve")
_IDLE_SECONDS = 0.02
_ATTEMPTS = 2
"""How often one waiter asks the leading archive, when pulls end without saying how: on a full disk, say."""
_pause = threading.Event()  # never set: a wait that a stop of the process ends


@dataclass(frozen=True)
class Unsent:
    """An instance that will not come."""

    sop_instance_uid: str
    problem: str


class PullThrough:
    """Pulls through a spool.

    Args:
        keep: the local archive, to keep what is pulled; None to let it pass.
    """

    def __init__(self, spool: Spool, upstream: Upstream, keep: Keeper | None = None) -> None:
        self._spool = spool
        self._upstream = upstream
        self._keep = keep

    def open(self, missing: Missing) -> Inflow:
        """Ask for what is missing of a study; the files stay until the inflow is closed."""
        return Inflow(self._spool.enter(missing.study_instance_uid), missing, self._run)

    def _run(self, lead: Lead, folder: Path, missing: Missing) -> None:
        """A pull's thread: ask the leading archive and say how it ended."""
        problem, outcome = "internal error", "failed"
        try:
            self._fetch(lead, folder, missing)
            problem, outcome = "", "done"
        except Cancelled:
            problem = outcome = "abandoned"
        except GatewayError as error:
            problem = error.message
            _log.error("pull failed", reason=problem)
        except Exception:  # noqa: BLE001 - a thread's root: logged, and said to those who wait
            _log.exception("pull failed")
        PULLS.labels(outcome).inc()
        asked = tuple(one.sop_instance_uid for one in missing.instances)
        try:
            lead.end(Ended(asked, problem, abandoned=outcome == "abandoned"))
        except StorageError as error:
            _log.error("nobody can be told how a pull ended", reason=error.message)

    def _fetch(self, lead: Lead, folder: Path, missing: Missing) -> None:
        wanted = wanted_of(missing)
        lead.want(wanted)
        log = Log(folder)
        try:
            receiver = PullReceiver(folder, wanted, self._keep)
            self._upstream.fetch(missing, receiver, _Count(log, wanted), lead.is_unwanted)
        finally:
            log.close()


class _Count:
    """How many of the wanted instances have arrived, counted from the log."""

    def __init__(self, log: Log, wanted: Wanted) -> None:
        self._log = log
        self._wanted = wanted
        self._arrived: set[str] = set()

    def __call__(self) -> int:
        for one in self._log.news():
            if isinstance(one, Arrived) and one.instance.sop_instance_uid in self._wanted.series_of:
                self._arrived.add(one.instance.sop_instance_uid)
        return len(self._arrived)


class Inflow:
    """What is missing of a study on its way here, for one who waits for it; closed when all of it was sent on."""

    def __init__(self, entry: Entry, missing: Missing, run: Callable[[Lead, Path, Missing], None]) -> None:
        self._entry = entry
        self._missing = missing
        self._run = run
        self._outstanding = {one.sop_instance_uid: one for one in missing.instances}
        self._attempts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entry.close()

    def __iter__(self) -> Iterator[StoredInstance | Unsent | None]:
        """Each instance as it arrives, or why it will not; None now and then while there is nothing to tell."""
        while self._outstanding:
            news = list(self._news()) or self._lead()
            yield from news
            if not news:
                _pause.wait(_IDLE_SECONDS)
                yield None

    def _news(self) -> Iterator[StoredInstance | Unsent]:
        for one in self._entry.news():
            if isinstance(one, Arrived):
                if self._outstanding.pop(one.instance.sop_instance_uid, None):
                    yield one.instance
            elif not one.abandoned:
                for uid in one.asked:
                    if self._outstanding.pop(uid, None):
                        yield Unsent(uid, one.problem or "the leading archive did not send it")

    def _lead(self) -> list[StoredInstance | Unsent]:
        """Become the one who asks, if nobody does; what the one before said last.

        Nothing is yielded while the right is held: whoever stops iterating then would take it along.
        """
        lead = self._entry.lead()
        if lead is None:
            return []
        news = list(self._news())
        left = tuple(one for one in self._missing.instances if one.sop_instance_uid in self._outstanding)
        if not left or self._attempts == _ATTEMPTS:
            lead.end()
            self._outstanding.clear()
            return news + [Unsent(one.sop_instance_uid, "pulls end without a word") for one in left]
        self._attempts += 1
        is_all = len(left) == len(self._missing.instances)
        whole = self._missing.whole_series if is_all else frozenset()
        missing = replace(self._missing, instances=left, whole_series=whole)
        run = carried(self._run)
        threading.Thread(target=run, args=(lead, self._entry.folder, missing), name="pull", daemon=True).start()
        return news


def wanted_of(missing: Missing) -> Wanted:
    """What a pull accepts."""
    series_of = {one.sop_instance_uid: one.series_instance_uid for one in missing.instances}
    return Wanted(missing.patient_id, missing.study_instance_uid, series_of)

"""One download: what is to come, what has come, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import StoreRequest
from gateway.dimse.requestor import RetrieveProgress
from gateway.errors import Cancelled, GatewayError, Refused
from gateway.retrieve.incoming import FolderReceiver, Received, remove_parts
from gateway.retrieve.missing import Missing
from gateway.retrieve.upstream import Upstream

_TICK = 0.5


@dataclass(frozen=True)
class Listing:
    """What is to be downloaded.

    Attributes:
        missing: what is not on the disk; without a list of instances it is asked for as a whole.
        present: the instances that are on the disk already, by SOP Instance UID.
        is_known: whether the peer listed what it has.
    """

    missing: Missing
    present: frozenset[str] = frozenset()
    is_known: bool = True

    @property
    def total(self) -> int | None:
        """All instances, or None where the peer did not list them."""
        return len(self.missing.instances) + len(self.present) if self.is_known else None

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.missing.study_instance_uid}: the peer does not list what it has"
        series = len({one.series_instance_uid for one in self.missing.instances})
        return (
            f"{self.missing.study_instance_uid}: {len(self.missing.instances)} instances of {series} series to fetch, "
            f"{len(self.present)} on the disk"
        )


@dataclass(frozen=True)
class Progress:
    """How far a download is.

    Attributes:
        completed: files on the disk, those that were there before included.
        failed: sub-operations that the peer says have failed.
        warning: those that ended with a warning.
        remaining: what is still to come, as far as it is known.
        total: all instances, once it is known.
        size: bytes received.
    """

    completed: int = 0
    failed: int = 0
    warning: int = 0
    remaining: int | None = None
    total: int | None = None
    size: int = 0


@dataclass(frozen=True)
class Result:
    """How a download ended.

    Attributes:
        status: the final DIMSE status: 0000H when everything is on the disk, FE00H when it was cancelled.
        problem: what went wrong, in words; empty when nothing did.
        files: the files that this download wrote.
        present: how many instances were there before.
        failed: SOP Instance UIDs that did not come, as far as they are known.
    """

    status: int
    problem: str
    files: tuple[Path, ...]
    present: int
    failed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there was something, and all of it is on the disk."""
        return kind(self.status) is Kind.SUCCESS and not self.problem


class Opening(Protocol):
    """Makes the upstream of a download, which is told of each response."""

    def __call__(self, on_response: Callable[[RetrieveProgress], None]) -> Upstream:
        """The upstream."""


@dataclass
class _State:
    progress: Progress = field(default_factory=Progress)
    files: dict[str, Path] = field(default_factory=dict)
    final: RetrieveProgress | None = None
    failed_before: int = 0
    result: Result | None = None
    error: BaseException | None = None


class Download:
    """A running download: iterate over it for its progress, cancel it, ask for its result.

    As a context manager it is cancelled when the block is left early.

    Args:
        opening: makes the upstream.
        listing: says what is to come; called in the download's thread, since the peer is asked for it.
        folder: where the files go, ``<SOP Instance UID>.dcm``.
    """

    def __init__(self, opening: Opening, listing: Callable[[], Listing], folder: Path) -> None:
        self._opening = opening
        self._list = listing
        self._folder = folder
        self._state = _State()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind_ is not None:
            self.cancel()
        self._thread.join()

    def __iter__(self) -> Iterator[Progress]:
        """The progress each time it has changed; ends when the download has."""
        told: Progress | None = None
        while True:
            progress, ended = self._news_since(told)
            if progress != told:
                told = progress
                yield progress
            elif ended:
                return

    def _news_since(self, told: Progress | None) -> tuple[Progress, bool]:
        with self._changed:
            self._changed.wait_for(lambda: self._state.progress != told or self._ended, _TICK)
            return self._state.progress, self._ended

    @property
    def _ended(self) -> bool:
        return self._state.result is not None or self._state.error is not None

    def cancel(self) -> None:
        """Tell the peer to stop (C-CANCEL); files that are whole by then stay."""
        self._stop.set()

    def result(self) -> Result:
        """Wait for the end.

        Raises:
            GatewayError: it failed before anything was asked for, such as a peer that cannot be reached.
        """
        self._thread.join()
        if self._state.error is not None:
            raise self._state.error
        assert self._state.result is not None
        return self._state.result

    def _run(self) -> None:
        """The download's thread."""
        try:
            result = self._fetched(self._list())
            with self._changed:
                self._state.result = result
                self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            with self._changed:
                self._state.error = error
                self._changed.notify_all()

    def _fetched(self, listing: Listing) -> Result:
        present = len(listing.present)
        remaining = len(listing.missing.instances) if listing.total is not None else None
        self._update(completed=present, total=listing.total, remaining=remaining)
        if remaining == 0:
            return Result(Status.SUCCESS, "", (), present, ())
        receiver = FolderReceiver(self._folder, _file_name, self._arrived, durable=True)
        status, problem = int(Status.SUCCESS), ""
        try:
            upstream = self._opening(self._responded)
            upstream.fetch(listing.missing, receiver, lambda: len(self._state.files), self._stop.is_set)
        except Cancelled:
            status, problem = Status.CANCEL, "cancelled"
        except GatewayError as error:
            status = getattr(error, "upstream_status", None) or error.status
            problem = f"{error.message} ({error.hint})" if error.hint else error.message
        return self._concluded(listing, status, problem)

    def _concluded(self, listing: Listing, status: int, problem: str) -> Result:
        """Compare what came with what was to come; the peer's counters alone are not believed."""
        state = self._state
        expected = [one.sop_instance_uid for one in listing.missing.instances]
        failed = tuple(uid for uid in expected if uid not in state.files)
        if not expected and state.final is not None:
            failed = state.final.failed_uids
        if status == Status.SUCCESS and (failed or state.progress.failed):
            status = Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES
            problem = f"{len(failed) or state.progress.failed} instances did not come"
        elif status == Status.SUCCESS and not state.files:
            problem = "the peer has nothing of it"
        return Result(status, problem, tuple(state.files.values()), len(listing.present), failed)

    def _arrived(self, received: Received) -> None:
        with self._changed:
            state = self._state
            before = state.progress
            if received.request.sop_instance_uid not in state.files:
                left = before.remaining - 1 if before.remaining else before.remaining
                state.progress = replace(before, completed=before.completed + 1, remaining=left)
            state.files[received.request.sop_instance_uid] = received.path
            state.progress = replace(state.progress, size=before.size + received.size)
            self._changed.notify_all()

    def _responded(self, response: RetrieveProgress) -> None:
        """What the peer says of failures; what has come is counted by files, which a peer cannot get wrong."""
        with self._changed:
            state = self._state
            failed = state.failed_before + response.failed
            total, remaining = state.progress.total, state.progress.remaining
            if total is None and response.remaining is not None:
                total = response.remaining + response.completed + response.failed + response.warning
                remaining = response.remaining
            state.progress = replace(
                state.progress, failed=failed, warning=response.warning, total=total, remaining=remaining
            )
            if kind(response.status) is not Kind.PENDING:
                state.final, state.failed_before = response, failed
            self._changed.notify_all()

    def _update(self, *, completed: int, total: int | None, remaining: int | None) -> None:
        with self._changed:
            self._state.progress = replace(self._state.progress, completed=completed, total=total, remaining=remaining)
            self._changed.notify_all()


def _file_name(request: StoreRequest) -> str:
    """A name that no peer can make a path of."""
    uid = request.sop_instance_uid
    if not is_uid(uid):
        raise Refused("SOP Instance UID is no UID", Status.INVALID_ARGUMENT_VALUE)
    return f"{uid}.dcm"


def is_uid(text: str) -> bool:
    """Whether a text is digits and single dots (PS3.5 9.1), and so a harmless file name."""
    return len(text) <= 64 and text.isascii() and all(part.isdecimal() for part in text.split("."))

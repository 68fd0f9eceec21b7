"""One upstream query that several askers read while its answers arrive.

A flight fetches in a thread of its own, so that a reader can wait with one eye on its own association: it sends what it
has, and leaves at once when cancelled. A reader that leaves does not disturb the others; when the last one has left,
the upstream query is cancelled. A failure is every reader's failure. Answers are kept for readers to come until there
are too many bytes of them; from then on nobody can join, only those are kept that a slower reader has still to read,
and fetching waits for the slowest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from threading import Condition, Thread

from gateway.dicom.attributes import Attributes
from gateway.dicom.encoded import Encoded
from gateway.errors import Cancelled, UpstreamError, UpstreamKind
from gateway.logs import get_logger

_POLL = 0.05
"""Seconds between looks at a waiting reader's cancel signal."""

_WINDOW = 1_000
"""Answers of an overflown flight that wait for the slowest reader."""

_log = get_logger("query")

Start = Callable[[Callable[[], bool]], Iterator[Attributes]]
"""Begins the upstream query; it is given the signal for its cancellation."""

Ended = Callable[[tuple[Attributes, ...] | None, UpstreamError | None], None]
"""Told once how the query ended: all answers, a failure, or neither when it was given up or was too large to keep."""


def size_of(answer: Attributes) -> int:
    """Bytes of memory that an answer takes, by estimate: 3.0 KB where 2.8 were measured, encoded form included."""
    if isinstance(answer, Encoded):
        return 200 + 2 * len(answer.encode(implicit=False))
    return 250 + sum(190 + len(element.value) for element in answer.values())


class _Reader:
    """How far one asker has read."""

    def __init__(self) -> None:
        self.position = 0


class Flight:
    """A query on its way.

    Args:
        max_bytes: of answers to keep; 0 is without a limit.
        wanted: whether to go on when nobody reads; a refresh does.
    """

    def __init__(
        self, start: Start, ended: Ended, max_bytes: int, *, wanted: Callable[[], bool] = lambda: False
    ) -> None:
        self._stream = start(self._abandoned)
        self._ended = ended
        self._max_bytes = max_bytes
        self._wanted = wanted
        self._condition = Condition()
        self._readers: set[_Reader] = set()
        self._answers: list[Attributes] = []
        self._dropped = 0  # answers that are kept no longer
        self._bytes = 0
        self._overflown = False
        self._closed = False  # nobody can join any more
        self._done = False
        self._error: UpstreamError | None = None
        context = copy_context()  # what stands on the log lines of who asked first
        self._thread = Thread(target=context.run, args=(self._fetch,), name="flight", daemon=True)

    def launch(self) -> None:
        """Begin to fetch; whoever wants to read has joined before."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def join(self, cancelled: Callable[[], bool]) -> Iterator[list[Attributes]] | None:
        """All answers from the first on, as many at a time as are there; None when it is too late to join.

        Raises (from the iterator):
            Cancelled: this reader's signal was given.
            UpstreamError: the query failed.
        """
        with self._condition:
            if self._closed or self._overflown:
                return None
            reader = _Reader()
            self._readers.add(reader)
        return self._read(reader, cancelled)

    def _read(self, reader: _Reader, cancelled: Callable[[], bool]) -> Iterator[list[Attributes]]:
        try:
            while True:
                answers, ended = self._next(reader)
                if answers:
                    yield answers
                elif ended:
                    return
                elif cancelled():  # not under the lock: it may send what the viewer has not been sent yet
                    raise Cancelled("cancelled by the caller")
        finally:
            self._leave(reader)

    def _next(self, reader: _Reader) -> tuple[list[Attributes], bool]:
        """What the reader has not read yet, possibly nothing after a short wait; and whether that was all.

        Raises:
            UpstreamError: the query failed, and everything it brought has been read.
        """
        with self._condition:
            if not self._done and reader.position - self._dropped == len(self._answers):
                self._condition.wait(_POLL)
            here = self._answers[reader.position - self._dropped :]
            reader.position += len(here)
            self._trim()
            if not here and self._error is not None:
                raise again(self._error)
            return here, self._done

    def _leave(self, reader: _Reader) -> None:
        with self._condition:
            self._readers.discard(reader)
            self._closed = self._closed or not (self._readers or self._wanted())
            self._trim()

    def _trim(self) -> None:
        if not self._overflown:
            return
        read = min((reader.position for reader in self._readers), default=self._dropped) - self._dropped
        del self._answers[:read]
        self._dropped += read
        self._condition.notify_all()

    def _abandoned(self) -> bool:
        """Whether nobody wants the answer any more; nobody can join after this was true."""
        with self._condition:
            if self._readers or self._wanted():
                return False
            self._closed = True
            return True

    def _fetch(self) -> None:
        """The thread: read the upstream query to its end."""
        told: UpstreamError | None = None
        error: UpstreamError | None = UpstreamError("the query broke off", UpstreamKind.PROTOCOL)
        try:
            if all(self._add(answer) for answer in self._stream):
                error = None
        except UpstreamError as failed:
            error = told = failed
        except Cancelled:
            error = UpstreamError("the query was cancelled", UpstreamKind.ABORTED)
        except Exception:  # noqa: BLE001 - the root of a thread
            _log.exception("a query upstream broke off")
        finally:
            close = getattr(self._stream, "close", None)
            if close is not None:
                close()
            self._finish(error, told)

    def _add(self, answer: Attributes) -> bool:
        """Take an answer; false when nobody wants it."""
        with self._condition:
            while self._overflown and len(self._answers) >= _WINDOW and self._readers:
                self._condition.wait(_POLL)
            self._answers.append(answer)
            self._bytes += size_of(answer)
            self._overflown = self._overflown or bool(self._max_bytes and self._bytes > self._max_bytes)
            self._condition.notify_all()
        return not self._abandoned()

    def _finish(self, error: UpstreamError | None, told: UpstreamError | None) -> None:
        whole = None if self._overflown or error else tuple(self._answers)
        self._ended(whole, told)
        with self._condition:
            self._done = self._closed = True
            self._error = error
            self._condition.notify_all()


def again(error: UpstreamError) -> UpstreamError:
    """The same failure for another reader: an exception raised in two threads would mix their tracebacks."""
    return UpstreamError(error.message, error.kind, upstream_status=error.upstream_status)

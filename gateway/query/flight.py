"""One upstream query that several askers read while its answers arrive.

No thread belongs to a flight: whichever reader first needs an answer that is not there yet fetches it for all. A
reader that leaves does not disturb the others; when the last one leaves, the upstream query is closed, which cancels
it. A failure is every reader's failure. Answers are kept for readers to come until there are too many bytes of them;
from then on nobody can join, and only those are kept that a slower reader has still to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Condition

from gateway.dicom.attributes import Attributes
from gateway.errors import Cancelled, UpstreamError, UpstreamKind

_POLL = 0.05
"""Seconds between looks at a waiting reader's cancel signal."""

_WINDOW = 1_000
"""Answers that a fast reader of an overflown flight may be ahead of the slowest."""


def size_of(answer: Attributes) -> int:
    """Bytes of memory that an answer takes, by estimate: measured 190 bytes an element beside its value."""
    return 250 + sum(190 + len(element.value) for element in answer.values())


class _Reader:
    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.position = 0
        self.cancelled = cancelled


class Flight:
    """A query on its way.

    Args:
        start: begins the upstream query; it is given the signal for its cancellation.
        ended: is told all answers when the query ended well and nothing was thrown away, else None; once.
        max_bytes: of answers to keep; 0 is without a limit.
    """

    def __init__(
        self,
        start: Callable[[Callable[[], bool]], Iterator[Attributes]],
        ended: Callable[[tuple[Attributes, ...] | None, UpstreamError | None], None],
        max_bytes: int,
    ) -> None:
        self._stream = start(self._abandoned)
        self._ended = ended
        self._max_bytes = max_bytes
        self._condition = Condition()
        self._readers: set[_Reader] = set()
        self._answers: list[Attributes] = []
        self._dropped = 0  # answers that were kept no longer
        self._bytes = 0
        self._overflown = False
        self._pulling = False
        self._closed = False  # nobody can join any more
        self._done = False
        self._error: UpstreamError | None = None

    def join(self, cancelled: Callable[[], bool]) -> Iterator[Attributes] | None:
        """All answers from the first on; None when it is too late to join.

        Raises (from the iterator):
            Cancelled: this reader's signal was given.
            UpstreamError: the query failed.
        """
        with self._condition:
            if self._closed or self._overflown:
                return None
            reader = _Reader(cancelled)
            self._readers.add(reader)
        return self._read(reader)

    def _read(self, reader: _Reader) -> Iterator[Attributes]:
        try:
            while answers := self._next(reader):
                yield from answers
        finally:
            self._leave(reader)

    def _next(self, reader: _Reader) -> list[Attributes]:
        """What the reader has not read yet, at least one; nothing at the end."""
        while True:
            with self._condition:
                here = self._answers[reader.position - self._dropped :]
                if here:
                    reader.position += len(here)
                    self._trim()
                    return here
                if self._error is not None:
                    raise again(self._error)
                if self._done:
                    return []
                if reader.cancelled():
                    raise Cancelled("cancelled by the caller")
                if self._pulling or len(self._answers) >= self._room():
                    self._condition.wait(_POLL)
                    continue
                self._pulling = True
            self._pull()

    def _room(self) -> int:
        return _WINDOW if self._overflown else 1 << 62

    def _pull(self) -> None:
        """Fetch one answer, for everybody."""
        error: UpstreamError | None = UpstreamError("the query broke off", UpstreamKind.PROTOCOL)
        answer: Attributes | None = None
        try:
            answer = next(self._stream, None)
            error = None
        except UpstreamError as failed:
            error = failed
        finally:
            self._pulled(answer, error)

    def _pulled(self, answer: Attributes | None, error: UpstreamError | None) -> None:
        if answer is None:
            whole = None if self._overflown or error else tuple(self._answers)
            self._ended(whole, error)
        with self._condition:
            self._pulling = False
            if answer is not None:
                self._answers.append(answer)
                self._bytes += size_of(answer)
                self._overflown = self._overflown or bool(self._max_bytes and self._bytes > self._max_bytes)
            else:
                self._done = self._closed = True
                self._error = error
            self._condition.notify_all()

    def _trim(self) -> None:
        if not self._overflown:
            return
        read = min(reader.position for reader in self._readers) - self._dropped
        if read > 0:
            del self._answers[:read]
            self._dropped += read
            self._condition.notify_all()

    def _leave(self, reader: _Reader) -> None:
        with self._condition:
            self._readers.discard(reader)
            if self._readers:
                self._trim()
                return
            unfinished = not self._done
            self._closed = self._done = True
        if unfinished:
            self._ended(None, None)
            close = getattr(self._stream, "close", None)
            if close is not None:
                close()

    def _abandoned(self) -> bool:
        """Whether no reader wants the answer any more; nobody can join after this was true."""
        with self._condition:
            self._closed = self._closed or all(reader.cancelled() for reader in self._readers)
            return self._closed


def again(error: UpstreamError) -> UpstreamError:
    """The same failure for another reader: an exception raised in two threads would mix their tracebacks."""
    return UpstreamError(error.message, error.kind, upstream_status=error.upstream_status)

"""The last few answers as they went out, to be handed out again as they are.

A repeated query costs a look at what its answer rests on: the evidence the sources put down, the local archive's
generation and the rule set's version. As long as all hold, the very same :class:`Attributes` go out, whose encoded
bytes are there already. Answers that were makeshift, cancelled or cut short are never remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache

from gateway import metrics
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.encoded import Encoded
from gateway.query.flight import size_of
from gateway.query.ports import Evidence, QuerySource, Request

_HITS, _MISSES = (metrics.QUERY_MEMO.labels(outcome) for outcome in ("hit", "miss"))


@dataclass(frozen=True)
class _Memory:
    answers: tuple[Attributes, ...]
    size: int
    version: Hashable
    evidence: tuple[Evidence, ...]

    def holds(self, version: Hashable) -> bool:
        return self.version == version and all(one.holds() for one in self.evidence)


class Memo:
    """Remembers the answers of a source.

    Args:
        version: changes whenever the same query may have another answer for reasons that no source puts down as
            evidence: the local archive's generation and the rule set's version.
        seen_of: what of a caller the answer depends on; all of it by default.
        max_bytes: of answers, by estimate.
        max_answers: in one query; a larger answer is not remembered.
    """

    def __init__(
        self,
        source: QuerySource,
        version: Callable[[], Hashable],
        *,
        seen_of: Callable[[Caller], Hashable] = lambda caller: caller,
        max_bytes: int = 64 << 20,
        max_answers: int = 10_000,
    ) -> None:
        self._source = source
        self._version = version
        self._seen_of = seen_of
        self._max_answers = max_answers
        self._lock = Lock()
        self._kept: LRUCache[Hashable, _Memory] = LRUCache(max_bytes, getsizeof=lambda memory: memory.size)

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the answers, remembered or new; see :class:`~gateway.query.ports.QuerySource`."""
        key = (request.query.canonical, self._seen_of(request.caller))
        version = self._version()
        with self._lock:
            memory = self._kept.get(key)
        if memory is not None and memory.holds(version):
            _HITS.inc()
            for one in memory.evidence:
                one.use()
            request.evidence.extend(memory.evidence)
            return iter(memory.answers)
        _MISSES.inc()
        return self._remembering(key, version, request)

    def _remembering(self, key: Hashable, version: Hashable, request: Request) -> Iterator[Attributes]:
        answers: list[Attributes] = []
        for answer in self._source.find(request):
            if len(answers) <= self._max_answers:
                if not isinstance(answer, Encoded):
                    answer = Encoded(answer.encode(implicit=False))  # noqa: PLW2901 - smaller, and ready to be sent
                answers.append(answer)
            yield answer
        if len(answers) > self._max_answers or version != self._version():
            return
        memory = _Memory(tuple(answers), 500 + sum(map(size_of, answers)), version, tuple(request.evidence))
        with self._lock:
            if memory.holds(version) and memory.size <= self._kept.maxsize:
                self._kept[key] = memory

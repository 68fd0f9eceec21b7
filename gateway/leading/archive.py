"""One leading archive as a query source and as a source of studies' attributes, over C-FIND of Study Root."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

from gateway import IMPLEMENTATION_CLASS_UID, metrics
from gateway.dicom import charset, tags
from gateway.dicom.attributes import Attributes, Element, element_of
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Query
from gateway.dicom.models import LEADING_ATTRIBUTES, SERVICES, Level, Model
from gateway.dicom.tags import vr_of
from gateway.errors import UpstreamError, UpstreamKind
from gateway.leading.breaker import Breaker, State
from gateway.leading.lookup import Lookup
from gateway.leading.pool import Association, Connect, Pool
from gateway.leading.probe import Probe
from gateway.logs import get_logger
from gateway.query.ports import Request, never

_log = get_logger("leading")
STUDY_ROOT_FIND = next(one.find for one in SERVICES if one.model is Model.STUDY_ROOT)


@dataclass(frozen=True)
class Options:
    """How one archive is asked.

    Attributes:
        charset: asked for in every query; empty leaves (0008,0005) out, for archives that match on it.
        batch: studies in one look-up.
        parallel: look-ups at a time with an archive that refuses lists of UIDs.
        associations: at most, at a time.
        patience: seconds to wait for one while all are in use.
        max_answers: to one question; more are a failure of the archive. 0 is no limit.
        idle: seconds until an unused association is released.
        return_keys: tags asked for in a look-up; all patient and study attributes by default.
        failures: in a row, that open the circuit.
        retry_after: seconds until an open circuit is tried, if only by a question of our own.
    """

    charset: str = charset.UTF8
    batch: int = 100
    parallel: int = 4
    associations: int = 8
    patience: float = 10.0
    max_answers: int = 100_000
    idle: float = 5.0
    return_keys: frozenset[int] = LEADING_ATTRIBUTES
    failures: int = 5
    retry_after: float = 10.0


class LeadingArchive:
    """A leading archive.

    Nothing is connected by constructing one.

    Args:
        name: of the peer, for logs and metrics.
        connect: opens an association that has the Study Root C-FIND.
    """

    def __init__(
        self, name: str, connect: Connect, options: Options | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.name = name
        self._options = options = options or Options()
        self._pool = Pool(
            connect, limit=options.associations, idle=options.idle, patience=options.patience, clock=clock
        )
        self._breaker = Breaker(options.failures, options.retry_after, clock=clock, changed=self._changed)
        self._lookup = Lookup(self._ask_studies, name=name, batch=options.batch, parallel=options.parallel)
        self._probe = Probe(self._ask_nothing, lambda: self._breaker.state is not State.CLOSED, options.retry_after)
        self._told_open = False
        self._clock = clock
        self._answered_at = self._failed_at = 0.0
        self._changed(State.CLOSED)

    @property
    def standing(self) -> tuple[bool, float, float]:
        """Whether its circuit is closed, when it last answered and when it last failed to, by the monotonic clock."""
        return self._breaker.state is State.CLOSED, self._answered_at, self._failed_at

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the archive's answers as they arrive; see :class:`~gateway.query.ports.QuerySource`.

        Answers have the requested keys only, in UTF-8 where ASCII does not do.
        """
        query = request.query
        for answer in self._answers(query, request.cancelled):
            if not answer.text(query.level.unique_key):
                metrics.QUERY_ANSWERS_DROPPED.labels(query.level.name).inc()
                _log.warning("answer without its unique key dropped", archive=self.name, level=query.level.name)
                continue
            if query.level is Level.STUDY:
                self._lookup.saw(answer.text(tags.StudyInstanceUID))
            yield answer

    def studies(self, uids: Sequence[str], caller: Caller) -> dict[str, Attributes]:  # noqa: ARG002 # we ask as us
        """The attributes of the studies it knows; see :class:`~gateway.query.ports.StudyAttributesSource`."""
        return {uid: _with_values(answer) for uid, answer in self._lookup.studies(uids).items()}

    def close(self) -> None:
        """Release associations and end threads."""
        self._probe.close()
        self._lookup.close()
        self._pool.close()

    def _ask_studies(self, uids: Sequence[str]) -> Generator[Attributes, None, None]:
        keys = {tag: Element(vr_of(tag), b"") for tag in self._options.return_keys}
        keys[tags.StudyInstanceUID] = element_of(tags.StudyInstanceUID, "\\".join(uids), ())
        return self._answers(Query(Model.STUDY_ROOT, Level.STUDY, Attributes(keys)), never)

    def _ask_nothing(self) -> None:
        """A question as others are, for a study that nobody has."""
        for _ in self._ask_studies([IMPLEMENTATION_CLASS_UID]):
            pass

    def _answers(self, query: Query, cancelled: Callable[[], bool]) -> Generator[Attributes, None, None]:
        """Ask, through the breaker, counting how it ended."""
        try:
            self._breaker.enter()
        except UpstreamError as error:
            metrics.LEADING_REQUESTS.labels(self.name, error.kind.value).inc()
            raise
        outcome, started = "given_up", monotonic()
        try:
            yield from self._asked(query, cancelled)
            outcome = "answered"
        except UpstreamError as error:
            outcome = error.kind.value
            raise
        finally:
            self._report(outcome)
            metrics.LEADING_SECONDS.labels(self.name).observe(monotonic() - started)

    def _report(self, outcome: str) -> None:
        metrics.LEADING_REQUESTS.labels(self.name, outcome).inc()
        if outcome in {"given_up", UpstreamKind.BUSY.value}:
            self._breaker.given_up()
        elif outcome in {"answered", UpstreamKind.STATUS.value}:
            self._answered_at = self._clock()
            self._breaker.answered()
        else:
            self._failed_at = self._clock()
            self._breaker.failed()

    def _asked(self, query: Query, cancelled: Callable[[], bool]) -> Iterator[Attributes]:
        """Ask on an association; on a new one if one that was idle turns out to be gone."""
        identifier = self._identifier(query)
        wanted = frozenset(query.keys) | {tags.SpecificCharacterSet, query.level.unique_key}
        begun = False
        with self._pool.association() as (association, reused):
            try:
                for answer in self._answered(association, identifier, cancelled):
                    begun = True
                    yield _unified(answer, wanted)
                return
            except UpstreamError as error:
                if begun or not reused or error.kind is not UpstreamKind.ABORTED:
                    raise
        with self._pool.association(fresh=True) as (association, _):
            for answer in self._answered(association, identifier, cancelled):
                yield _unified(answer, wanted)

    def _answered(
        self, association: Association, identifier: Attributes, cancelled: Callable[[], bool]
    ) -> Iterator[Attributes]:
        """The answers on one association, which is aborted when there is no end of them."""
        most = self._options.max_answers
        for number, answer in enumerate(association.find(STUDY_ROOT_FIND, identifier, cancelled)):
            if most and number >= most:
                association.abort()
                raise UpstreamError(f"more than {most} answers, leading.max_answers", UpstreamKind.ENDLESS)
            yield answer

    def _identifier(self, query: Query) -> Attributes:
        """The query as it goes out: with its level, in the configured character set if that has its characters."""
        terms = (self._options.charset,) if self._options.charset else ()
        try:
            keys = query.keys.in_charset(terms)
        except charset.Unrepresentable:
            keys = query.keys.in_charset((charset.UTF8,))
        unique = {query.level.unique_key: Element("UI", b"")}
        level = {tags.QueryRetrieveLevel: element_of(tags.QueryRetrieveLevel, query.level.name, ())}
        return Attributes({**unique, **keys, **level})

    def _changed(self, state: State) -> None:
        metrics.LEADING_CIRCUIT.labels(self.name).set(state.value)
        tell = _log.debug if state is State.HALF_OPEN or (state is State.OPEN and self._told_open) else _log.info
        tell("circuit", archive=self.name, state=state.name.lower())
        self._told_open = state is not State.CLOSED
        if state is State.OPEN:
            self._probe.begin()


def _unified(answer: Attributes, wanted: frozenset[int]) -> Attributes:
    """Only what was asked for, in UTF-8; without a character set where ASCII does."""
    kept = answer.only(wanted)
    return kept.without([tags.SpecificCharacterSet]) if kept.is_ascii() else kept.in_charset((charset.UTF8,))


def _with_values(answer: Attributes) -> Attributes:
    return Attributes({tag: element for tag, element in answer.items() if element.value})

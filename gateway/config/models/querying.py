"""Leading archives, queries and retrieves."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from pydantic import Field

from gateway.config.models.section import Section
from gateway.config.types import AETitle, ConfigPath, Count, Duration, Size

_MIB = 2**20


class QueryCache(Section):
    """Answers of a leading archive, kept for a while."""

    ttl: Duration | None = timedelta(minutes=5)
    """How long an answer is fresh; null: for ever, until it is pushed out."""
    empty_ttl: Duration = timedelta(minutes=1)
    """How long "no match" is fresh."""
    failure_ttl: Duration = timedelta(seconds=5)
    """How long a failed query is not tried anew."""
    max_entries: Count = 10_000
    """Answers kept at most, the least recently used go first; 0 is unbounded and needs a ttl."""
    max_studies: Count = 100_000
    """Studies whose attributes are kept at most, each by itself; 0 is unbounded and needs a ttl."""
    max_bytes: Size = 64 * _MIB
    """Memory for the answers, and as much again for the studies, by estimate; 0 is unbounded."""
    max_entry_bytes: Size = 16 * _MIB
    """A larger answer goes through without being kept; 0 is unbounded."""
    stale_if_error: Duration = timedelta(hours=1)
    """How long after its end an answer still serves when the leading archive fails."""
    refresh_ahead: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the lifetime after which a hit refreshes the answer in the background; 1 never does."""


class Breaker(Section):
    """When to stop asking a leading archive that fails."""

    failures: Annotated[Count, Field(ge=1)] = 5
    """Failures in a row that open the circuit."""
    retry_after: Duration = timedelta(seconds=10)
    """How long it stays open before one query tries the archive again."""


class Leading(Section):
    """An archive whose patient and study attributes are the true ones."""

    peer: str
    """Name of the peer."""
    callers: tuple[AETitle, ...] = ()
    """AE titles for whose queries it is asked; empty: for all."""
    issuer: str = ""
    """Issuer of Patient ID it is the authority for; empty: for all."""
    charset: str = "ISO_IR 192"
    """Specific Character Set that its answers are asked for in; empty: none, for archives that match on it."""
    batch: Annotated[Count, Field(ge=1, le=1000)] = 100
    """Studies in one look-up."""
    parallel: Annotated[Count, Field(ge=1)] = 4
    """Look-ups at a time when it does not understand lists of UIDs and has to be asked one by one."""
    associations: Annotated[Count, Field(ge=1)] = 8
    """Open to it at most, in one worker."""
    idle: Duration = timedelta(seconds=5)
    """How long an unused association is kept for the next query."""
    max_answers: Count = 100_000
    """To one question; at more it is hung up on, which counts as its failure. 0 is no limit."""
    query_cache: QueryCache = QueryCache()
    breaker: Breaker = Breaker()


class Scope(Enum):
    """Which studies a query answers."""

    ALL = "all"
    LOCAL = "local"


class Query(Section):
    """How queries are answered."""

    scope: Scope = Scope.ALL
    """``all``: also studies that only the leading archive has; ``local``: those the local archive has."""
    lenient: bool = False
    """Accept a missing unique key above the level instead of A900H (PS3.4 C.4.1.2.2.1)."""
    max_answers: Count = 0
    """A query with more matches ends with A700H after so many; 0 is no limit."""
    memo_bytes: Size = 64 * _MIB
    """Memory for finished answers that are handed out again as they are, by estimate."""
    empty_matches: bool = False
    """Whether an entity whose attribute is empty matches any key (PS3.4 C.2.2.2); most archives say no."""


class Completeness(Enum):
    """When the leading archive is asked whether it has more of a study than is here."""

    OFF = "off"
    COUNT = "count"
    INSTANCES = "instances"


class Via(Enum):
    """How instances are fetched from the leading archive."""

    AUTO = "auto"
    GET = "get"
    MOVE = "move"


class Unexpected(Enum):
    """What becomes of an instance from the leading archive that no retrieve asked for."""

    STORE = "store"
    REFUSE = "refuse"


class Retrieve(Section):
    """How C-MOVE and C-GET are served when the leading archive has what is not here."""

    completeness: Completeness = Completeness.COUNT
    """``off``: ask it only for what is wholly absent here; ``count``: also when it counts more instances of a series;
    ``instances``: compare every instance."""
    via: Via = Via.AUTO
    """``get``: C-GET; ``move``: C-MOVE to our AE title, which it has to know; ``auto``: C-GET where it offers it."""
    keep: bool = False
    """Store what was pulled in the local archive."""
    unexpected: Unexpected = Unexpected.STORE
    """Instances that it sends and nobody asked for: store or refuse."""
    spool: ConfigPath | None = None
    """Folder for instances on their way through, on a local disk; without this key ``<root>.spool`` beside the root."""

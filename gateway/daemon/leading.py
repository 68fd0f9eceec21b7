"""The configured leading archives, each behind its cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config
from gateway.config.models import Leading as LeadingSection
from gateway.config.models import QueryCache as CacheSection
from gateway.daemon import peers
from gateway.leading.archive import LeadingArchive, Options
from gateway.leading.connecting import connector
from gateway.query.cache import CachedLeading, Settings
from gateway.query.desk import CacheDesk
from gateway.query.ports import Leading
from gateway.query.several import FirstKnown, Member
from gateway.query.shelf import SharedShelf
from gateway.query.ttl import Lifetimes, Limits


@dataclass(frozen=True)
class LeadingArchives:
    """What was built, for the view, for the cache's verbs and for the end.

    Attributes:
        view: all of them as one; None when none is configured.
    """

    archives: tuple[LeadingArchive, ...]
    caches: tuple[CachedLeading, ...]
    view: Leading | None

    @property
    def desk(self) -> CacheDesk:
        """For looking at the caches and emptying them."""
        return CacheDesk(self.caches)

    def standings(self) -> dict[str, tuple[bool, float, float]]:
        """By name, what this process knows of the archive; see :attr:`LeadingArchive.standing`."""
        return {one.name: one.standing for one in self.archives}

    def close(self) -> None:
        """End refreshes, release associations."""
        for cache in self.caches:
            cache.close()
        for archive in self.archives:
            archive.close()


def build_leading(config: Config, shared: Path | None = None) -> LeadingArchives:
    """The leading archives of a configuration; nothing is connected yet.

    Args:
        shared: folder of what the gateway's processes share; None when there is one only.
    """
    known = peers.callable_peers(config)
    archives = tuple(
        LeadingArchive(one.peer, connector(known[one.peer], config.ae.title), _options(one)) for one in config.leading
    )
    caches = tuple(
        CachedLeading(
            archive.name,
            archive,
            _settings(section.query_cache),
            shelf=SharedShelf(shared, archive.name, section.query_cache.max_bytes) if shared else None,
        )
        for archive, section in zip(archives, config.leading, strict=True)
    )
    members = [
        Member(cache, _callers(section, config.ae.title), section.issuer)
        for cache, section in zip(caches, config.leading, strict=True)
    ]
    alone = len(members) == 1 and not members[0].callers and not members[0].issuer
    return LeadingArchives(archives, caches, caches[0] if alone else FirstKnown(members) if members else None)


def _callers(section: LeadingSection, ours: str) -> frozenset[str]:
    """For whom it is asked; wherever that is limited, also for our own verbs, which compare and reconcile."""
    return frozenset({*section.callers, ours} if section.callers else ())


def _options(section: LeadingSection) -> Options:
    return Options(
        charset=section.charset,
        batch=section.batch,
        parallel=section.parallel,
        associations=section.associations,
        idle=section.idle.total_seconds(),
        max_answers=section.max_answers,
        failures=section.breaker.failures,
        retry_after=section.breaker.retry_after.total_seconds(),
    )


def _settings(section: CacheSection) -> Settings:
    ttl = section.ttl
    return Settings(
        queries=Limits(section.max_entries, section.max_bytes, section.max_entry_bytes),
        studies=Limits(section.max_studies, section.max_bytes, section.max_entry_bytes),
        lifetimes=Lifetimes(
            success=None if ttl is None else ttl.total_seconds(),
            empty=section.empty_ttl.total_seconds(),
            failure=section.failure_ttl.total_seconds(),
            stale_if_error=section.stale_if_error.total_seconds(),
            refresh_ahead=section.refresh_ahead,
        ),
    )

"""The caches of all leading archives, as an admin looks at them and empties them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from gateway.dicom.status import Status
from gateway.errors import Refused
from gateway.query.cache import CachedLeading


class CacheDesk:
    """Shows and flushes."""

    def __init__(self, caches: Iterable[CachedLeading]) -> None:
        self._caches = {cache.name: cache for cache in caches}

    def show(self, archive: str = "") -> dict[str, Any]:
        """Entries, and totals by archive and cache, as one JSON document; times in seconds.

        Raises:
            Refused: no such archive.
        """
        entries = [asdict(entry) for cache in self._chosen(archive) for entry in cache.entries()]
        totals: dict[tuple[str, str], dict[str, Any]] = {
            (cache.name, kind): {"archive": cache.name, "cache": kind, "entries": 0, "bytes": 0}
            for cache in self._chosen(archive)
            for kind in ("queries", "studies")
        }
        for entry in entries:
            total = totals[entry["archive"], entry["cache"]]
            total["entries"] += 1
            total["bytes"] += entry["bytes"]
        return {"totals": list(totals.values()), "entries": entries}

    def flush(self, *, archive: str = "", study: str = "", patient: str = "") -> int:
        """Forget a study, a patient or everything; returns how many entries went.

        Raises:
            Refused: no such archive.
        """
        return sum(cache.flush(study=study, patient=patient) for cache in self._chosen(archive))

    def _chosen(self, archive: str) -> list[CachedLeading]:
        if archive and archive not in self._caches:
            raise Refused(f"no leading archive is named '{archive}'", Status.NO_SUCH_OBJECT_INSTANCE)
        return [cache for name, cache in self._caches.items() if not archive or name == archive]


def joined(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What several processes show, as one document: totals are added up, entries stand side by side."""
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    entries: list[dict[str, Any]] = []
    for document in documents:
        entries.extend(document["entries"])
        for one in document["totals"]:
            total = totals.setdefault((one["archive"], one["cache"]), {**one, "entries": 0, "bytes": 0})
            total["entries"] += one["entries"]
            total["bytes"] += one["bytes"]
    return {"totals": list(totals.values()), "entries": entries}

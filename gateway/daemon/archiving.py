"""The local archive as the configuration says: for the service and for the verbs that work on the archive directly."""

from __future__ import annotations

from gateway.archive.index import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.store import OnConflict
from gateway.config import Config


def build_archive(config: Config) -> LocalArchive:
    """The archive; nothing of it is opened yet."""
    section = config.archive
    return LocalArchive(
        section.dicomdir,
        index=section.index / "index.sqlite" if section.index else None,
        durability=Durability(section.durability.value),
        on_conflict=OnConflict(section.on_conflict.value),
        publish_delay=section.publish_delay.total_seconds(),
        min_free=section.min_free,
    )

"""The local archive as the configuration says: for the service and for the verbs that work on the archive directly."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.retain import Committed, Policy, Rule
from gateway.archive.store import OnConflict
from gateway.commitment.database import Database
from gateway.commitment.inquiries import InquiryLedger
from gateway.config import Config
from gateway.config.models import OnlyIf, Retain
from gateway.daemon.committing import commitment_settings
from gateway.dicom.keys import Empties


def build_archive(config: Config) -> LocalArchive:
    """The archive with its policy of retention; nothing of it is opened yet."""
    section = config.archive
    archive = LocalArchive(
        section.dicomdir,
        index=section.index / "index.sqlite" if section.index else None,
        durability=Durability(section.durability.value),
        on_conflict=OnConflict(section.on_conflict.value),
        publish_delay=section.publish_delay.total_seconds(),
        min_free=section.min_free,
        journal_bytes=section.journal,
        empties=Empties(empty=config.query.empty_matches, absent=config.query.empty_matches),
    )
    archive.retain_by(_policy(section.retain), _committed(config))
    return archive


def _policy(section: Retain) -> Policy:
    rules = tuple(
        Rule(
            received_before=one.received_before,
            studied_before=one.studied_before,
            unused_for=one.unused_for,
            free_below=one.free_below,
            only_committed=one.only_if is OnlyIf.COMMITTED,
        )
        for one in section.rules
    )
    return Policy(rules, section.every, section.max_studies)


def _committed(config: Config) -> Committed:
    """What other archives have committed, by the ledger; it is opened when a rule asks."""

    def committed(sop_instance_uids: Sequence[str]) -> bool:
        settings = commitment_settings(config)
        if not settings.ledger.exists():
            return False
        database = Database(settings.ledger)
        try:
            return InquiryLedger(database, settings.bounds).committed_elsewhere(sop_instance_uids)
        finally:
            database.close()

    return committed

"""What every process has, each opened after the fork: rules, archive, leading archives, commitment, audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from gateway.archive.local import LocalArchive
from gateway.coercion.reload import Reloader
from gateway.commitment.elsewhere import LeadingInstances
from gateway.commitment.service import Commitment
from gateway.config import Config
from gateway.daemon import peers
from gateway.daemon.archiving import build_archive
from gateway.daemon.auditing import Auditor, build_auditor
from gateway.daemon.committing import build_commitment
from gateway.daemon.leading import LeadingArchives, build_leading
from gateway.daemon.share import Share


@dataclass(frozen=True)
class Parts:
    """The parts that the DICOM and the HTTP side are built from.

    Attributes:
        rules: gives the rules in force.
        auditor: None where no audit trail is configured.
    """

    rules: Reloader
    archive: LocalArchive
    leading: LeadingArchives
    commitment: Commitment
    auditor: Auditor | None


def prepare(config: Config) -> None:
    """Bring the files in order, once, before any process serves: what a crash left, a new DICOMDIR, the ledger.

    Raises:
        ConfigError: the rules, a certificate or the commitment decision cannot be loaded.
        StorageError: the archive or the ledger cannot be used.
    """
    Reloader(config.coercion.rules)
    peers.accept_tls(config)
    peers.callable_peers(config)
    archive = build_archive(config)
    try:
        archive.prepare()
        commitment = build_commitment(config, archive, None)
        commitment.prepare()
        commitment.stop()
    finally:
        archive.close()


def open_parts(config: Config, share: Share, stack: ExitStack) -> Parts:
    """Open and start them; ``stack`` closes them in the opposite order."""
    rules = stack.enter_context(Reloader(config.coercion.rules))
    archive = build_archive(config)
    stack.callback(archive.close)
    archive.open()
    leading = build_leading(config, share.control)
    stack.callback(leading.close)
    archive.on_deleted(lambda studies: _forget(leading, studies))
    archive.start()
    auditor = build_auditor(config, share.name, archive, stack)
    if auditor and share.http:  # one process tells of what all of them see
        _audit_changes(auditor, archive, rules, stack)
    commitment = build_commitment(config, archive, LeadingInstances(leading.archives))
    commitment.start(counting=share.http)
    stack.callback(commitment.stop)
    return Parts(rules, archive, leading, commitment, auditor)


def _audit_changes(auditor: Auditor, archive: LocalArchive, rules: Reloader, stack: ExitStack) -> None:
    archive.on_deleted(auditor.deleted)
    rules.observers.append(lambda new: auditor.rules_changed(new.version))
    auditor.started(up=True)
    stack.callback(auditor.started, up=False)


def _forget(leading: LeadingArchives, studies: Sequence[str]) -> None:
    """A deleted study may come back corrected: ask anew then."""
    for cache in leading.caches:
        for uid in studies:
            cache.flush(study=uid)

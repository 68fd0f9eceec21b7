"""Storage commitment from the configuration: its ledger, its decision, its peers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from starlette.routing import Route

from gateway.archive.local import LocalArchive, default_index
from gateway.commitment.decision import ArchiveDecider, Elsewhere, Verify, load_decider
from gateway.commitment.job import Retry
from gateway.commitment.notes import RejectionReceiver, permitted_peers
from gateway.commitment.records import Bounds
from gateway.commitment.rejection import Action, OnResend, Title
from gateway.commitment.rejection import Rules as RejectionRules
from gateway.commitment.resources import Resources
from gateway.commitment.routes import Route as ReportRoute
from gateway.commitment.service import Commitment, Ledgers, Settings
from gateway.commitment.sweep import Sweep
from gateway.config import Config
from gateway.config.models import CommitmentReport, Permission
from gateway.daemon import peers
from gateway.daemon.coercing import Rules, SentCoercion
from gateway.daemon.storing import Push
from gateway.dicom.caller import Caller
from gateway.dicom.models import Level
from gateway.dimse.commitment import CommitmentAssociations
from gateway.dimse.ports import Receiver
from gateway.dimse.requestor import connect
from gateway.web.commitment import CommitmentRoutes
from gateway.web.modalities import ModalityRoutes
from gateway.web.openapi import openapi


def ledger_path(config: Config) -> Path:
    """The ledger's file: where the configuration says, else in the folder of the index."""
    section = config.archive
    return config.commitment.ledger or (section.index or default_index(section.dicomdir).parent) / "commitment.sqlite"


def commitment_settings(config: Config) -> Settings:
    """What the configuration says of commitment."""
    section = config.commitment
    retry = section.retry
    return Settings(
        ledger_path(config),
        Bounds(section.max_transactions, section.max_age.total_seconds(), section.max_instances),
        Retry(retry.first.total_seconds(), retry.longest.total_seconds(), retry.attempts),
        timeout=section.timeout.total_seconds(),
        linger=section.linger.total_seconds(),
    )


def build_commitment(config: Config, archive: LocalArchive, leading: Elsewhere | None) -> Commitment:
    """Both roles of storage commitment.

    Args:
        leading: asked for instances that are not here, where the configuration counts them.

    Raises:
        ConfigError: the entry point that is to decide cannot be loaded.
    """
    settings = commitment_settings(config)
    ledgers = Ledgers(settings)
    decider = ArchiveDecider(
        archive.instances,
        Verify(config.commitment.verify.value),
        digests=ledgers.digests,
        elsewhere=leading if config.commitment.count_leading else None,
    )
    return Commitment(
        settings,
        ledgers,
        load_decider(config.commitment.decision, decider),
        CommitmentAssociations(config.ae.title),
        commitment_routes(config),
        sweep=Sweep(ledgers.database, archive.instances),
    )


def commitment_routes(config: Config) -> list[ReportRoute]:
    """How each peer wants its reports."""
    return [
        ReportRoute(
            peer,
            config.peers[name].commitment_report is CommitmentReport.SAME,
            Permission.COMMIT in config.peers[name].allow,
        )
        for name, peer in peers.callable_peers(config).items()
    ]


def commitment_web(config: Config, commitment: Commitment, archive: LocalArchive, rules: Rules) -> list[Route]:
    """The HTTP routes of commitment and of storing, as Orthanc's users know them."""
    title = config.ae.title
    push = Push(archive.studies, SentCoercion(rules, title), lambda peer, pairs: connect(peer, title, pairs), title)
    resources = Resources(archive.instances, archive, Caller(title))
    return [
        *CommitmentRoutes(commitment, partial(_remove, archive)).routes(),
        *ModalityRoutes(commitment, resources, push, title).routes(),
        Route("/openapi.json", openapi),
    ]


def _remove(archive: LocalArchive, sop_instance_uids: Sequence[str]) -> int:
    deleted = [archive.delete(Level.IMAGE, uid, reason="commitment") for uid in sop_instance_uids]
    return sum(one.instances for one in deleted)


def rejecting(config: Config, inner: Receiver, archive: LocalArchive, ledgers: Ledgers) -> RejectionReceiver:
    """The receiver that acts on rejection notes, in front of the one that stores."""
    section = config.rejection
    named = {
        Title.QUALITY: section.quality,
        Title.PATIENT_SAFETY: section.patient_safety,
        Title.WORKLIST: section.worklist,
        Title.RETENTION: section.retention,
    }
    rules = RejectionRules(
        {title: Action(action.value) for title, action in named.items()},
        OnResend(section.on_resend.value),
        section.keep_notes,
    )
    may_reject = [name for name, peer in config.peers.items() if Permission.DELETE in peer.allow]

    def delete(sop_instance_uid: str, *, unlink: bool) -> None:
        archive.delete(Level.IMAGE, sop_instance_uid, reason="rejection", unlink=unlink)

    return RejectionReceiver(inner, ledgers.rejections, archive.instances, delete, permitted_peers(may_reject), rules)

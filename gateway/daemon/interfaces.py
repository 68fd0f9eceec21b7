"""The two sides of the gateway that the world sees, built from the parts: the DICOM server and the HTTP application."""

from __future__ import annotations

import socket
from dataclasses import replace

from starlette.types import ASGIApp

from gateway import logs
from gateway.commitment.withheld import WithholdingLeading
from gateway.config import Config
from gateway.daemon import everywhere, peers
from gateway.daemon.audited import AuditedPolicy, audited
from gateway.daemon.chain import build_handlers
from gateway.daemon.committing import commitment_web, rejecting
from gateway.daemon.observing import Scrape, readiness
from gateway.daemon.parts import Parts
from gateway.daemon.share import Share
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Policy
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.slots import Limits
from gateway.web.access import Tokens
from gateway.web.app import create_app
from gateway.web.logging import logging_routes


def build_server(config: Config, parts: Parts, listener: socket.socket, share: Share) -> Server:
    """The DICOM side: who may ask, and what answers."""
    ae = config.ae
    ledgers = parts.commitment.ledgers
    view = parts.leading.view and WithholdingLeading(parts.leading.view, ledgers.rejections)
    handlers = build_handlers(config, parts.archive, view, parts.rules)
    assert handlers.store is not None
    store = rejecting(config, handlers.store, parts.archive, ledgers)
    handlers = replace(handlers, action=parts.commitment.action, event=parts.commitment.event, store=store)
    policy: Policy = PeerPolicy([ae.title], peers.known_callers(config))
    endpoint = Endpoint(listener=listener, tls=peers.accept_tls(config))
    if parts.auditor:
        handlers, policy = audited(handlers, parts.auditor), AuditedPolicy(policy, parts.auditor)
        endpoint = replace(endpoint, untrusted=parts.auditor.untrusted)
    return Server(
        handlers,
        policy,
        endpoint,
        deadlines=Deadlines(
            setup=ae.timeouts.acse.total_seconds(),
            idle=ae.timeouts.idle.total_seconds(),
            network=ae.timeouts.network.total_seconds(),
        ),
        limits=Limits(
            associations=ae.max_associations,
            negotiating=ae.max_negotiations_per_address,
            rate=peers.rate(ae.max_associations_per_second),
            max_pdu=ae.max_pdu,
        ),
        place=share.place,
    )


def build_app(config: Config, parts: Parts, share: Share) -> ASGIApp:
    """The HTTP side: health, metrics, and the interface under ``/api`` and at Orthanc's paths."""
    http = config.http
    leading_up = everywhere.leading_up(parts.leading, share.control)
    checks = readiness(parts.archive, config.archive.min_free, leading_up)
    scrape = Scrape(parts.archive, checks["archive"], leading_up, share.restarts)
    watched = {"refused": parts.auditor.login_failed} if parts.auditor else {}
    return create_app(
        checks,
        exposition=everywhere.totals(scrape, share.name, share.control),
        tokens=Tokens.read(http.token_file, http.read_only_token_file),
        max_login_failures=http.max_login_failures,
        routes=[
            *commitment_web(config, parts.commitment, parts.archive, parts.rules),
            *everywhere.caches(parts.leading.desk, share.control),
            *everywhere.rules(parts.rules, share.control),
            *logging_routes(logs.level, everywhere.log_level(share.control)),
        ],
        **watched,
    )

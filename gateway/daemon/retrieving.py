"""C-MOVE, C-GET and C-STORE as one: what is missing here is pulled, and what is pulled may arrive by C-STORE."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from gateway.archive.local import LocalArchive
from gateway.config import Config
from gateway.config.models import Scope
from gateway.daemon import peers
from gateway.dimse.ports import Peer, Receiver
from gateway.dimse.requestor import connect
from gateway.query.ports import Leading
from gateway.retrieve.arrival import Correlator, Unexpected
from gateway.retrieve.get import GetService
from gateway.retrieve.move import MoveService
from gateway.retrieve.plan import Planner
from gateway.retrieve.ports import Coercion, View
from gateway.retrieve.pull import PullThrough
from gateway.retrieve.spool import Spool
from gateway.retrieve.survey import Completeness, Survey
from gateway.retrieve.upstream import DimseUpstream, FirstOf, Via


@dataclass(frozen=True)
class Retrieving:
    """The three handlers."""

    move: MoveService
    get: GetService
    store: Receiver


def build_retrieving(
    config: Config, archive: LocalArchive, view: View, leading: Leading | None, coercion: Coercion
) -> Retrieving:
    """Retrieve through the effective view, with pull-through where there is something to pull from."""
    title, section = config.ae.title, config.retrieve
    known = peers.callable_peers(config)
    survey = pull = None
    store: Receiver = archive
    if leading is not None and config.query.scope is Scope.ALL:
        names = [one.peer for one in config.leading]
        spool = Spool(section.spool or archive.root.with_name(f"{archive.root.name}.spool"))
        spool.sweep()
        upstreams = [DimseUpstream(known[name], title, Via(section.via.value)) for name in names]
        survey = Survey(leading, Completeness(section.completeness.value))
        pull = PullThrough(spool, FirstOf(upstreams), archive if section.keep else None)
        addresses = frozenset(address for name in names for address in _addresses(known[name]))
        unexpected = Unexpected(section.unexpected.value)
        store = Correlator(archive, spool, frozenset(names), addresses, keep=section.keep, unexpected=unexpected)
    planner = Planner(view, archive, survey)
    move = MoveService(
        planner,
        peers.destinations(config, known),
        coercion,
        lambda peer, contexts: connect(peer, title, contexts),
        pull,
    )
    return Retrieving(move, GetService(planner, coercion, pull), store)


def _addresses(peer: Peer) -> list[str]:
    """What a host name means now; none when it means nothing, so that the AE title decides alone."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []

"""The configured peers, as the wire and the retrieves want them."""

from __future__ import annotations

import socket
import ssl
from ipaddress import IPv4Network, IPv6Network, ip_network

from gateway.config import Config
from gateway.config.models import Peer as PeerSection
from gateway.config.models import Permission, Send
from gateway.dimse.policy import KnownCaller
from gateway.dimse.ports import Allowance, Peer, Timeouts, Verb
from gateway.dimse.tls import client_context, server_context
from gateway.logs import get_logger
from gateway.rates import Rate
from gateway.retrieve.destinations import Destination, Destinations
from gateway.retrieve.limits import Limits as SendLimits

_log = get_logger("daemon")
_NOBODY = (IPv4Network("255.255.255.255"),)


def callable_peers(config: Config) -> dict[str, Peer]:
    """Whom we can call, by name."""
    return {name: _peer(name, section) for name, section in config.peers.items()}


def _peer(name: str, section: PeerSection) -> Peer:
    times = section.timeouts
    timeouts = Timeouts(
        connect=times.connect.total_seconds(),
        acse=times.acse.total_seconds(),
        dimse=times.dimse.total_seconds(),
        network=times.network.total_seconds(),
    )
    tls = section.tls
    context = client_context(tls.ca, tls.certificate, tls.key, check_host=tls.check_host) if tls.ca else None
    return Peer(name, section.aet, section.host, section.port, timeouts, context)


def accept_tls(config: Config) -> ssl.SSLContext | None:
    """TLS of the DICOM port; None when it speaks in clear.

    Raises:
        ConfigError: the certificate cannot be used.
    """
    tls = config.ae.tls
    return server_context(tls.certificate, tls.key, tls.ca) if tls.certificate and tls.key else None


def known_callers(config: Config) -> list[KnownCaller]:
    """Who may call us, from where, and for what."""
    callers: list[KnownCaller] = []
    for name, section in config.peers.items():
        if not section.allow:
            continue
        verbs = frozenset(Verb(one.value) for one in section.allow if one is not Permission.DELETE)
        networks = tuple(ip_network(one) for one in section.addresses) or _networks_of(name, section.host)
        most = section.max_associations or config.ae.max_associations_per_peer
        allowance = Allowance(most, rate(section.max_requests_per_second))
        callers.append(KnownCaller(name, section.aet, verbs, networks, allowance))
    return callers


def rate(per_second: float) -> Rate | None:
    """A configured rate, with what may come in a second as its burst; None where there is no limit."""
    return Rate(per_second, max(1.0, per_second)) if per_second else None


def _networks_of(name: str, host: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The addresses a host name has now; a name that does not resolve lets nobody in."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("the peer's host has no address, so it cannot call us", peer=name, errno=error.errno)
        return _NOBODY
    return tuple(ip_network(str(one[4][0]).partition("%")[0]) for one in found)


def destinations(config: Config, peers: dict[str, Peer]) -> Destinations:
    """Where instances can be sent, and who may have them sent there."""
    permitted = {
        name: frozenset(section.destinations)
        for name, section in config.peers.items()
        if section.destinations is not None
    }
    return Destinations([_destination(peer, config.peers[name].send) for name, peer in peers.items()], permitted)


def _destination(peer: Peer, send: Send) -> Destination:
    return Destination(peer, send.associations, SendLimits(send.max_associations, send.bytes_per_second))

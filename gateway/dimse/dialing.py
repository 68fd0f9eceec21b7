"""Opening an association: TCP, TLS and A-ASSOCIATE, each within its deadline (PS3.8 9.2, requestor's states)."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from time import monotonic

from gateway.dimse import acse, pdu
from gateway.dimse.exchange import Exchange
from gateway.dimse.negotiation import AssociateAccept, AssociateRequest, usable_contexts
from gateway.dimse.pdu import Control, ProtocolError
from gateway.dimse.ports import Peer
from gateway.dimse.wire import Channel, Lost, unexpected
from gateway.errors import UpstreamError, UpstreamKind


@dataclass(frozen=True)
class Dialled:
    """An association that was accepted."""

    exchange: Exchange
    accept: AssociateAccept


def dial(peer: Peer, request: AssociateRequest) -> Dialled:
    """Connect to a peer and associate.

    Raises:
        UpstreamError: the peer cannot be reached, rejects, aborts, or does not answer in time.
    """
    sock = _connect(peer)
    try:
        return _associate(peer, sock, request)
    except BaseException:
        sock.close()
        raise


def translated(peer: Peer, error: UpstreamError) -> UpstreamError:
    """A plain UpstreamError that names the peer: a Lost inside another association's operation would be its own."""
    return UpstreamError(f"{peer.name}: {error.message}", error.kind, upstream_status=error.upstream_status)


def _connect(peer: Peer) -> socket.socket:
    limit = monotonic() + peer.timeouts.connect
    try:
        sock = socket.create_connection((peer.host, peer.port), peer.timeouts.connect)
    except TimeoutError as error:
        raise UpstreamError(f"{peer.name}: connection timed out", UpstreamKind.TIMEOUT) from error
    except OSError as error:
        raise UpstreamError(f"{peer.name}: cannot connect", UpstreamKind.UNREACHABLE) from error
    if peer.tls is None:
        return sock
    try:
        sock.settimeout(max(0.001, limit - monotonic()))
        return peer.tls.wrap_socket(sock, server_hostname=peer.host)
    except TimeoutError as error:
        sock.close()
        raise UpstreamError(f"{peer.name}: TLS handshake timed out", UpstreamKind.TIMEOUT) from error
    except (ssl.SSLError, OSError) as error:
        sock.close()
        raise UpstreamError(f"{peer.name}: TLS handshake failed", UpstreamKind.UNREACHABLE) from error


def _associate(peer: Peer, sock: socket.socket, request: AssociateRequest) -> Dialled:
    channel = Channel(sock, network=peer.timeouts.network, max_length=request.max_length)
    try:
        channel.send(acse.encode_request(request))
        answer = channel.event(monotonic() + peer.timeouts.acse)
        accept = _accepted(peer, answer if isinstance(answer, Control) else None)
        if accept is None:
            raise unexpected(answer)
    except (Lost, ProtocolError) as error:
        channel.abort(error.reason if isinstance(error, ProtocolError) else 0)
        raise translated(peer, error) from error
    return Dialled(Exchange(channel, usable_contexts(request, accept), accept.max_length), accept)


def _accepted(peer: Peer, answer: Control | None) -> AssociateAccept | None:
    """The acceptance; ``None`` when the answer has no place here."""
    match answer:
        case Control(pdu.ASSOCIATE_AC, data):
            return acse.decode_accept(data)
        case Control(pdu.ABORT, _):
            raise Lost("association aborted by the peer", UpstreamKind.ABORTED)
        case Control(pdu.ASSOCIATE_RJ, data):
            reject = acse.decode_reject(data)
            what = f"{reject.result}/{reject.source}/{reject.reason}"
            raise UpstreamError(f"{peer.name}: association rejected ({what})", UpstreamKind.REJECTED)
        case _:
            return None

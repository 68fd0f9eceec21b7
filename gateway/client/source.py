"""A peer as a query source, each query on an association of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dicom.attributes import Attributes
from gateway.dicom.models import SERVICES
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import Association, connect
from gateway.query.ports import Request
from gateway.retrieve.contexts import FALLBACKS

_FIND = {service.model: service.find for service in SERVICES}


@dataclass(frozen=True)
class PeerSource:
    """The :class:`~gateway.query.ports.QuerySource` of a peer.

    Attributes:
        aet: our AE title.
    """

    peer: Peer
    aet: str

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield the answers as they come.

        Raises:
            UpstreamError: the peer did not answer completely.
            Cancelled: ``request.cancelled()`` became true.
        """
        sop_class = _FIND[request.query.model]
        level = Attributes.of({"QueryRetrieveLevel": request.query.level.name})
        with self.open(sop_class) as association:
            yield from association.find(sop_class, request.query.keys.overlay(level), request.cancelled)

    def open(self, sop_class: str) -> Association:
        """An association for one service."""
        return connect(self.peer, self.aet, [(sop_class, syntax) for syntax in FALLBACKS])

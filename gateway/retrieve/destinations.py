"""Move destinations: who may have what sent where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.dicom.caller import Caller
from gateway.dicom.status import Status
from gateway.dimse.ports import Peer
from gateway.errors import Refused
from gateway.retrieve.limits import Limits


@dataclass(frozen=True)
class Destination:
    """A peer that instances can be sent to.

    Attributes:
        associations: how many associations one retrieve sends over, in parallel.
        limits: what all retrieves to it share.
    """

    peer: Peer
    associations: int = 1
    limits: Limits = field(default_factory=Limits)


class Destinations:
    """The configured peers by AE title.

    Args:
        permitted: for a caller, by the name of its peer, the names of the peers it may have instances sent to; a
            caller that is not among the keys may name every destination.
    """

    def __init__(
        self, destinations: Iterable[Destination], permitted: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self._by_aet = {one.peer.aet: one for one in destinations}
        self._permitted = dict(permitted or {})

    def find(self, aet: str, caller: Caller) -> Destination:
        """The destination of a C-MOVE.

        Raises:
            Refused: no such destination (A801H), or not for this caller (0124H).
        """
        found = self._by_aet.get(aet.strip(" "))
        if found is None:
            raise Refused("Move Destination is unknown", Status.MOVE_DESTINATION_UNKNOWN)
        allowed = self._permitted.get(caller.peer)
        if allowed is not None and found.peer.name not in allowed:
            raise Refused("Move Destination is not permitted for this caller", Status.NOT_AUTHORISED)
        return found

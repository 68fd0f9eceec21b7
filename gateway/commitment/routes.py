"""Where a report goes: from the requestor of a transaction to a peer that can be called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dicom.caller import Caller
from gateway.dimse.ports import Peer


@dataclass(frozen=True)
class Route:
    """How a configured peer wants its reports.

    Attributes:
        same_association: reports go on the association of the request, in both directions: we report on its, while that
            is open, and wait on ours for its.
        may_report: whether its associations with reports are let in.
    """

    peer: Peer
    same_association: bool = False
    may_report: bool = True


class Routes:
    """The configured peers, by the name a caller was recognised as, or by AE title."""

    def __init__(self, routes: Iterable[Route]) -> None:
        known = list(routes)
        self._by_name = {one.peer.name: one for one in known}
        self._by_aet = {one.peer.aet: one for one in reversed(known)}

    def _route(self, caller: Caller) -> Route | None:
        return self._by_name.get(caller.peer) or self._by_aet.get(caller.aet)

    def peer(self, caller: Caller) -> Peer | None:
        """The peer to call for a requestor; None for an unknown one."""
        route = self._route(caller)
        return route.peer if route else None

    def on_same_association(self, caller: Caller) -> bool:
        """Whether this requestor wants its report on its own association."""
        route = self._route(caller)
        return route is not None and route.same_association

    def wants_same_association(self, name: str) -> bool:
        """Whether the configured peer of that name reports on the association of the request."""
        route = self._by_name.get(name)
        return route is not None and route.same_association

    def can_hear_from(self, name: str) -> bool:
        """Whether a report of the configured peer of that name can reach us at all."""
        route = self._by_name.get(name)
        return route is not None and (route.may_report or route.same_association)

    @property
    def names(self) -> list[str]:
        """The names of the configured peers, sorted."""
        return sorted(self._by_name)

    def named(self, name: str) -> Peer | None:
        """The configured peer of that name."""
        route = self._by_name.get(name)
        return route.peer if route else None

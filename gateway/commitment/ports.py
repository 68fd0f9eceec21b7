"""What commitment asks of the wire; :mod:`gateway.dimse` has it, tests have scripted peers that speak it."""

from __future__ import annotations

from typing import Protocol

from gateway.dimse.ports import ActionRequest, EventHandler, EventReport, Peer


class ActionSender(Protocol):
    """Associations on which we are the SCU of the Push Model."""

    def action(self, peer: Peer, request: ActionRequest, on_event: EventHandler, linger: float) -> int:
        """Send an N-ACTION request on an association of its own, and return the status of the response.

        An N-EVENT-REPORT that comes on this association, before the response or after it, goes to ``on_event``; after
        the response one is waited for at most ``linger`` seconds.

        Raises:
            UpstreamError: no response came.
        """


class EventSender(Protocol):
    """Associations of ours on which we are its SCP, by role selection (PS3.4 J.3.3)."""

    def report(self, peer: Peer, event: EventReport, calling: str) -> int:
        """Send an N-EVENT-REPORT request on a new association, roles reversed, and return the response's status.

        Args:
            calling: our AE title as the peer knows it: the one it called when it asked.

        Raises:
            UpstreamError: no response came.
        """

"""Associations of ours for storage commitment: to ask for one, and to report one (PS3.4 J.3.2, J.3.3)."""

from __future__ import annotations

from gateway.dicom.caller import Caller
from gateway.dicom.models import STORAGE_COMMITMENT
from gateway.dicom.status import Kind, kind
from gateway.dimse.negotiation import Role
from gateway.dimse.ports import ActionRequest, EventHandler, EventReport, Peer
from gateway.dimse.requestor import Association, connect
from gateway.dimse.sopclasses import EXPLICIT, IMPLICIT
from gateway.errors import UpstreamError
from gateway.logs import get_logger

_CONTEXTS = [(STORAGE_COMMITMENT, EXPLICIT), (STORAGE_COMMITMENT, IMPLICIT)]
_REVERSED = {STORAGE_COMMITMENT: Role(scu=False, scp=True)}
_log = get_logger("dimse")


class CommitmentAssociations:
    """Opens an association for each request and each report.

    Args:
        aet: our AE title.
    """

    def __init__(self, aet: str) -> None:
        self._aet = aet

    def action(self, peer: Peer, request: ActionRequest, on_event: EventHandler, linger: float) -> int:
        """Send an N-ACTION request and return the status of the response.

        An N-EVENT-REPORT that comes on this association goes to ``on_event``; where none came before the response,
        one is waited for at most ``linger`` seconds. That the association ends meanwhile changes nothing.

        Raises:
            UpstreamError: no response came.
        """
        came = False

        def note(event: EventReport, caller: Caller) -> None:
            nonlocal came
            came = True
            on_event(event, caller)

        with connect(peer, self._aet, _CONTEXTS) as association:
            status = association.n_action(request, note)
            if linger > 0 and not came and kind(status) is not Kind.FAILURE:
                _await(association, note, linger)
            return status

    def report(self, peer: Peer, event: EventReport, calling: str) -> int:
        """Send an N-EVENT-REPORT request, with the SCP role for us, and return the status of the response.

        Args:
            calling: our AE title as the peer knows it; empty for the usual one.

        Raises:
            UpstreamError: no response came.
        """
        with connect(peer, calling or self._aet, _CONTEXTS, roles=_REVERSED) as association:
            return association.n_event_report(event)


def _await(association: Association, on_event: EventHandler, seconds: float) -> None:
    try:
        association.await_event(on_event, seconds)
    except UpstreamError as error:
        _log.info("no report on the association of the request", why=error.message)

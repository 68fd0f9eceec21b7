"""Sending what is here to a peer when nobody retrieves it: for the HTTP interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Kind, kind
from gateway.dimse.ports import Peer
from gateway.errors import UpstreamError
from gateway.logs import get_logger
from gateway.query.ports import never
from gateway.retrieve.contexts import proposals
from gateway.retrieve.courier import Courier
from gateway.retrieve.delivery import Parcel
from gateway.retrieve.destinations import Destination
from gateway.retrieve.move import in_order_of
from gateway.retrieve.ports import Coercion, Connect, Recipient

_log = get_logger("daemon")

Studies = Callable[[Sequence[str], Caller], Mapping[str, Attributes]]
"""The leading archive's attributes of the studies it knows."""


class Push:
    """Sends instances as a C-MOVE would, effective attributes included.

    Args:
        aet: our AE title, in whose name it is sent.
    """

    def __init__(self, studies: Studies, coercion: Coercion, connect: Connect, aet: str) -> None:
        self._studies = studies
        self._coercion = coercion
        self._connect = connect
        self._caller = Caller(aet)

    def __call__(self, peer: Peer, instances: Sequence[StoredInstance]) -> Sequence[str]:
        """Send them over one association, and return the SOP Instance UIDs of those that the peer did not take.

        Raises:
            UpstreamError: the leading archive could not tell what they are to look like.
        """
        parcels = self._parcels(peer, instances)
        contexts = proposals(parcel.pair for parcel in parcels)
        courier = Courier(self._connect, Destination(peer), None, contexts, never)
        failed = {one.sop_instance_uid for one in instances}
        try:
            for parcel in in_order_of(contexts, parcels):
                if kind(courier.send(parcel)) in {Kind.SUCCESS, Kind.WARNING}:
                    failed.discard(parcel.instance.sop_instance_uid)
        except UpstreamError as error:
            _log.warning("store ended early", peer=peer.name, left=len(failed), reason=error.message)
        finally:
            courier.close()
        return sorted(failed)

    def _parcels(self, peer: Peer, instances: Sequence[StoredInstance]) -> list[Parcel]:
        uids = list(dict.fromkeys(one.study_instance_uid for one in instances))
        known = self._studies(uids, self._caller)
        coerce = {uid: self._coercion.for_study(known.get(uid), Recipient(peer.aet, peer.host)) for uid in uids}
        return [Parcel(one, coerce[one.study_instance_uid]) for one in instances]

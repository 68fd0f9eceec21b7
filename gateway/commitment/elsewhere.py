"""Instances that the leading archive holds, where they count as ours.

One relational query at IMAGE level for a page of instances (PS3.4 C.4.1.2.2.1), always asked anew: a promise does not
rest on a cache. An archive that cannot answer it fails the instances that are not here; it never commits one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Negotiated, Query
from gateway.dicom.models import Level, Model
from gateway.errors import GatewayError
from gateway.query.ports import QuerySource, Request


class LeadingInstances:
    """Asks leading archives; an :class:`~gateway.commitment.decision.Elsewhere`.

    Args:
        sources: the archives themselves, not the caches in front of them; the first that has an instance counts.
    """

    def __init__(self, sources: Sequence[QuerySource]) -> None:
        self._sources = sources

    def __call__(self, sop_instance_uids: Sequence[str], requester: Caller) -> Mapping[str, str]:
        """The SOP Class UIDs of the instances they have, by SOP Instance UID.

        Raises:
            GatewayError: one could not tell, and the others do not have all of them.
        """
        found: dict[str, str] = {}
        failure: GatewayError | None = None
        for source in self._sources:
            missing = [uid for uid in sop_instance_uids if uid not in found]
            if not missing:
                return found
            try:
                found |= _ask(source, missing, requester)
            except GatewayError as error:
                failure = error
        if failure is not None and len(found) < len(set(sop_instance_uids)):
            raise failure
        return found


def _ask(source: QuerySource, uids: Sequence[str], requester: Caller) -> dict[str, str]:
    keys = Attributes.of({"SOPInstanceUID": uids, "SOPClassUID": ""})
    query = Query(Model.STUDY_ROOT, Level.IMAGE, keys, Negotiated(relational=True))
    answers = {
        one.text(tags.SOPInstanceUID): one.text(tags.SOPClassUID) for one in source.find(Request(query, requester))
    }
    return {uid: answers[uid] for uid in uids if uid in answers}

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
from gateway.query.ports import QuerySource, Request


class LeadingInstances:
    """Asks a leading archive; an :class:`~gateway.commitment.decision.Elsewhere`.

    Args:
        source: the archive itself, not the cache in front of it.
    """

    def __init__(self, source: QuerySource) -> None:
        self._source = source

    def __call__(self, sop_instance_uids: Sequence[str], requester: Caller) -> Mapping[str, str]:
        """The SOP Class UIDs of the instances it has, by SOP Instance UID.

        Raises:
            UpstreamError: it could not tell.
        """
        keys = Attributes.of({"SOPInstanceUID": sop_instance_uids, "SOPClassUID": ""})
        query = Query(Model.STUDY_ROOT, Level.IMAGE, keys, Negotiated(relational=True))
        wanted = frozenset(sop_instance_uids)
        found = {
            answer.text(tags.SOPInstanceUID): answer.text(tags.SOPClassUID)
            for answer in self._source.find(Request(query, requester))
        }
        return {uid: sop_class for uid, sop_class in found.items() if uid in wanted}

"""Which service an abstract syntax belongs to, and what we offer for it (PS3.4 Annexes A, B, C, J)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.dicom.identifier import Negotiated
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS, STORAGE_COMMITMENT, VERIFICATION
from gateway.dimse.negotiation import Offer, query_extension
from gateway.dimse.ports import Verb

IMPLICIT = str(ImplicitVRLittleEndian)
EXPLICIT = str(ExplicitVRLittleEndian)

IDENTIFIER_SYNTAXES = (EXPLICIT, IMPLICIT)
"""For identifiers, in our order of preference: explicit keeps the VRs of private attributes."""

_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_OTHER_STORAGE = frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and uid.startswith("1.2.840.10008.5.1.4.") and "Storage" in name
)
"""Hanging protocols, palettes, implant templates and the like, which are stored outside the usual root."""

_NO_STORAGE = frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and uid.startswith(_STORAGE_ROOT) and name and "Storage" not in name
)
"""Queries and retrieves of inventories and protocol approvals, which stand under that root all the same."""

_NOT_STORED = ("Deflate", "Big Endian", "JPIP", "SMPTE", "XML", "MIME", "Papyrus")
STORAGE_SYNTAXES = frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "Transfer Syntax" and not any(word in name for word in _NOT_STORED)
)
"""For instances as they are stored. Deflated is not among them: some kilobytes inflate to gigabytes."""


def is_storage(abstract_syntax: str) -> bool:
    """Whether a standard SOP class is one of the Storage Service, newer than the dictionary or not."""
    under_root = abstract_syntax.startswith(_STORAGE_ROOT) and abstract_syntax not in _NO_STORAGE
    return under_root or abstract_syntax in _OTHER_STORAGE


@dataclass(frozen=True)
class Offering:
    """What this node serves.

    Attributes:
        verbs: the services that have a handler.
        events: whether N-EVENT-REPORTs are taken from peers that committed to our instances.
        negotiated: what is implemented of extended negotiation.
        extra_storage: private storage SOP classes.
    """

    verbs: frozenset[Verb]
    events: bool = False
    negotiated: Negotiated = field(default_factory=Negotiated)
    extra_storage: frozenset[str] = frozenset()

    def offer(self, abstract_syntax: str, allowed: Collection[Verb]) -> Offer | None:
        """What we offer a caller that may do ``allowed``; ``None`` for what we do not know."""
        if is_storage(abstract_syntax) or abstract_syntax in self.extra_storage:
            if not self.verbs & {Verb.STORE, Verb.GET}:
                return None
            may = self.verbs & frozenset(allowed)
            # A C-GET requestor takes the SCP role for what it wants to be sent (PS3.4 C.4.3).
            return Offer(STORAGE_SYNTAXES, scp=Verb.STORE in may, scu=Verb.GET in may)
        verb = _VERBS.get(abstract_syntax)
        if verb is None or verb not in self.verbs:
            return None
        events = verb is Verb.COMMIT and self.events
        return Offer(IDENTIFIER_SYNTAXES, scp=verb in allowed, scu=events and verb in allowed)

    def extend(self, abstract_syntax: str, asked: bytes) -> bytes | None:
        """Our answer to an extended negotiation item."""
        if abstract_syntax in FIND_MODELS:
            return query_extension(asked, self.negotiated)
        if abstract_syntax in MOVE_MODELS or abstract_syntax in GET_MODELS:
            return query_extension(asked, Negotiated(relational=self.negotiated.relational))
        return None


_VERBS = {
    VERIFICATION: Verb.ECHO,
    STORAGE_COMMITMENT: Verb.COMMIT,
    **dict.fromkeys(FIND_MODELS, Verb.FIND),
    **dict.fromkeys(MOVE_MODELS, Verb.MOVE),
    **dict.fromkeys(GET_MODELS, Verb.GET),
}

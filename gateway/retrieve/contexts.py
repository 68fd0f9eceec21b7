"""Which presentation contexts to propose for what is to be sent (PS3.8 9.3.2.2, PS3.7 D.3.2). Pure.

One context for each SOP class and transfer syntax: a peer chooses one syntax of a context that offers several, and it
may choose one that the instance at hand is not stored in. Besides the syntaxes as stored, each class is proposed with
the two that everybody can read, for a transcode when the stored one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.retrieve.ports import Pair

MAX_CONTEXTS = 128
"""Presentation context IDs are the odd numbers from 1 to 255."""

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
FALLBACKS = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


def proposals(pairs: Iterable[Pair], limit: int = MAX_CONTEXTS) -> list[list[Pair]]:
    """The contexts for each association needed to send all ``pairs``: as few associations as will do.

    The contexts of a class stay together where they can, so that its fallbacks are proposed once.
    """
    classes: dict[str, dict[str, None]] = {}
    for sop_class_uid, transfer_syntax_uid in pairs:
        classes.setdefault(sop_class_uid, {})[transfer_syntax_uid] = None
    associations: list[list[Pair]] = [[]]
    for sop_class_uid, stored in classes.items():
        for some in _portions(list(stored), limit - len(FALLBACKS)):
            contexts = [(sop_class_uid, syntax) for syntax in dict.fromkeys((*some, *FALLBACKS))]
            if len(associations[-1]) + len(contexts) > limit:
                associations.append([])
            associations[-1].extend(contexts)
    return associations


def _portions(syntaxes: list[str], size: int) -> list[list[str]]:
    return [syntaxes[start : start + size] for start in range(0, len(syntaxes), size)]

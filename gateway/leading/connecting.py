"""From a configured peer to associations for C-FIND: the one place where this room touches the wire."""

from __future__ import annotations

from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.leading.archive import STUDY_ROOT_FIND
from gateway.leading.pool import Association, Connect

_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit VR little endian first: what is written in the file-set needs no dictionary to be read."""


def connector(peer: Peer, calling_aet: str) -> Connect:
    """What opens associations with a peer for Study Root C-FIND."""

    def open_association() -> Association:
        return connect(peer, calling_aet, [(STUDY_ROOT_FIND, syntax) for syntax in _SYNTAXES])

    return open_association

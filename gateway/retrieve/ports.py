"""What a retrieve needs of the rooms below, as small protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Retrieve
from gateway.dicom.instance import Outgoing, StoredInstance
from gateway.dimse.ports import Peer, StoreChannel

Pair = tuple[str, str]
"""A SOP class UID and a transfer syntax UID: what one presentation context is proposed for."""


class View(Protocol):
    """The effective view, as a retrieve asks it."""

    def resolve(self, retrieve: Retrieve, caller: Caller) -> Mapping[str, Attributes | None]:
        """The studies a retrieve touches, each with the leading archive's attributes, or None where it has none.

        A corrected patient ID finds the studies that the leading archive filed under it, and no longer those that
        were filed under it before.
        """


class LocalInstances(Protocol):
    """The local archive, as a retrieve asks it."""

    def instances(
        self, *, study_uids: Sequence[str] = (), series_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()
    ) -> list[StoredInstance]:
        """The stored instances that have one of the UIDs at each level that is named."""


Coerce = Callable[[StoredInstance], Outgoing]
"""Puts the attributes to be sent into one instance.

Raises:
    BadInstance: the file is missing or cannot be read as what it claims to be.
    StorageError: the disk failed.
"""


@dataclass(frozen=True)
class Recipient:
    """Who is to get the instances: a move destination, or the requestor of a C-GET.

    Attributes:
        host: its network address, or its name as configured.
    """

    aet: str
    host: str


class Coercion(Protocol):
    """The rules for what is sent."""

    def for_study(self, leading: Attributes | None, recipient: Recipient) -> Coerce:
        """Decide once what the rules make of a study."""


class StoreAssociation(StoreChannel, Protocol):
    """An association to a move destination."""

    def release(self) -> None:
        """End it in order; a peer that is gone already is no error."""

    def abort(self) -> None:
        """End it at once, also while another thread waits for a response on it."""


Connect = Callable[[Peer, Sequence[Pair]], StoreAssociation]
"""Request an association with one presentation context for each pair, 128 at most.

Raises:
    UpstreamError: unreachable, rejected, or silent for too long.
"""

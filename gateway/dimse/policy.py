"""Who may associate: called AE title, then calling AE title and address, against the configured peers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.dimse.negotiation import (
    CALLED_AE_NOT_RECOGNISED,
    CALLING_AE_NOT_RECOGNISED,
    AssociateReject,
    UserIdentity,
)
from gateway.dimse.ports import UNLIMITED, Admission, Allowance, Verb


@dataclass(frozen=True)
class KnownCaller:
    """A peer that may call us.

    Attributes:
        networks: where it may call from; empty means anywhere.
        allowance: how much it may take up.
    """

    name: str
    aet: str
    verbs: frozenset[Verb]
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    allowance: Allowance = UNLIMITED

    def may_call_from(self, address: str) -> bool:
        """Whether an address is in one of the networks; an IPv4 peer of an IPv6 socket counts as IPv4."""
        if not self.networks:
            return True
        here = ip_address(address.partition("%")[0])
        if isinstance(here, IPv6Address) and here.ipv4_mapped:
            here = here.ipv4_mapped
        return any(here in network for network in self.networks)


class PeerPolicy:
    """Lets known callers in; unknown AE titles and addresses are rejected alike, so neither can be probed for.

    Args:
        titles: our own AE titles; a call to any other is rejected.
        others: what callers that are not known may do, or ``None`` to reject them.
    """

    def __init__(
        self, titles: Collection[str], callers: Sequence[KnownCaller], others: frozenset[Verb] | None = None
    ) -> None:
        self._titles = frozenset(titles)
        self._callers = tuple(callers)
        self._others = others

    def admit(
        self,
        calling: str,
        called: str,
        address: str,
        identity: UserIdentity | None,  # noqa: ARG002 - part of the port; no peer is told apart by it
    ) -> Admission | AssociateReject:
        """Decide as :class:`~gateway.dimse.ports.Policy` says."""
        if called not in self._titles:
            return CALLED_AE_NOT_RECOGNISED
        for caller in self._callers:
            if caller.aet == calling and caller.may_call_from(address):
                return Admission(caller.name, caller.verbs, caller.allowance)
        return CALLING_AE_NOT_RECOGNISED if self._others is None else Admission("", self._others)

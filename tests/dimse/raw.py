"""A peer that sends the bytes it wants, when it wants, and looks at what comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from struct import unpack_from

from gateway.dimse import acse, pdu
from gateway.dimse.negotiation import AssociateRequest, Role, propose

Pair = tuple[str, str]


class Raw:
    """A connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(15)
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def pdu(self) -> bytes:
        """The next PDU whole; empty at the end of the stream or after a reset."""
        while len(self._rest) < 6 or len(self._rest) < 6 + unpack_from(">L", self._rest, 2)[0]:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            self._rest += more
        end = 6 + unpack_from(">L", self._rest, 2)[0]
        found, self._rest = self._rest[:end], self._rest[end:]
        return found

    def ends(self) -> list[int]:
        """The types of the PDUs that still come until the stream ends."""
        types = []
        while found := self.pdu():
            types.append(found[0])
        return types

    def associate(
        self, contexts: list[Pair], *, called: str = "GATEWAY", roles: dict[str, Role] | None = None
    ) -> bytes:
        """Request an association; the answering PDU."""
        request = AssociateRequest("ME", called, propose(contexts), pdu.MAX_PDU, roles=roles or {})
        self.send(acse.encode_request(request))
        return self.pdu()


@contextmanager
def raw(port: int) -> Iterator[Raw]:
    """A connection to a port, closed at the end."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        yield Raw(sock)

"""Peers on bare sockets, for what no real one can be made to do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from gateway.dicom.attributes import Attributes
from gateway.dimse import acse, pdu
from gateway.dimse.command import Command, Field, decode, response
from gateway.dimse.negotiation import Answered, AssociateAccept, AssociateReject, AssociateRequest
from tests.dimse.raw import Raw

MAX = 16384


class Line(Raw):
    """A connection that a scripted peer has taken; whoever called stays on the line until the peer hangs up."""

    def __init__(self, sock: socket.socket, ended: threading.Event) -> None:
        super().__init__(sock)
        self.ended = ended
        self.request: AssociateRequest | None = None

    def accept(self, *, refuse: int = 0) -> None:
        """Read an association request and accept every context, or refuse every one with a result."""
        self.request = acse.decode_request(self.pdu())
        contexts = tuple(Answered(one.id, refuse, one.transfer_syntaxes[0]) for one in self.request.contexts)
        self.send(acse.encode_accept(AssociateAccept(contexts, MAX), self.request))

    def reject(self) -> None:
        """Read an association request and reject it."""
        self.pdu()
        self.send(acse.encode_reject(AssociateReject(2, 3, 1)))

    def message(self) -> tuple[int, Command, bytes] | None:
        """The next message whole: context, command and data set; ``None`` when the caller ends the association."""
        command, dataset = bytearray(), bytearray()
        found: Command | None = None
        while (data := self.pdu()) and data[0] == pdu.P_DATA:
            context, control = data[10], data[11]
            (command if control & 1 else dataset).extend(data[12:])
            if control == 3:
                found = decode(bytes(command))
            if found and (control == 2 or (control == 3 and not found.has_dataset)):
                return context, found, bytes(dataset)
        if data and data[0] == pdu.RELEASE_RQ:
            self.send(pdu.RELEASE_REPLY)
        return None

    def answer(self, context: int, request: Command, status: int, identifier: Attributes | None = None) -> None:
        """A response, with an identifier when there is one."""
        command = response(request, status, has_dataset=identifier is not None).encode()
        self.send(pdu.message(context, command, self._encoded(context, identifier), MAX))

    def _encoded(self, context: int, identifier: Attributes | None) -> bytes | None:
        if identifier is None:
            return None
        assert self.request is not None
        (syntax,) = (one.transfer_syntaxes[0] for one in self.request.contexts if one.id == context)
        return identifier.encode(implicit=syntax == "1.2.840.10008.1.2")

    def silence(self) -> None:
        """Say nothing until the peer ends, or the caller does."""
        self.sock.settimeout(0.1)
        while not self.ended.is_set():
            try:
                if not self.sock.recv(65536):
                    return
            except TimeoutError:
                continue


Behaviour = Callable[[Line], None]


class Scripted:
    """A peer that behaves in one way until it is told another.

    Attributes:
        calls: connections taken.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            threading.Thread(target=self._behave, args=(sock,), daemon=True).start()

    def _behave(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, ValueError, AssertionError, IndexError):  # the caller hung up
            self.behaviour(Line(sock, self._ended))

    def close(self) -> None:
        """Hang up."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def finds(make: Callable[[Line, int, Command, bytes], None]) -> Behaviour:
    """Accept, then answer each C-FIND, and each C-ECHO with Success."""

    def behave(line: Line) -> None:
        line.accept()
        while message := line.message():
            context, command, identifier = message
            if command.field == Field.C_ECHO:
                line.answer(context, command, 0)
            else:
                make(line, context, command, identifier)

    return behave

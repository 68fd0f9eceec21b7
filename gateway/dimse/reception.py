"""Answering association requests, with a memory for those that come again.

A viewer, a modality or a monitor sends the same A-ASSOCIATE-RQ, byte for byte, every time; reading it with
pynetdicom's classes and writing the answer takes 0.3 ms, looking it up takes a microsecond. Who may associate is asked
each time. A request with user identity is never kept: it holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.dimse import acse
from gateway.dimse.negotiation import Accepted, AssociateAccept, AssociateRequest, decide
from gateway.dimse.ports import Verb
from gateway.dimse.sopclasses import Offering

_KEPT = 256
_LONGEST = 32768


@dataclass(frozen=True)
class Answer:
    """What an admitted caller is answered.

    Attributes:
        pdu: the A-ASSOCIATE-AC.
        contexts: the accepted presentation contexts by ID.
    """

    pdu: bytes
    accept: AssociateAccept
    contexts: Mapping[int, Accepted]


class Reception:
    """Reads requests and answers them with what is offered.

    Args:
        max_length: the maximum PDU length we announce.
    """

    def __init__(self, offering: Offering, max_length: int) -> None:
        self._offering = offering
        self._max_length = max_length
        self._requests: dict[bytes, AssociateRequest] = {}
        self._answers: dict[tuple[bytes, frozenset[Verb]], Answer] = {}

    def read(self, data: bytes) -> AssociateRequest:
        """Read an A-ASSOCIATE-RQ.

        Raises:
            ProtocolError: it cannot be read.
        """
        known = self._requests.get(data)
        if known is not None:
            return known
        request = acse.decode_request(data)
        if request.identity is None and len(data) <= _LONGEST:
            if len(self._requests) >= _KEPT:
                self._requests.clear()  # somebody sends a new one each time; the others are soon back
            self._requests[data] = request
        return request

    def answer(self, data: bytes, request: AssociateRequest, verbs: frozenset[Verb]) -> Answer:
        """Answer a request of a caller that may do ``verbs``.

        Args:
            data: the PDU that ``request`` was read from.
        """
        known = self._answers.get((data, verbs))
        if known is not None:
            return known
        accept, contexts = decide(
            request, lambda uid: self._offering.offer(uid, verbs), self._offering.extend, max_length=self._max_length
        )
        answer = Answer(acse.encode_accept(accept, request), accept, contexts)
        if data in self._requests:
            if len(self._answers) >= _KEPT:
                self._answers.clear()
            self._answers[data, verbs] = answer
        return answer

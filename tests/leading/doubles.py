"""An archive on the other side of an association that needs no wire, with the habits of archives in the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from threading import Lock

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Negotiated, parse_query
from gateway.dicom.models import Model
from gateway.errors import UpstreamError, UpstreamKind
from gateway.query.ports import Request
from tests.query.doubles import CALLER, MemoryArchive


class Lists(Enum):
    """What an archive makes of a list of UIDs."""

    UNDERSTOOD = "understood"
    REFUSED = "refused"
    FIRST_ONLY = "first only"
    NOTHING_FOUND = "nothing found"
    IGNORED = "ignored"


class Remote:
    """The archive; ``connect`` opens associations to it.

    Attributes:
        questions: the Study Instance UID key of each question.
        lost: idle associations that are found to be closed by the first question on them.
    """

    def __init__(self, archive: MemoryArchive, lists: Lists = Lists.UNDERSTOOD) -> None:
        self.archive = archive
        self.lists = lists
        self.questions: list[tuple[str, ...]] = []
        self.identifiers: list[Attributes] = []
        self.opened = 0
        self.released = 0
        self.refused = 0
        self.aborted = 0
        self.lost = False
        self.down: UpstreamKind | None = None
        self.lock = Lock()

    def connect(self) -> Wire:
        if self.down is not None:
            self.refused += 1
            raise UpstreamError("down", self.down)
        self.opened += 1
        return Wire(self)


class Wire:
    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.is_open = True
        self.used = False

    def find(self, sop_class: str, identifier: Attributes, cancelled: Callable[[], bool]) -> Iterator[Attributes]:
        assert sop_class == "1.2.840.10008.5.1.4.1.2.2.1"
        if self.remote.lost and self.used:
            self.is_open = False
            raise UpstreamError("closed by the peer", UpstreamKind.ABORTED)
        self.used = True
        uids = identifier.texts(tags.StudyInstanceUID)
        with self.remote.lock:
            self.remote.questions.append(uids)
            self.remote.identifiers.append(identifier)
        if len(uids) > 1:
            identifier = self._misread(identifier, uids)
        query = parse_query(identifier, Model.STUDY_ROOT, Negotiated(), lenient=True)
        try:
            yield from self.remote.archive.find(Request(query, CALLER, cancelled))
        except UpstreamError as error:
            self.is_open = error.kind is UpstreamKind.STATUS
            raise

    def _misread(self, identifier: Attributes, uids: tuple[str, ...]) -> Attributes:
        keys = {"StudyInstanceUID": {Lists.FIRST_ONLY: uids[0], Lists.NOTHING_FOUND: "9.9", Lists.IGNORED: ""}}
        match self.remote.lists:
            case Lists.UNDERSTOOD:
                return identifier
            case Lists.REFUSED:
                raise UpstreamError("status A900H", UpstreamKind.STATUS, upstream_status=0xA900)
            case habit:
                return identifier.overlay(Attributes.of({"StudyInstanceUID": keys["StudyInstanceUID"][habit]}))

    def release(self) -> None:
        self.is_open = False
        self.remote.released += 1

    def abort(self) -> None:
        self.is_open = False
        self.remote.aborted += 1

"""Looking up many studies at a time by a list of UIDs, with archives that do not understand lists (PS3.4 C.2.2.2.2).

List of UID matching is required of every C-FIND SCP, but some refuse a list, some answer the first UID only, some
find nothing and some ignore the key and answer with everything. Whether an archive understands lists is *unproven*
until it has answered two studies of a list; until then a study that it is known to have is put at the end of each list
as a witness, and a list that finds at most one study without a witness is asked again one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Lock

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.errors import UpstreamError, UpstreamKind
from gateway.logs import get_logger

_log = get_logger("leading")
_REFUSALS = frozenset({0xA900, 0xC000, 0xC001, 0xC002, 0xC100, 0xC101, 0x0106, 0x0115, 0x0117})
"""Statuses by which archives refuse an identifier they cannot process (PS3.4 C.4.1.1.4)."""

Answers = Generator[Attributes, None, None]

Ask = Callable[[Sequence[str]], Answers]
"""Asks the archive for studies by UID; raises UpstreamError unless it answers completely."""


class NoLists(Exception):  # it is a finding, not an error
    """The archive does not understand lists of UIDs."""


class Lookup:
    """Batched look-ups in one archive.

    Args:
        batch: UIDs in one question.
        parallel: questions at a time, where it has to be one by one.
    """

    def __init__(self, ask: Ask, *, name: str = "", batch: int = 100, parallel: int = 4) -> None:
        self._ask = ask
        self._name = name
        self._batch = batch
        self._parallel = parallel
        self._proven: bool | None = None
        self._witness = ""
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def lists(self) -> bool | None:
        """Whether the archive understands lists; None while unproven."""
        return self._proven

    def saw(self, uid: str) -> None:
        """Remember a study that the archive has."""
        if not self._witness:
            self._witness = uid

    def studies(self, uids: Sequence[str]) -> dict[str, Attributes]:
        """The studies the archive knows, by UID.

        Raises:
            UpstreamError: the archive did not answer one of the questions.
        """
        found: dict[str, Attributes] = {}
        for start in range(0, len(uids), self._batch):
            page = list(dict.fromkeys(uids[start : start + self._batch]))
            found.update(self._page(page))
        return found

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _page(self, uids: list[str]) -> dict[str, Attributes]:
        if len(uids) == 1:
            return self._one(uids[0])
        listed: dict[str, Attributes] = {}
        if self._proven is not False:
            try:
                listed, certain = self._list(uids)
            except NoLists:
                self._refused()
            else:
                if certain:
                    return listed
        found = self._singly(uids)
        if self._proven is None and len(found) > len(listed):
            self._refused()
        return found

    def _refused(self) -> None:
        self._proven = False
        _log.warning("archive does not understand lists of UIDs, asking one by one", archive=self._name)

    def _list(self, uids: list[str]) -> tuple[dict[str, Attributes], bool]:
        """One question for all, and whether its answer can be relied on.

        Raises:
            NoLists: what came back shows that the archive does not understand it.
        """
        witness = self._witness if self._proven is None and self._witness not in uids else ""
        try:
            found = self._collect([*uids, witness] if witness else uids)
        except UpstreamError as error:
            if error.kind is UpstreamKind.STATUS and error.upstream_status in _REFUSALS:
                raise NoLists from error
            raise
        if witness and witness not in found:
            raise NoLists
        if witness or len(found) > 1:
            self._proven = True
        found.pop(witness, None)
        return found, self._proven is True

    def _collect(self, asked: list[str]) -> dict[str, Attributes]:
        found: dict[str, Attributes] = {}
        wanted = frozenset(asked)
        with closing(self._ask(asked)) as answers:
            for answer in answers:
                uid = answer.text(tags.StudyInstanceUID)
                if uid not in wanted:
                    raise NoLists
                found[uid] = answer
        return found

    def _one(self, uid: str) -> dict[str, Attributes]:
        answers = [answer for answer in self._ask([uid]) if answer.text(tags.StudyInstanceUID) == uid]
        if not answers:
            return {}
        self.saw(uid)
        return {uid: answers[0]}

    def _singly(self, uids: list[str]) -> dict[str, Attributes]:
        with self._lock:
            if self._pool is None:  # not before a fork: threads do not survive one
                self._pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="leading-lookup")
            pool = self._pool
        asked = [pool.submit(self._one, uid) for uid in uids]
        try:
            return {uid: answer for future in asked for uid, answer in future.result().items()}
        finally:
            for future in asked:
                future.cancel()

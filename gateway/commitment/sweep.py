"""Forgetting what is known about instances that are no longer here: evidence and digests, a page at a time.

Deletions come from many sides (verbs, retention, rejection notes, other programs), so nothing has to remember to tell
the ledger: it asks the archive about its own rows, slowly and for ever.
"""

from __future__ import annotations

from gateway.commitment.database import Database
from gateway.commitment.decision import Holdings

_PAGE = 500


class Sweep:
    """Walks the ledger's rows about instances, round and round.

    Args:
        holdings: the archive's index.
    """

    def __init__(self, database: Database, holdings: Holdings) -> None:
        self._database = database
        self._holdings = holdings
        self._after = ""

    def page(self) -> int:
        """Look at the next page; returns how many instances were forgotten.

        Raises:
            StorageError: the ledger or the index cannot be used.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT sop_instance_uid FROM evidence WHERE sop_instance_uid > ?1"
                " UNION SELECT sop_instance_uid FROM digest WHERE sop_instance_uid > ?1 ORDER BY 1 LIMIT ?2",
                (self._after, _PAGE),
            ).fetchall()
        uids = [str(row[0]) for row in rows]
        self._after = uids[-1] if len(uids) == _PAGE else ""
        if not uids:
            return 0
        here = {one.sop_instance_uid for one in self._holdings(sop_uids=uids)}
        gone = [(uid,) for uid in uids if uid not in here]
        if gone:
            with self._database.writing() as connection:
                connection.executemany("DELETE FROM evidence WHERE sop_instance_uid = ?", gone)
                connection.executemany("DELETE FROM digest WHERE sop_instance_uid = ?", gone)
        return len(gone)

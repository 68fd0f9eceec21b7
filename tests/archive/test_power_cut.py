"""A power cut in the middle of storing, deleting, replacing and reconciling."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.archive.durability import Durability
from tests.archive.power_cut import JOURNAL, WORKS, Cut, Unavailable, cut

ACKNOWLEDGED = {"store": 100, "delete": 25, "replace": 25, "reconcile": 8, "store and reconcile": 8}
"""How many are waited for; ``make faults`` does it with more."""


def after(folder: Path, what: str, durability: Durability, journal_bytes: int = JOURNAL) -> Cut:
    try:
        return cut(folder, WORKS[what], durability, ACKNOWLEDGED[what], journal_bytes)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("journal_bytes", [JOURNAL, 0])
@pytest.mark.parametrize("what", WORKS)
def test_nothing_that_was_acknowledged_is_lost(what: str, journal_bytes: int, tmp_path: Path) -> None:
    found = after(tmp_path, what, Durability.FULL, journal_bytes)
    assert found.acknowledged >= ACKNOWLEDGED[what]
    assert (found.lost, found.problems) == (0, ())
    assert (found.journaled > 0) == (journal_bytes > 0 and what in {"store", "replace", "store and reconcile"})


@pytest.mark.parametrize("what", WORKS)
def test_without_syncing_much_would_be(what: str, tmp_path: Path) -> None:
    """The same cut with ``durability: none`` shows that the test above can fail."""
    assert after(tmp_path, what, Durability.NONE).lost > 0

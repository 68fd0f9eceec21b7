"""The index as a database: its log, its pages, and the number that tells of changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.durability import Durability
from gateway.archive.index import Index
from gateway.archive.local import LocalArchive
from gateway.archive.meta import get_meta, set_meta
from gateway.archive.store import OnConflict
from gateway.archive.turns import Turn
from gateway.dicom.models import Level
from gateway.dicom.status import Status
from gateway.errors import StorageError

Make = Callable[..., Any]
Send = Callable[[LocalArchive, Any], int]


class Outrun(Turn):
    """A turn that others take first, each time once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.others: list[Callable[[], None]] = []

    def take(self) -> None:
        if self.others:
            self.others.pop()()
        super().take()


def write(index: Index) -> None:
    with index.write() as db:
        for number in range(50):
            set_meta(db, f"key {number}", "value" * 200)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    one = Index(tmp_path / "index.sqlite", Durability.NONE)
    one.create()
    yield one
    one.close()


def test_the_log_begins_anew_while_others_go_on_writing(index: Index) -> None:
    log, sizes = index.path.with_name("index.sqlite-wal"), []
    index.turn = turn = Outrun(index.path.with_name("index.sqlite.lock"))
    for _ in range(20):
        write(index)
        turn.others.append(lambda: write(index))
        index.checkpoint()
        assert not turn.others
        sizes.append(log.stat().st_size)
    assert len(set(sizes)) == 1


def test_an_index_with_pages_of_another_size_is_used_as_it_is(tmp_path: Path, make: Make, store: Send) -> None:
    path = tmp_path / "files.index" / "index.sqlite"
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA page_size=4096")
        db.execute("PRAGMA journal_mode=WAL")
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE)
    archive.prepare()
    assert store(archive, make()) == Status.SUCCESS
    assert len(archive.listing()) == 1
    archive.close()
    assert path.read_bytes()[16:18] == (4096).to_bytes(2, "big")


def test_the_generation_tells_of_what_is_stored_and_deleted(tmp_path: Path, make: Make, store: Send) -> None:
    archive = LocalArchive(tmp_path / "files" / "DICOMDIR", durability=Durability.NONE, on_conflict=OnConflict.REPLACE)
    archive.prepare()
    seen = [archive.generation]
    for made in (make(), make(number=2), make(number=2, PatientComments="other"), make(2)):
        assert store(archive, made) == Status.SUCCESS
        seen.append(archive.generation)
    archive.delete(Level.IMAGE, "1.2.3.1.1.1.2")
    seen.append(archive.generation)
    assert store(archive, make(number=2)) == Status.SUCCESS
    seen.append(archive.generation)
    assert seen == sorted(set(seen))
    archive.close()


def break_off(index: Index) -> None:
    with index.read() as db:
        rows = db.execute("SELECT * FROM meta")
        next(rows)
        raise ValueError("broken")


def test_a_query_that_broke_off_keeps_no_store_from_its_transaction(index: Index) -> None:
    write(index)
    with pytest.raises(ValueError, match="broken") as kept:
        break_off(index)
    with index.write() as db:  # so that what the query had begun to read is of before
        set_meta(db, "one", 1)
    with index.write(synced=False) as db:
        set_meta(db, "two", 2)
    with index.read() as db:
        assert get_meta(db, "two", 0) == 2
    assert kept.traceback  # and with it the statement


def test_what_cannot_be_written_changes_no_generation(index: Index) -> None:
    before = index.generation
    with pytest.raises(StorageError), index.write() as db:
        db.execute("INSERT INTO instance (series) VALUES (1)")
    assert index.generation == before

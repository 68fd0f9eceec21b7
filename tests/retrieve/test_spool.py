"""The spool between threads and processes: sharing, taking over, cleaning up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.dicom.instance import StoredInstance
from gateway.errors import StorageError
from gateway.retrieve.spool import Arrived, Ended, Spool, Wanted, record
from tests.support.processes import Running
from tests.support.waiting import wait_until

WANTED = Wanted("P", "1.2", {"1.2.3.1": "1.2.3", "1.2.3.2": "1.2.3"})


def arrived(number: int) -> StoredInstance:
    return StoredInstance("P", "1.2", "1.2.3", f"1.2.3.{number}", "1.3", "1.4", f"/spool/{number}", 1000, 300)


LEADER = """
import sys, threading
from pathlib import Path
from gateway.dicom.instance import StoredInstance
from gateway.retrieve.spool import Spool, Wanted, record
entry = Spool(Path(sys.argv[1])).enter("1.2")
lead = entry.lead()
lead.want(Wanted("P", "1.2", {"1.2.3.1": "1.2.3", "1.2.3.2": "1.2.3"}))
record(entry.folder, StoredInstance("P", "1.2", "1.2.3", "1.2.3.1", "1.3", "1.4", "/spool/1", 1000, 300))
print("leading", flush=True)
threading.Event().wait()
"""


def test_one_leads_and_the_others_follow(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = spool.enter("1.2"), spool.enter("1.2")
    lead = first.lead()
    assert lead is not None
    assert second.lead() is None
    record(first.folder, arrived(1))
    assert list(second.news()) == [Arrived(arrived(1))]
    lead.end(Ended(("1.2.3.1", "1.2.3.2"), "it broke"))
    assert list(first.news()) == [Arrived(arrived(1)), Ended(("1.2.3.1", "1.2.3.2"), "it broke")]
    assert list(second.news()) == [Ended(("1.2.3.1", "1.2.3.2"), "it broke")]
    again = second.lead()
    assert again is not None
    again.end()
    first.close()
    assert second.folder.is_dir()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_later_gets_what_is_here_but_not_the_end_of_an_earlier_pull(tmp_path: Path) -> None:
    first = Spool(tmp_path).enter("1.2")
    lead = first.lead()
    assert lead is not None
    record(first.folder, arrived(1))
    lead.end(Ended(("1.2.3.1",), "it broke"))
    later = Spool(tmp_path).enter("1.2")
    assert list(later.news()) == [Arrived(arrived(1))]
    first.close()
    later.close()


def test_a_line_that_is_not_whole_is_not_read_yet(tmp_path: Path) -> None:
    entry = Spool(tmp_path).enter("1.2")
    record(entry.folder, arrived(1))
    log = entry.folder / "log"
    line = log.read_bytes()
    with log.open("ab") as half:
        half.write(line[:20])
        half.flush()
        assert list(entry.news()) == [Arrived(arrived(1))]
        assert list(entry.news()) == []
        half.write(line[20:])
    assert list(entry.news()) == [Arrived(arrived(1))]
    entry.close()


def test_a_lead_knows_when_everybody_has_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = spool.enter("1.2"), spool.enter("1.2")
    lead = first.lead()
    assert lead is not None
    first.close()
    assert not lead.is_unwanted()
    second.close()
    assert lead.is_unwanted()
    lead.end(Ended((), "abandoned", abandoned=True))
    assert list(tmp_path.iterdir()) == []


def test_an_instance_finds_the_pull_that_asked_for_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.expecting("1.2.3.1") is None
    entry = spool.enter("1.2")
    lead = entry.lead()
    assert lead is not None
    lead.want(WANTED)
    assert Spool(tmp_path).expecting("1.2.3.1") == (entry.folder, WANTED)
    assert spool.expecting("9.9") is None
    lead.end(Ended(()))
    assert spool.expecting("1.2.3.1") is None
    entry.close()


def test_another_process_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    with Running([sys.executable, "-c", LEADER, root], tmp_path / "leader.log") as leader:
        wait_until(lambda: "leading" in leader.text, "the other process leads")
        spool = Spool(root)
        entry = spool.enter("1.2")
        assert entry.lead() is None
        assert spool.expecting("1.2.3.2") == (entry.folder, WANTED)
        leader.kill()
        lead = wait_until(entry.lead, "the lock falls to us")
    assert lead is not None
    assert list(entry.news()) == [Arrived(arrived(1))]
    lead.end(Ended(("1.2.3.2",)))
    entry.close()
    assert list(root.iterdir()) == []


def test_what_killed_processes_left_is_swept_and_what_is_in_use_stays(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    with Running([sys.executable, "-c", LEADER, root], tmp_path / "leader.log") as leader:
        wait_until(lambda: "leading" in leader.text, "the other process leads")
        Spool(root).sweep()
        assert list(root.iterdir())
        leader.kill()
    Spool(root).sweep()
    assert list(root.iterdir()) == []


def test_a_line_that_a_full_disk_cut_short_says_nothing(tmp_path: Path) -> None:
    entry = Spool(tmp_path).enter("1.2")
    record(entry.folder, arrived(1))
    with (entry.folder / "log").open("ab") as log:
        log.write(b'{"instance":{"patient\n')
    record(entry.folder, arrived(2))
    assert list(entry.news()) == [Arrived(arrived(1)), Arrived(arrived(2))]
    entry.close()


def test_a_right_is_given_back_although_nobody_can_be_told(tmp_path: Path) -> None:
    entry = Spool(tmp_path).enter("1.2")
    lead = entry.lead()
    assert lead is not None
    log = entry.folder / "log"
    log.unlink()
    log.mkdir()
    with pytest.raises(StorageError):
        lead.end(Ended(("1.2.3.1",)))
    again = entry.lead()
    assert again is not None
    again.end()
    entry.close()


def test_a_spool_that_cannot_be_made_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(StorageError):
        Spool(tmp_path / "spool").enter("1.2")

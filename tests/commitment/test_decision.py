"""What is really there is committed, on real files; and another package may decide instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gateway.commitment.database import Database
from gateway.commitment.decision import ArchiveDecider, Damage, Decider, Verify, examine, load_decider
from gateway.commitment.digests import DigestLedger
from gateway.commitment.messages import Reason, Reference
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.errors import ConfigError, UpstreamError, UpstreamKind

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ASKER = Caller("MODALITY")
CONTENT = b"\0" * 128 + b"DICM" + b"content"


class Index:
    """An index of files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[str, StoredInstance] = {}
        self.pages: list[int] = []

    def add(self, uid: str) -> Path:
        path = self.folder / uid
        path.write_bytes(CONTENT)
        self.held[uid] = StoredInstance("P", "1", "1.0", uid, CT, "1.2.840.10008.1.2", str(path), len(CONTENT), 132)
        return path

    def __call__(self, *, sop_uids: Sequence[str]) -> Sequence[StoredInstance]:
        self.pages.append(len(sop_uids))
        return [self.held[uid] for uid in sop_uids if uid in self.held]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


def decided(decider: Decider, *references: Reference) -> list[int]:
    return list(decider(references, ASKER))


def test_what_is_there_is_committed(index: Index) -> None:
    index.add("1.1")
    for verify in Verify:
        assert decided(ArchiveDecider(index, verify), Reference(CT, "1.1")) == [0]


def test_what_the_index_does_not_have_is_no_such_object(index: Index) -> None:
    assert decided(ArchiveDecider(index, Verify.SIZE), Reference(CT, "1.1")) == [Reason.NO_SUCH_OBJECT_INSTANCE]


def test_another_class_than_the_stored_one_is_a_conflict(index: Index) -> None:
    index.add("1.1")
    assert decided(ArchiveDecider(index, Verify.SIZE), Reference(MR, "1.1")) == [Reason.CLASS_INSTANCE_CONFLICT]


def test_a_file_that_is_gone_is_not_committed_though_the_index_has_it(index: Index) -> None:
    index.add("1.1").unlink()
    for verify in Verify:
        assert decided(ArchiveDecider(index, verify), Reference(CT, "1.1")) == [Reason.NO_SUCH_OBJECT_INSTANCE]


@pytest.mark.parametrize(("verify", "found"), [(Verify.EXISTENCE, None), (Verify.SIZE, Damage.SIZE)])
def test_a_truncated_file_is_seen_from_size_on(index: Index, verify: Verify, found: Damage | None) -> None:
    index.add("1.1").write_bytes(CONTENT[:-1])
    assert examine(index.held["1.1"], verify) == (found, None)
    assert decided(ArchiveDecider(index, verify), Reference(CT, "1.1")) == [0x0110 if found else 0]


@pytest.fixture
def digests(tmp_path: Path) -> Iterator[DigestLedger]:
    database = Database(tmp_path / "commitment.sqlite")
    yield DigestLedger(database)
    database.close()


def rot(path: Path, *, in_place: bool) -> None:
    """Change a byte; a disk does it without touching the time of the last change."""
    before = path.stat()
    path.write_bytes(CONTENT[:-1] + b"!")
    if in_place:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_bytes_that_changed_by_themselves_are_not_committed(index: Index, digests: DigestLedger) -> None:
    path = index.add("1.1")
    decider = ArchiveDecider(index, Verify.CHECKSUM, digests=digests)
    assert decided(decider, Reference(CT, "1.1")) == [0]
    rot(path, in_place=True)
    assert decided(decider, Reference(CT, "1.1")) == [Reason.PROCESSING_FAILURE]
    assert decided(ArchiveDecider(index, Verify.SIZE), Reference(CT, "1.1")) == [0]  # it does not look that closely


def test_a_file_that_was_written_anew_is_another_one(index: Index, digests: DigestLedger) -> None:
    path = index.add("1.1")
    decider = ArchiveDecider(index, Verify.CHECKSUM, digests=digests)
    assert decided(decider, Reference(CT, "1.1")) == [0]
    rot(path, in_place=False)
    assert decided(decider, Reference(CT, "1.1")) == [0]
    rot(path, in_place=True)
    assert decided(decider, Reference(CT, "1.1")) == [0]


def test_a_folder_in_the_place_of_a_file_is_unreadable(index: Index) -> None:
    path = index.add("1.1")
    path.unlink()
    path.mkdir()
    assert examine(index.held["1.1"], Verify.EXISTENCE) == (Damage.UNREADABLE, None)


def test_the_index_is_asked_a_page_at_a_time_and_only_as_needed(index: Index) -> None:
    answers = ArchiveDecider(index, Verify.SIZE)([Reference(CT, f"1.{i}") for i in range(1200)], ASKER)
    next(answers)
    assert index.pages == [500]
    assert len(list(answers)) == 1199
    assert index.pages == [500, 500, 200]


class Leading:
    def __init__(self, held: Mapping[str, str], *, down: bool = False) -> None:
        self.held = held
        self.down = down

    def __call__(self, sop_instance_uids: Sequence[str], requester: Caller) -> Mapping[str, str]:  # noqa: ARG002
        if self.down:
            raise UpstreamError("timed out", UpstreamKind.TIMEOUT)
        return {uid: self.held[uid] for uid in sop_instance_uids if uid in self.held}


def test_the_leading_archive_counts_where_it_is_asked(index: Index) -> None:
    index.add("1.1")
    decider = ArchiveDecider(index, Verify.SIZE, elsewhere=Leading({"1.2": CT, "1.3": MR}))
    wanted = [Reference(CT, f"1.{i}") for i in range(1, 5)]
    assert decided(decider, *wanted) == [0, 0, Reason.CLASS_INSTANCE_CONFLICT, Reason.NO_SUCH_OBJECT_INSTANCE]


def test_a_leading_archive_that_is_down_fails_only_what_is_not_here(index: Index) -> None:
    index.add("1.1")
    decider = ArchiveDecider(index, Verify.SIZE, elsewhere=Leading({}, down=True))
    assert decided(decider, Reference(CT, "1.1"), Reference(CT, "1.2")) == [0, Reason.PROCESSING_FAILURE]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an entry point of our group."""
    (tmp_path / "acme_commitment.py").write_text(
        "from gateway.commitment.messages import Reason\n"
        "def decider(default):\n"
        "    def decide(references, requester):\n"
        "        for reference, reason in zip(references, default(references, requester)):\n"
        "            yield Reason.RESOURCE_LIMITATION if reference.sop_instance_uid.endswith('.9') else reason\n"
        "    return decide\n"
    )
    info = tmp_path / "acme_commitment-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-commitment\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dicom_gateway.commitment]\nacme = acme_commitment:decider\nbroken = acme_commitment:missing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_commitment", raising=False)


def everything(references: Sequence[Reference], requester: Caller) -> Iterator[int]:  # noqa: ARG001
    yield from [0] * len(references)


@pytest.mark.usefixtures("package")
def test_an_installed_package_decides_instead() -> None:
    decider = load_decider("acme", everything)
    assert decided(decider, Reference(CT, "1.8"), Reference(CT, "1.9")) == [0, Reason.RESOURCE_LIMITATION]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("name", "problem"), [("nobody", "installed: acme, broken"), ("broken", "cannot be loaded")])
def test_an_entry_point_that_is_not_there_is_a_configuration_error(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_decider(name, everything)


def test_without_a_name_the_archive_decides() -> None:
    assert load_decider("", everything) is everything

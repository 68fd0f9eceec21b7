"""Random sequences of everything that happens to an archive, against a model that is a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.archive import publish, records
from gateway.archive.canvas import Canvas
from gateway.archive.dicomdir import Dicomdir
from gateway.archive.durability import Durability
from gateway.archive.local import LocalArchive
from gateway.archive.store import OnConflict
from gateway.dicom.attributes import Attributes
from gateway.dicom.models import Level
from gateway.dicom.part10 import file_head
from tests.archive.conftest import CT, EXPLICIT, instance, send

KEYS = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2))
DEPTHS = {Level.PATIENT: 1, Level.STUDY: 2, Level.SERIES: 3, Level.IMAGE: 4}
Key = tuple[int, int, int, int]


def uid_of(key: tuple[int, ...]) -> str:
    return ".".join(["1.2.3", *map(str, key)])


class ArchiveMachine(RuleBasedStateMachine):
    """An archive, and the instances it should have with a word of their content."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[Key, str] = {}
        self.archive = self.opened()

    def opened(self) -> LocalArchive:
        archive = LocalArchive(
            self.folder / "files" / "DICOMDIR", durability=Durability.NONE, on_conflict=OnConflict.REPLACE
        )
        archive.prepare()
        return archive

    @initialize(small=st.sampled_from([0, 1 << 23]))
    def inactive_records(self, small: int) -> None:
        """Let them stay, or not."""
        publish.SMALL = small

    def teardown(self) -> None:
        publish.SMALL = 1 << 23
        self.archive.close()
        shutil.rmtree(self.folder)

    @rule(key=KEYS, word=st.sampled_from(["one", "two"]))
    def store(self, key: Key, word: str) -> None:
        assert send(self.archive, instance(*key, ImageComments=word)) == 0
        self.model[key] = word

    @rule(key=KEYS, level=st.sampled_from(list(DEPTHS)))
    def delete(self, key: Key, level: Level) -> None:
        depth = DEPTHS[level]
        hit = [one for one in self.model if one[:depth] == key[:depth]]
        named = f"P{key[0]}" if level is Level.PATIENT else uid_of(key[:depth])
        assert self.archive.delete(level, named).instances == len(hit)
        for one in hit:
            del self.model[one]

    @rule()
    def publish(self) -> None:
        self.archive.sync()

    @rule()
    def purge(self) -> None:
        self.archive.purge()

    @rule()
    def compact(self) -> None:
        self.archive.compact()

    @rule()
    def crash(self) -> None:
        """The process is gone without a word; the next one starts."""
        self.archive.close()
        self.archive = self.opened()

    @rule()
    def lose_dicomdir(self) -> None:
        self.archive.dicomdir.unlink()
        self.archive.sync()

    @rule()
    @precondition(lambda self: self.model)
    def reread(self) -> None:
        self.archive.sync()
        again = self.archive.sync(reread=True)
        assert again is not None
        assert (again.instances, again.added, again.dropped) == (len(self.model), 0, 0)

    @rule(data=st.data())
    @precondition(lambda self: self.model)
    def another_program_hides(self, data: st.DataObject) -> None:
        """``dcmdir -d``: the record of a published instance is made inactive; its file stays."""
        self.archive.sync()
        key = data.draw(st.sampled_from(sorted(self.model)))
        with Dicomdir(self.archive.dicomdir) as source:
            at = next(record.offset for _, record in source.records() if record.sop_instance_uid == uid_of(key))
        drawing = self.foreign()
        drawing.deactivate(at)
        self.put(drawing)
        (stored,) = self.archive.instances(sop_uids=[uid_of(key)])
        self.archive.sync()
        Path(stored.path).unlink()
        del self.model[key]

    @rule(key=KEYS)
    def another_program_adds(self, key: Key) -> None:
        """A file and a branch of its own for it; what is here already stays what it is."""
        request, data = instance(*key, ImageComments="theirs")
        name = "F" + "".join(map(str, key))
        if key in self.model or (self.archive.root / name).exists():
            return
        front = file_head(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
        (self.archive.root / name).write_bytes(front + data)
        self.archive.sync()
        attributes = Attributes.decode(data, implicit=False)
        blob = attributes.without([0x7FE00010]).encode(implicit=False)
        drawing = self.foreign()
        at = 0
        for one in ("PATIENT", "STUDY", "SERIES"):
            at = drawing.append(at, records.parent(one, blob))
        drawing.append(at, records.instance(CT, request.sop_instance_uid, EXPLICIT, name, blob))
        self.put(drawing)
        self.archive.sync()
        self.model[key] = "theirs"

    def foreign(self) -> Canvas:
        shutil.copyfile(self.archive.dicomdir, self.folder / "copy")
        return Canvas(self.folder / "copy")

    def put(self, drawing: Canvas) -> None:
        drawing.finish()
        (self.folder / "copy").rename(self.archive.dicomdir)

    @invariant()
    def the_index_is_the_model(self) -> None:
        wanted = {uid_of(key) for key in self.model}
        found = {one.sop_instance_uid: one for one in self.archive.instances(sop_uids=sorted(wanted) or ["0"])}
        assert set(found) == wanted
        assert sum(one.instances for one in self.archive.listing()) == len(wanted)
        for key, word in self.model.items():
            assert word.encode() in Path(found[uid_of(key)].path).read_bytes()

    @invariant()
    def the_dicomdir_parses(self) -> None:
        with Dicomdir(self.archive.dicomdir) as source:
            for _ in source.records():
                pass
            assert source.quarantined == []

    @rule()
    def all_agree_once_published(self) -> None:
        self.archive.sync()
        assert [one for one in self.archive.verify() if one.kind.name != "EMPTY"] == []
        with Dicomdir(self.archive.dicomdir) as source:
            published = [record.sop_instance_uid for _, record in source.records() if record.file_id]
        assert sorted(published) == sorted(uid_of(key) for key in self.model)


TestArchive = ArchiveMachine.TestCase
TestArchive.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes; the seed repeats a failure
)

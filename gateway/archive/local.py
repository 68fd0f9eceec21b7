"""The local archive as the rooms above see it: one object that finds, looks up, hands out and takes in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway.archive import fileid, find, heads, importer, store
from gateway.archive.dicomdir import Dicomdir, NotADicomdir
from gateway.archive.disk import Disk
from gateway.archive.index import Durability, Index, get_meta, set_meta
from gateway.archive.store import OnConflict, Store
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dimse.ports import Incoming, StoreRequest
from gateway.errors import BadInstance, StorageError
from gateway.logs import get_logger
from gateway.query.ports import Request

_log = get_logger("archive")
_CHUNK = 10_000


def default_index(dicomdir: Path) -> Path:
    """Beside the file-set's root, never in it: other tools read the root."""
    root = dicomdir.absolute().parent
    return root.with_name(root.name + ".index") / "index.sqlite"


class LocalArchive:
    """A DICOMDIR file-set with its index.

    Nothing is opened by constructing one. :meth:`prepare` is called once before serving, and before forking workers;
    everything else may be called from any thread of any process.

    Args:
        dicomdir: the file; its folder is the root of the file-set.
        index: the SQLite database, outside the root; beside the root by default.
    """

    def __init__(
        self,
        dicomdir: Path,
        *,
        index: Path | None = None,
        durability: Durability = Durability.FULL,
        on_conflict: OnConflict = OnConflict.KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dicomdir = dicomdir.absolute()
        self.root = self.dicomdir.parent
        self._clock = clock
        self._index = Index((index or default_index(dicomdir)).absolute(), durability)
        self._disk = Disk(self.root, durability)
        self._store = Store(self._index, self._disk, on_conflict, clock=clock)

    def prepare(self) -> None:
        """Make what is missing, end what a crash interrupted, and import a DICOMDIR that is new or was changed.

        Raises:
            StorageError: the folders or the index cannot be used, or there are signs that a DICOMDIR was lost.
        """
        if self._index.path.is_relative_to(self.root):
            raise StorageError("the index must not lie in the file-set's root", hint="set archive.index elsewhere")
        try:
            self._disk.incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the file-set's root cannot be made: {error.strerror}") from error
        new = self._index.create()
        if new and not self.dicomdir.exists():
            self._refuse_lost_dicomdir()
        if removed := store.recover(self._index, self._disk):
            _log.info("removed unfinished stores of an earlier run", files=removed)
        if self.dicomdir.exists():
            self.import_dicomdir()

    def _refuse_lost_dicomdir(self) -> None:
        names = {"dicomdir~", "dicomdir.bak", "dicomdir.new", "dicomdir.old"}
        found = sorted(one.name for one in self.root.iterdir() if one.name.casefold() in names)
        if found:
            raise StorageError(
                f"there is no DICOMDIR, but {found[0]}: a program crashed while renaming",
                hint="rename it to DICOMDIR, or remove it to start empty",
            )

    def import_dicomdir(
        self, progress: importer.Progress | None = None, *, again: bool = False
    ) -> importer.Imported | None:
        """Import the DICOMDIR unless it is the one imported or published last; None when it was.

        Raises:
            StorageError: it cannot be read, or is no DICOMDIR.
        """
        signature = signature_of(self.dicomdir)
        with self._index.read() as db:
            if not again and get_meta(db, "dicomdir", "") == signature:
                return None
        try:
            with Dicomdir(self.dicomdir) as source:
                done = importer.Importer(self._index, self._clock(), progress).run(source)
        except NotADicomdir as error:
            raise StorageError(f"{self.dicomdir.name} is no DICOMDIR: {error}") from error
        with self._index.write(visible=False) as db:
            set_meta(db, "dicomdir", signature)
        _log.info(
            "imported the DICOMDIR", instances=done.instances, added=done.added, dropped=done.dropped,
            quarantined=len(done.quarantined),
        )  # fmt: skip
        return done

    def find(self, request: Request) -> Iterator[Attributes]:
        """Answer a query; see :class:`gateway.query.ports.QuerySource`."""
        with self._index.read() as db:
            yield from find.find(db, request)

    def studies(self, uids: Sequence[str], caller: Caller) -> dict[str, Attributes]:  # noqa: ARG002
        """The patient and study attributes of the studies that are here."""
        found: dict[str, Attributes] = {}
        with self._index.read() as db:
            for part in _parts(uids):
                rows = db.execute(
                    "SELECT t.uid, p.attributes, t.attributes FROM study t JOIN patient p ON p.id = t.patient"
                    f" WHERE t.instances > 0 AND t.uid IN ({_marks(part)})",
                    part,
                )
                found.update({row[0]: find.patient_and_study(row[1:]) for row in rows})
        return found

    def instances(
        self, *, study_uids: Sequence[str] = (), series_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()
    ) -> list[StoredInstance]:
        """The stored instances that have one of the UIDs at each level that is named; none when none is named.

        An instance whose file is missing is among them with size 0: sending it fails, for it alone.
        """
        named = [("i.uid", sop_uids), ("s.uid", series_uids), ("t.uid", study_uids)]
        wanted = [(column, uids) for column, uids in named if uids]
        if not wanted:
            return []
        column, uids = wanted[0]
        others = [(_POSITION[name], frozenset(values)) for name, values in wanted[1:]]
        found: list[StoredInstance] = []
        with self._index.read() as db:
            for part in _parts(uids):
                rows = db.execute(f"{_INSTANCES} WHERE {column} IN ({_marks(part)}) ORDER BY i.id", part)
                found.extend(self._instance(row) for row in rows if all(row[at] in uids for at, uids in others))
        return found

    def _instance(self, row: tuple[str, str, str, str, str, str, str, int, int]) -> StoredInstance:
        patient, study, series, uid, sop_class, syntax, file_id, size, offset = row
        path = self.root / file_id
        if not offset:
            path, size, offset, syntax = self._measured(file_id, syntax)
        return StoredInstance(patient, study, series, uid, sop_class, syntax, str(path), size, offset)

    def _measured(self, file_id: str, syntax: str) -> tuple[Path, int, int, str]:
        """Path, size, offset and syntax of an imported instance that nobody has looked at yet."""
        try:
            path = fileid.resolve(self.root, file_id)
            head = heads.read_head(path)
        except (fileid.BadFileID, FileNotFoundError, BadInstance):
            return self.root / "missing", 0, 0, syntax
        return path, head.size, head.dataset_offset, head.transfer_syntax_uid

    def begin(self, request: StoreRequest) -> Incoming:
        """Take a C-STORE request; see :class:`gateway.dimse.ports.Receiver`."""
        return self._store.begin(request)

    @property
    def generation(self) -> int:
        """A number that is another one after every visible change, in whichever process."""
        return self._index.generation

    def close(self) -> None:
        """Close the index in this process."""
        self._index.close()


_INSTANCES = (
    "SELECT p.patient_id, t.uid, s.uid, i.uid, i.sop_class, i.transfer_syntax, i.file_id, i.size, i.dataset_offset"
    " FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study"
    " JOIN patient p ON p.id = t.patient"
)
_POSITION = {"t.uid": 1, "s.uid": 2}


def signature_of(path: Path) -> str:
    """What changes whenever a file is written or replaced."""
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _parts(uids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(uids), _CHUNK):
        yield tuple(uids[start : start + _CHUNK])


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))

"""The local archive as the rooms above see it: one object that finds, looks up, hands out and takes in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway import metrics
from gateway.archive import delete, exchange, find, importer, lookup, recovery, report
from gateway.archive.delete import Deleted
from gateway.archive.disk import Disk
from gateway.archive.durability import Durability
from gateway.archive.exchange import Change, Exchange
from gateway.archive.incoming import Incoming
from gateway.archive.index import Index
from gateway.archive.journal import Journal
from gateway.archive.keeper import Keeper
from gateway.archive.meta import get_meta, set_meta
from gateway.archive.publish import Publisher
from gateway.archive.retain import Committed, Doomed, Policy, choose, nowhere
from gateway.archive.store import OnConflict, Store
from gateway.archive.verify import Kind, Problem, Verifier
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.dicom.keys import Empties
from gateway.dicom.models import Level
from gateway.dimse import ports
from gateway.dimse.ports import StoreRequest
from gateway.errors import StorageError
from gateway.logs import get_logger
from gateway.query.ports import Request
from gateway.query.projection import Projection

_log = get_logger("archive")


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
        publish_delay: seconds from a change to its publication in the DICOMDIR, at least.
        min_free: bytes that must be free on the disk for an instance to be taken.
        journal_bytes: size of the journal of each process that stores; 0 for none. Only ``Durability.FULL`` needs one.
        empties: what a key says about an entity without a value.
    """

    def __init__(  # noqa: PLR0913 - each but the first has a name and a default
        self,
        dicomdir: Path,
        *,
        index: Path | None = None,
        durability: Durability = Durability.FULL,
        on_conflict: OnConflict = OnConflict.KEEP,
        publish_delay: float = 1.0,
        min_free: int = 0,
        journal_bytes: int = 0,
        empties: Empties | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dicomdir = dicomdir.absolute()
        self.root = self.dicomdir.parent
        self._clock = clock
        self._empties = empties or Empties()
        self._index = Index((index or default_index(dicomdir)).absolute(), durability)
        self._disk = Disk(self.root, durability)
        self._publisher = Publisher(self._index, self._disk, self.dicomdir, clock=clock)
        self._keeper = Keeper(self._index, self._publisher, publish_delay, clock, self._tidy)
        self._policy = Policy()
        self._committed: Committed = nowhere
        self._min_free = min_free
        self._incoming = Incoming(self._disk.incoming)
        self._journals = self._index.path.with_name(self._index.path.name + ".journal")
        self._journal = Journal(
            self._journals,
            journal_bytes if durability is Durability.FULL else 0,
            min_free,
            lambda: self._index.identity,
            self._bring_out,
            lambda entries: recovery.write_anew(self._disk, entries),
        )
        self._store = Store(
            self._index, self._disk, self._incoming, self._journal, on_conflict, clock=clock, min_free=min_free
        )

    def prepare(self) -> None:
        """Open the archive, then bring index and DICOMDIR in line.

        Raises:
            StorageError: as :meth:`open` and :meth:`sync`.
        """
        self.open()
        self.sync()

    def open(self, progress: importer.Progress | None = None) -> importer.Imported | None:
        """Make what is missing, and end what a crash interrupted; safe while others have the archive open.

        An index that is new gets everything that is there: the DICOMDIR, and what this gateway stored but had not
        published when the index was lost. What that found is returned.

        Args:
            progress: called with the number of instances imported so far.

        Raises:
            StorageError: the folders or the index cannot be used, or there are signs that a DICOMDIR was lost.
        """
        if self._index.path.is_relative_to(self.root):
            raise StorageError("the index must not lie in the file-set's root", hint="set archive.index elsewhere")
        try:
            self._disk.incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the file-set's root cannot be made: {error.strerror}") from error
        self._index.create()
        with self._index.read() as db:
            new = not get_meta(db, "filled", 0)
        if new and not self.dicomdir.exists():
            self._refuse_lost_dicomdir()
        self._recover()
        self._tidy()
        return self._fill(progress) if new else None

    def _recover(self) -> None:
        rows, files = recovery.put_back(self._index, self._disk, self._journals, self._clock())
        if rows or files:
            _log.warning("put back from the journal what the disk had lost", instances=rows, files=files)
        if removed := recovery.remove_leftovers(self._index, self._disk, self._incoming):
            _log.info("removed unfinished stores of an earlier run", files=removed)

    def _bring_out(self) -> None:
        self._disk.sync_all()
        self._index.sync_log()

    def _tidy(self) -> None:
        self.rest()
        if removed := exchange.recover(self._index, self._disk):
            _log.info("removed what was left of a study's exchange; the study is as it was", files=removed)

    def _fill(self, progress: importer.Progress | None) -> importer.Imported | None:
        found = self.sync(progress)
        try:
            taken = Verifier(self._index, self._disk, self.dicomdir).take_back(self._clock())
        except OSError as error:
            raise StorageError(f"the file-set cannot be read: {error.strerror}") from error
        if taken:
            _log.warning("took in stored instances that the DICOMDIR does not have", instances=taken)
            self.sync()
        with self._index.write(visible=False) as db:
            set_meta(db, "filled", 1)
        return found

    def start(self) -> None:
        """Keep the DICOMDIR published in the background of this process, until :meth:`close`."""
        self._keeper.start()

    def _refuse_lost_dicomdir(self) -> None:
        names = {"dicomdir~", "dicomdir.bak", "dicomdir.new", "dicomdir.old"}
        found = sorted(one.name for one in self.root.iterdir() if one.name.casefold() in names)
        if found:
            raise StorageError(
                f"there is no DICOMDIR, but {found[0]}: a program crashed while renaming",
                hint="rename it to DICOMDIR, or remove it to start empty",
            )

    def sync(self, progress: importer.Progress | None = None, *, reread: bool = False) -> importer.Imported | None:
        """Merge a DICOMDIR that others changed, then publish ours; what an import found, if there was one.

        Args:
            progress: called with the number of instances imported so far.
            reread: import the DICOMDIR even if it is the one published last.

        Raises:
            StorageError: the disk or the index refuses, or the file is no DICOMDIR.
        """
        return self._publisher.sync(progress=progress, reread=reread)

    def delete(self, level: Level, uid: str, *, reason: str = "command", unlink: bool = True) -> Deleted:
        """Delete an entity and all below it: when this returns, no query, retrieve or commitment knows it.

        Its records are inactive and its files gone after the next :meth:`sync`, which :meth:`start` does by itself.

        Args:
            uid: the unique key of the level; a Patient ID for PATIENT.
            reason: for the metrics.

        Raises:
            StorageError: the index refuses; nothing was deleted.
        """
        with self._index.write() as db:
            done = delete.delete(db, level, uid, unlink=unlink)
        metrics.DELETED.labels(reason).inc(done.instances)
        _log.info("deleted", level=level.name, instances=done.instances, reason=reason)
        return done

    def purge(self) -> int:
        """Take patients, studies and series without instances out of the DICOMDIR; how many there were.

        Raises:
            StorageError: the disk or the index refuses.
        """
        with self._index.write() as db:
            marked = delete.purge(db)
        self.sync()
        return marked

    def compact(self) -> None:
        """Write the DICOMDIR anew without inactive records.

        Raises:
            StorageError: the disk or the index refuses; the old one is untouched.
        """
        self._publisher.sync(compact=True)

    def listing(self) -> list[report.StudyLine]:
        """Every study with its counts and size."""
        with self._index.read() as db:
            return list(report.studies(db))

    def verify(self, *, quick: bool = False, repair: bool = False, forget_missing: bool = False) -> list[Problem]:
        """Compare index, DICOMDIR and disk; what is wrong, and whether it was mended.

        Args:
            quick: compare presence and sizes only, without opening the files.
            repair: mend what can be mended without loss.
            forget_missing: with ``repair``, also drop the entries of files that are missing.

        Raises:
            StorageError: index or disk cannot be read or written.
        """
        self._incoming.clear()  # a second name is the sign of a store under way
        self.sync(reread=repair)
        verifier = Verifier(self._index, self._disk, self.dicomdir, quick=quick)
        try:
            found = list(verifier.problems())
            if repair:
                order = sorted(found, key=lambda one: one.kind is Kind.MISSING)  # after files that turned up elsewhere
                found = [verifier.mend(one, self._clock(), forget_missing=forget_missing) for one in order]
                self.sync()
        except OSError as error:
            raise StorageError(f"the file-set cannot be read: {error.strerror}") from error
        return found

    def totals(self) -> report.Totals:
        """How much there is; at a million instances it takes a second."""
        with self._index.read() as db:
            return report.totals(db)

    @property
    def is_writable(self) -> bool:
        """Whether this process may write where it has to: into the file-set's folders and the index's."""
        places = (self.root, self._disk.incoming, self._index.path, self._index.path.parent)
        return all(os.access(place, os.W_OK) for place in places)

    @property
    def publish_delay(self) -> float:
        """Seconds since the oldest change that the DICOMDIR does not have; 0 when it has all. Needs :meth:`start`."""
        return self._keeper.delay

    @property
    def free_bytes(self) -> int:
        """Bytes free on the archive's disk.

        Raises:
            StorageError: the disk cannot be asked.
        """
        return self._disk.free()

    def retain_by(self, policy: Policy, committed: Committed = nowhere) -> None:
        """Set the policy of retention; :meth:`start` then keeps to its schedule, in one process at a time."""
        self._policy, self._committed = policy, committed
        self._keeper.every(policy.every, self.retain)

    def retain(self, *, dry_run: bool = False) -> list[Doomed]:
        """Delete the studies that the policy lets go; those it did, or would, delete and why.

        Raises:
            StorageError: the index or the disk refuses.
        """
        with self._index.read() as db:
            doomed = choose(db, self._policy, self._clock(), self._disk.free(), self._committed)
        if not dry_run:
            for one in doomed:
                self.delete(Level.STUDY, one.study_instance_uid, reason="retention")
            if doomed:
                self.purge()
        return doomed

    def on_deleted(self, observer: Callable[[Sequence[str]], None]) -> None:
        """Have ``observer`` called with the Study Instance UIDs that a deletion in any process touched.

        Needs :meth:`start`; the call comes from its thread, within ``publish_delay`` seconds.
        """
        self._keeper.observers.append(observer)

    def find(self, request: Request) -> Iterator[Attributes]:
        """Answer a query; see :class:`gateway.query.ports.QuerySource`."""
        with self._index.read() as db:
            yield from find.find(db, request, self._empties)

    def answers(self, request: Request, projection: Projection) -> Iterator[Attributes]:
        """Answer a query finally; see :class:`gateway.query.direct.Answering`."""
        with self._index.read() as db:
            yield from find.answers(db, request, projection, self._empties)

    def studies(self, uids: Sequence[str], caller: Caller) -> dict[str, Attributes]:  # noqa: ARG002
        """The patient and study attributes of the studies that are here."""
        with self._index.read() as db:
            return lookup.studies(db, uids)

    def instances(
        self, *, study_uids: Sequence[str] = (), series_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()
    ) -> list[StoredInstance]:
        """The stored instances that have one of the UIDs at each level that is named; none when none is named.

        An instance whose file is missing is among them with size 0: sending it fails, for it alone.
        """
        with self._index.read() as db:
            found = lookup.instances(db, self.root, study_uids, series_uids, sop_uids)
        self._keeper.used({one.study_instance_uid for one in found})
        return found

    def begin(self, request: StoreRequest) -> ports.Incoming:
        """Take a C-STORE request; see :class:`gateway.dimse.ports.Receiver`."""
        self._keeper.storing()
        return self._store.begin(request)

    def rest(self) -> None:
        """Do what stores have left to be done while nobody waits; called between requests, from any thread."""
        self._incoming.rest()

    def exchange(self, study_uid: str, change: Change) -> int:
        """Put changed files in the place of a study's, in one transaction; how many instances have a new one.

        When this returns, every answer and every file is the new one; when it raises, each is the old one.

        Args:
            change: says what an instance is to be; called for each of the study.

        Raises:
            BadInstance: an instance cannot be read, or is not what the index says.
            StorageError: the disk or the index refuses, or the study changed meanwhile.
        """
        with self._index.read() as db:
            rows = exchange.rows_of(db, study_uid)
        stored = self.instances(study_uids=[study_uid])
        if self._min_free and self._disk.free() - sum(one.size for one in stored) < self._min_free:
            raise StorageError("less disk space would be free than archive.min_free asks for")
        one = Exchange(self._index, self._disk, self._publisher, study_uid, rows, self._clock())
        return one.run(stored, change)

    @property
    def identity(self) -> bytes:
        """16 bytes that tell this archive's index from any other."""
        return self._index.identity

    @property
    def generation(self) -> int:
        """A number that is another one after every visible change, in whichever process."""
        return self._index.generation

    def close(self) -> None:
        """Stop what :meth:`start` started, bring out what is in the journal, and close the index in this process.

        Raises:
            StorageError: the disk refuses; the journal is read at the next start.
        """
        self._keeper.stop()
        self._incoming.close()
        try:
            self._journal.close()
        finally:
            self._disk.close()
            self._index.close()

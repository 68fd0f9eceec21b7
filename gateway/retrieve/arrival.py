"""Instances that arrive because we asked the leading archive for them, and those that nobody asked for."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Protocol

from gateway.dicom.instance import StoredInstance
from gateway.dicom.status import Kind, Status, kind
from gateway.dimse.ports import Incoming, Receiver, StoreRequest
from gateway.errors import Refused, StorageError
from gateway.logs import get_logger
from gateway.metrics import PULLED, PULLED_BYTES
from gateway.retrieve.incoming import FolderReceiver, Received
from gateway.retrieve.ports import LocalInstances
from gateway.retrieve.spool import Spool, Wanted, hashed, record

_log = get_logger("retrieve")


class Keeper(Receiver, LocalInstances, Protocol):
    """The local archive, where pulled instances are kept."""


class PullReceiver:
    """Receives what a pull asked for into the study's folder, or into the archive, and says so in the folder's log."""

    def __init__(self, folder: Path, wanted: Wanted, keep: Keeper | None) -> None:
        self._folder = folder
        self._wanted = wanted
        self._keep = keep
        self._files = FolderReceiver(folder, _file_name, self._arrived, durable=False)

    def begin(self, request: StoreRequest) -> Incoming:
        """Open a place for an instance.

        Raises:
            Refused: the pull did not ask for it.
            StorageError: the disk is full or failing.
        """
        if request.sop_instance_uid not in self._wanted.series_of:
            raise Refused("instance was not asked for", Status.NOT_AUTHORISED)
        if self._keep is None:
            return self._files.begin(request)
        return _Kept(self._keep.begin(request), self._keep, request.sop_instance_uid, self._folder)

    def _arrived(self, received: Received) -> None:
        request = received.request
        record(
            self._folder,
            StoredInstance(
                self._wanted.patient_id,
                self._wanted.study_instance_uid,
                self._wanted.series_of[request.sop_instance_uid],
                request.sop_instance_uid,
                request.sop_class_uid,
                request.transfer_syntax_uid,
                str(received.path),
                received.size,
                received.dataset_offset,
            ),
        )
        PULLED.labels("received").inc()
        PULLED_BYTES.inc(received.size - received.dataset_offset)


class _Kept:
    """An instance on its way into the archive, passed on from there."""

    def __init__(self, inner: Incoming, archive: LocalInstances, sop_instance_uid: str, folder: Path) -> None:
        self._inner = inner
        self._archive = archive
        self._sop_instance_uid = sop_instance_uid
        self._folder = folder

    @property
    def fd(self) -> int:
        """The archive's."""
        return self._inner.fd

    def commit(self) -> int:
        """Keep it, then let those who wait have it.

        Raises:
            GatewayError: it was not kept.
        """
        status = self._inner.commit()
        if kind(status) is Kind.FAILURE:
            return status
        found = self._archive.instances(sop_uids=[self._sop_instance_uid])
        if not found:
            raise StorageError("an instance was kept and is not there")
        record(self._folder, found[0])
        PULLED.labels("kept").inc()
        PULLED_BYTES.inc(found[0].size - found[0].dataset_offset)
        return status

    def abort(self) -> None:
        """Forget it."""
        self._inner.abort()


class Unexpected(Enum):
    """What becomes of an instance that the leading archive sends and nobody asked for."""

    STORE = "store"
    REFUSE = "refuse"


class Correlator:
    """The server's receiver: what a pull waits for goes to it, everything else into the archive.

    An instance belongs to a pull if the pull asked for its SOP Instance UID and it comes from the leading archive, by
    its peer or its address. Nobody else can slip an instance into somebody's retrieve.

    Args:
        sources: names of the peers that are leading archives.
        addresses: their network addresses, for those that call under another AE title.
    """

    def __init__(
        self,
        archive: Keeper,
        spool: Spool,
        sources: frozenset[str],
        addresses: frozenset[str] = frozenset(),
        *,
        keep: bool,
        unexpected: Unexpected = Unexpected.STORE,
    ) -> None:
        self._archive = archive
        self._spool = spool
        self._sources = sources
        self._addresses = addresses
        self._keep = keep
        self._unexpected = unexpected

    def begin(self, request: StoreRequest) -> Incoming:
        """Open a place for an instance.

        Raises:
            Refused: it comes from the leading archive, was not asked for, and such are not taken.
            StorageError: the disk is full or failing.
        """
        is_source = request.caller.peer in self._sources
        may_be = is_source or request.caller.address in self._addresses
        if may_be and (found := self._spool.expecting(request.sop_instance_uid)):
            return PullReceiver(*found, self._archive if self._keep else None).begin(request)
        if not is_source:
            return self._archive.begin(request)
        PULLED.labels("unexpected").inc()
        _log.warning(
            "instance for no known move",
            peer=request.caller.peer,
            instance=request.sop_instance_uid,
            decision=self._unexpected.value,
        )
        if self._unexpected is Unexpected.REFUSE:
            raise Refused("no retrieve asked for this instance", Status.NOT_AUTHORISED)
        return self._archive.begin(request)


def _file_name(request: StoreRequest) -> str:
    return f"{hashed(request.sop_instance_uid)}.dcm"

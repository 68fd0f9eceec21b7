"""C-GET over real sockets, and transcoding for peers that refuse what is stored."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from gateway.dicom.attributes import Attributes
from gateway.dicom.status import Status
from gateway.dimse.negotiation import Role
from gateway.dimse.requestor import RetrieveProgress, connect
from gateway.errors import Cancelled
from gateway.retrieve.destinations import Destination
from tests.retrieve.world import AET, BOTH, GET, MOVE, Destined, World, destination, gateway, peer
from tests.support import peers, scu
from tests.support.dicomfiles import instance, study, uid

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
TEN = study("ten", 10)


def identifier(name: str = "ten") -> Attributes:
    return Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid(name)})


def get(
    world: World, receiver: Destined, asked: Attributes | None = None, storage: tuple[tuple[str, str], ...] = ()
) -> RetrieveProgress:
    contexts = storage or tuple((CT, syntax) for syntax in BOTH)
    roles = {sop_class: Role(scu=False, scp=True) for sop_class, _ in contexts}
    asking = [(GET, syntax) for syntax in BOTH]
    with connect(peer(AET, world.port), "VIEWER", [*asking, *contexts], roles=roles) as association:
        return list(association.get(GET, asked or identifier(), receiver))[-1]


def test_every_instance_comes_on_the_same_association(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    with gateway(tmp_path, TEN) as world:
        last = get(world, receiver)
        assert (last.status, last.completed, last.failed) == (Status.SUCCESS, 10, 0)
        assert receiver.instances().keys() == {one.SOPInstanceUID for one in TEN}


def test_nothing_found_is_success_with_zero_counters(tmp_path: Path) -> None:
    with gateway(tmp_path, TEN) as world:
        last = get(world, Destined(tmp_path / "out"), identifier("no such study"))
        assert (last.status, last.completed, last.failed, last.warning) == (Status.SUCCESS, 0, 0, 0)


def test_no_context_for_any_instance_is_a702_and_all_are_listed(tmp_path: Path) -> None:
    with gateway(tmp_path, TEN) as world:
        last = get(world, Destined(tmp_path / "out"), storage=((MR, IMPLICIT),))
        assert (last.status, last.failed) == (Status.UNABLE_TO_PERFORM_SUBOPERATIONS, 10)
        assert set(last.failed_uids) == {one.SOPInstanceUID for one in TEN}


def test_a_failed_instance_fails_alone(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out", lambda number: Status.OUT_OF_RESOURCES if number == 4 else None)
    with gateway(tmp_path, TEN) as world:
        last = get(world, receiver)
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 9, 1)
        assert last.failed_uids == (receiver.requests[4].sop_instance_uid,)


def test_cancel_stops_within_one_instance(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out")
    roles = {CT: Role(scu=False, scp=True)}
    contexts = [(GET, BOTH[0]), (CT, BOTH[0])]
    with gateway(tmp_path, TEN) as world, connect(peer(AET, world.port), "V", contexts, roles=roles) as association:
        with pytest.raises(Cancelled):
            list(association.get(GET, identifier(), receiver, lambda: len(receiver.requests) >= 3))
        assert 3 <= len(receiver.requests) <= 5  # what was on the wire when the cancel was sent still comes
        assert association.is_open


def mixed() -> list[Dataset]:
    """Implicit, explicit, RLE, and a lossy image that nobody can have in another syntax."""
    made = [instance("mixed", "1", 1, "CT"), instance("mixed", "2", 1, "RTDOSE")]
    for number, name in enumerate(["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "JPEG-lossy.dcm"]):
        path = get_testdata_file(name)
        assert isinstance(path, str)
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("mixed"), uid("mixed", "3")
        dataset.SOPInstanceUID = UID(uid("mixed", "3", number))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyID = "1"
        made.append(dataset)
    return made


@pytest.mark.peers
def test_storescp_that_takes_implicit_only_gets_all_that_can_be_had_without_loss(tmp_path: Path) -> None:
    made = mixed()
    with (
        peers.storescp(tmp_path / "viewer", options=("+xi",)) as viewer,
        gateway(tmp_path, made, [Destination(peer("viewer", viewer.port, viewer.aet))]) as world,
        world.association(MOVE) as association,
    ):
        last = list(association.move(MOVE, identifier("mixed"), viewer.aet))[-1]
        assert (last.status, last.completed, last.failed) == (Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES, 4, 1)
        assert last.failed_uids == (made[-1].SOPInstanceUID,)
        arrived = viewer.instances()
        assert {one.file_meta.TransferSyntaxUID for one in arrived.values()} == {IMPLICIT}
        pixels = instance("any", modality="MR").PixelData
        assert arrived[made[2].SOPInstanceUID].PixelData == arrived[made[3].SOPInstanceUID].PixelData == pixels
        assert arrived[made[0].SOPInstanceUID].PixelData == made[0].PixelData


@pytest.mark.peers
def test_getscu_gets_a_transcoded_study(tmp_path: Path) -> None:
    with gateway(tmp_path, mixed()[:-1]) as world:
        keys = {"StudyInstanceUID": uid("mixed")}
        outcome = scu.get(world.port, "STUDY", keys, tmp_path / "out", aec=AET)
        assert outcome.returncode == 0
        assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.peers
def test_movescu_sees_hundreds_of_instances_through_to_storescp(tmp_path: Path) -> None:
    made = study("many", 300, "MR")
    with (
        peers.storescp(tmp_path / "viewer") as viewer,
        gateway(tmp_path, made, [Destination(peer("viewer", viewer.port, viewer.aet), associations=2)]) as world,
    ):
        outcome = scu.move(world.port, "STUDY", {"StudyInstanceUID": uid("many")}, viewer.aet, aec=AET)
        assert (outcome.returncode, outcome.status) == (0, Status.SUCCESS)
        assert len(viewer.files()) == 300


def takes_its_time(number: int) -> int | None:
    threading.Event().wait(0.3)
    return None if number < 10 else Status.OUT_OF_RESOURCES


@pytest.mark.peers
def test_movescu_cancels_and_gets_the_counters_of_what_was_done(tmp_path: Path) -> None:
    receiver = Destined(tmp_path / "out", takes_its_time)
    keys = {"StudyInstanceUID": uid("ten")}
    with destination(receiver) as viewer, gateway(tmp_path, TEN, [Destination(viewer)]) as world:
        outcome = scu.move(world.port, "STUDY", keys, "VIEWER", aec=AET, options=["--cancel", "1"])
        assert outcome.status == Status.CANCEL
        final = outcome.text[outcome.text.rindex("Received Final Move Response") :]
        counted = {name: int(number) for name, number in re.findall(r"(\w+) Suboperations +: (\d+)", final)}
        assert counted["Remaining"] + counted["Completed"] == 10
        assert counted["Completed"] == len(receiver.requests) < 10

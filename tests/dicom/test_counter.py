import pytest

from gateway.dicom.counter import SubOperations
from gateway.dicom.status import Kind, Status, kind


@pytest.mark.parametrize(
    ("statuses", "final"),
    [
        ([], Status.SUCCESS),
        ([0x0000, 0x0000], Status.SUCCESS),
        ([0x0000, 0xB000], Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES),
        ([0x0000, 0xA700], Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES),
        ([0xA700, 0x0122], Status.UNABLE_TO_PERFORM_SUBOPERATIONS),
    ],
)
def test_the_final_status_follows_from_the_counters(statuses: list[int], final: Status) -> None:
    counters = SubOperations(remaining=len(statuses))
    for number, status in enumerate(statuses):
        counters.count(f"1.2.{number}", status)
    assert counters.final is final
    assert counters.remaining == 0
    assert counters.completed + counters.warning + counters.failed == len(statuses)
    assert len(counters.failed_uids) == counters.failed


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x0000, Kind.SUCCESS),
        (0xFF01, Kind.PENDING),
        (0xFE00, Kind.CANCEL),
        (0xB006, Kind.WARNING),
        (0x0107, Kind.WARNING),
        (0xA900, Kind.FAILURE),
        (0xC123, Kind.FAILURE),
        (0x0122, Kind.FAILURE),
    ],
)
def test_every_status_has_its_class(status: int, expected: Kind) -> None:
    assert kind(status) is expected

"""The figures that scripts read: their keys, and that a ratio over 1 is always better for us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.client import query
from bench.data import CT_STUDY, FULL, QUICK, ct_study, pixel_file, small_studies
from bench.limit import synced_seconds
from bench.report import Measured
from bench.rows import Row, rows
from gateway.dicom.attributes import Attributes
from gateway.dimse.pdu import Fragment, PduReader


def row(**values: object) -> Row:
    (found,) = [one for one in rows(FULL) if one.name == "move-500"]
    return Row(**{**found.__dict__, **values})


def test_a_time_is_compared_with_the_fastest_peer() -> None:
    measured = Measured(row(), [1.0, 3.0, 2.0], {"Orthanc": [5.0, 4.0, 6.0], "dcmqrscp": [9.0]}, [0.5], {}, [1.5])
    found = report.as_json(measured)
    assert (found["ours"], found["peers"], found["ratio"]) == (2.0, {"Orthanc": 5.0, "dcmqrscp": 9.0}, 2.5)
    assert (found["met"], found["rounds"], found["share_of_limit"]) == (True, 3, 0.25)
    assert (found["synced_limit"], found["share_of_synced_limit"]) == (1.5, 0.75)


def test_a_rate_is_compared_with_the_fastest_peer() -> None:
    measured = Measured(row(more=True, unit="1/s"), [100.0], {"Orthanc": [5.0], "dcmqrscp": [10.0]}, [], {})
    assert report.as_json(measured)["ratio"] == 10.0


def test_work_that_failed_has_no_ratio_and_says_why() -> None:
    found = report.as_json(Measured(row(), [], {"Orthanc": [1.0]}, [], {"ours": "AssertionError: 3 answers"}))
    assert (found["ours"], found["ratio"], found["met"]) == (None, None, None)
    assert "3 answers" in report.table([found])


def test_the_file_has_the_keys_scripts_rely_on(tmp_path: Path) -> None:
    path = tmp_path / "out" / "latest.json"
    report.write(path, [report.as_json(Measured(row(), [1.0], {}, [], {}))], quick=True)
    written = json.loads(path.read_text())
    assert {"rows", "machine"} <= set(written)
    assert {"name", "unit", "ours", "peers", "ratio", "target", "rounds"} <= set(written["rows"][0])


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_every_row_has_a_name_of_its_own_and_a_target(sizes: object) -> None:
    found = rows(sizes)  # type: ignore[arg-type]
    assert len({one.name for one in found}) == len(found) == 14
    assert all(one.target >= 1 for one in found)


def test_the_data_is_what_the_rows_say(tmp_path: Path) -> None:
    assert len(list(small_studies(150))) == 150
    study = ct_study(pixel_file(tmp_path), 2)
    assert study.bytes > 2 * 512 * 512 * 2
    head = Attributes.decode(study.instances[0].head[:-12], implicit=False)
    assert head.text(0x0020000D) == CT_STUDY


def test_what_a_disk_can_do_at_most_is_done_to_files(tmp_path: Path) -> None:
    study = ct_study(pixel_file(tmp_path), 3)
    assert synced_seconds(study, tmp_path) > 0
    written = sorted(path.stat().st_size for path in tmp_path.glob("*/?"))
    assert written == [len(one.head) + one.length for one in study.instances]


def test_a_query_has_twelve_keys() -> None:
    reader = PduReader()
    request = query(StudyDate="2023")
    reader.space[: len(request)] = request
    reader.received(len(request))
    command, identifier = reader.next(), reader.next()
    assert isinstance(command, Fragment)
    assert isinstance(identifier, Fragment)
    assert len(Attributes.decode(bytes(identifier.data), implicit=False)) == 12

"""Nothing sensitive reaches a log line unless somebody decided that it may."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from gateway import logs
from gateway.dicom.attributes import Attributes
from gateway.errors import UpstreamError, UpstreamKind


class Lines:
    """What was logged since the last look."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def taken(self) -> list[dict[str, Any]]:
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    taken = Lines()
    show = warnings.showwarning
    logs.configure("debug", as_json=True, stream=taken.stream)
    yield taken
    warnings.showwarning = show
    logs.configure("info")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PatientName", "CANARY^ANNA"),
        ("PatientID", 4711),
        ("patient_id", 4711),
        ("accession", 4711),
        ("identifier", Attributes.of({"PatientName": "CANARY^ANNA"})),
        ("status", Attributes.of({"PatientName": "CANARY^ANNA"})),
        ("anything_else", "CANARY^ANNA"),
        ("answers", [{"name": "CANARY^ANNA"}]),
        ("study", "CANARY^ANNA"),
        ("bytes", b"CANARY^ANNA"),
    ],
)
def test_what_is_not_known_to_be_safe_is_masked(lines: Lines, key: str, value: object) -> None:
    logs.get_logger("dimse").info("query answered", **{key: value})
    with logs.bound(**{key: value}):
        logs.get_logger("dimse").info("query answered")
    for line in lines.taken():
        assert line[key] in (logs.MASK, [logs.MASK])
        assert "CANARY" not in json.dumps(line)


def test_an_operator_sees_who_what_and_how_long(lines: Lines) -> None:
    with logs.bound(association=7, peer="VIEWER", calling="STORESCP"):
        logs.get_logger("dimse").info(
            "query answered", study="1.2.840.1", count=3, duration=timedelta(seconds=0.25), kind=UpstreamKind.TIMEOUT
        )
    (line,) = lines.taken()
    assert line["event"] == "query answered"
    assert line["room"] == "dimse"
    assert line["level"] == "info"
    assert line["association"] == 7
    assert line["peer"] == "VIEWER"
    assert line["study"] == "1.2.840.1"
    assert line["duration"] == 0.25
    assert line["kind"] == "timeout"


def test_bound_values_end_with_the_block(lines: Lines) -> None:
    with logs.bound(association=7):
        pass
    logs.get_logger("dimse").info("idle")
    assert "association" not in lines.taken()[0]


def test_an_exception_is_one_line_without_foreign_text(lines: Lines) -> None:
    log = logs.get_logger("archive")
    try:
        try:
            raise ValueError("CANARY^ANNA is no date")
        except ValueError as error:
            raise UpstreamError("the archive answered nonsense", UpstreamKind.PROTOCOL) from error
    except UpstreamError:
        log.exception("query failed")
    (line,) = lines.taken()
    assert line["raised"].startswith("UpstreamError: the archive answered nonsense at ")
    assert "; caused by ValueError at tests/logs/test_logs.py:" in line["raised"]
    assert "CANARY" not in json.dumps(line)


def test_an_error_of_the_system_says_its_reason(lines: Lines) -> None:
    logs.get_logger("archive").error("cannot write", error=OSError(28, "No space left on device", "/x/CANARY"))
    assert lines.taken()[0]["error"] == "OSError: No space left on device"


def test_other_libraries_say_where_not_what(lines: Lines) -> None:
    logging.getLogger("library.wire").error("(0010,0010) PN CANARY^ANNA")
    logging.getLogger("library.wire").info("(0010,0010) PN CANARY^ANNA")
    (line,) = lines.taken()
    assert line["room"] == "library.wire"
    assert line["source"].startswith("tests/logs/test_logs.py:")
    assert "CANARY" not in json.dumps(line)


def test_a_foreign_exception_is_masked_too(lines: Lines) -> None:
    try:
        raise KeyError("CANARY^ANNA")
    except KeyError:
        logging.getLogger("asyncio").exception("callback failed")
    (line,) = lines.taken()
    assert line["event"] == "callback failed"
    assert line["raised"].startswith("KeyError at ")
    assert "CANARY" not in json.dumps(line)


def test_warnings_of_python_are_lines_without_their_text(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._show_warning
        warnings.warn("Invalid value for VR PN: 'CANARY^ANNA'", UserWarning, stacklevel=1)
    (line,) = lines.taken()
    assert line["kind"] == "UserWarning"
    assert "CANARY" not in json.dumps(line)


def test_the_level_changes_at_run_time(lines: Lines) -> None:
    log = logs.get_logger("query")
    logs.set_level("warning")
    log.info("not written")
    logs.set_level("debug")
    log.debug("written")
    assert [line["event"] for line in lines.taken()] == ["written"]


def test_console_lines_are_masked_and_one_line_each() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logs.get_logger("dimse").info("query answered", PatientName="CANARY\nANNA", reason="two\nlines")
    try:
        raise ValueError("CANARY")
    except ValueError:
        logs.get_logger("dimse").exception("failed")
    assert "CANARY" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_before_it_is_configured_a_warning_is_masked(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "early.py"
    script.write_text("from gateway import logs\nlogs.get_logger('x').warning('early', PatientName='CANARY')\n")
    subprocess.run([sys.executable, script], check=True, timeout=30)
    out, err = capfd.readouterr()
    assert out == ""
    assert "early" in err
    assert "CANARY" not in err


class Kind(Enum):
    SOME = "CANARY"


def test_enum_members_are_shown_by_name(lines: Lines) -> None:
    logs.get_logger("x").info("event", outcome=Kind.SOME)
    assert lines.taken()[0]["outcome"] == "some"

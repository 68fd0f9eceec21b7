"""Durations and sizes as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.types import format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT5M", 300), ("PT30S", 30), ("PT0.25S", 0.25), ("PT1H30M", 5400), ("P1D", 86400),
     ("P1DT12H", 129600), ("P2W", 1209600)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "5M", "PT5", "P1Y", "P1M", "PT-5S", "P1DT", 5, None, "pt5m"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_a_duration_prints_back(milliseconds: int) -> None:
    value = timedelta(milliseconds=milliseconds)
    parsed = parse_duration(format_duration(value))
    assert abs(parsed - value) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [(4096, 4096), ("4096", 4096), ("4096B", 4096), ("64MiB", 64 << 20), ("1.5 GiB", 3 << 29), ("2GB", 2 * 10**9),
     ("128kB", 128000), ("128KiB", 128 << 10), ("1T", 10**12)],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", -1, "64 megabytes", "64MiBB", True, None, 1.5])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)

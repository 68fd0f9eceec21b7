"""Dates, times and date-times as sortable text, so that a range is two string comparisons (PS3.5 6.2, PS3.4 C.2.2.2.5).

A value is *canonical* when it has its full length: ``YYYYMMDD``, ``HHMMSS.FFFFFF``, ``YYYYMMDDHHMMSS.FFFFFF``. A
partial value, such as the time ``10``, spans from its earliest to its latest moment. Impossible days of a month are
let through on purpose: clients ask for ``20240201-20240231``, and what an archive stored must be findable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_DATE = re.compile(r"(\d{4})(?:(\d{2})(\d{2})|\.(\d{2})\.(\d{2}))")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?")
_EARLIEST = "00000101000000.000000"
_LATEST = "99991231235959.999999"
_WIDTHS = (4, 6, 8, 10, 12, 14)


class NoMoment(ValueError):
    """A text that is no date, time or date-time, or no range of them."""


@dataclass(frozen=True)
class Span:
    """What one value covers, in canonical text, both ends included.

    Attributes:
        offset: minutes from UTC, when a date-time says so.
    """

    earliest: str
    latest: str
    offset: int | None = None

    def in_utc(self) -> Span:
        """The same span on the clock of UTC; without an offset, as it is."""
        if not self.offset:
            return self
        return Span(_shift(self.earliest, -self.offset), _shift(self.latest, -self.offset), 0)


def date(text: str) -> Span:
    """A DA value; ``YYYY.MM.DD`` of ACR-NEMA is read as well.

    Raises:
        NoMoment: anything else.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        raise NoMoment("not a date")
    day = "".join(part for part in found.groups() if part)
    if not ("01" <= day[4:6] <= "12" and "01" <= day[6:] <= "31"):
        raise NoMoment("not a date")
    return Span(day, day)


def time(text: str) -> Span:
    """A TM value, from ``HH`` to ``HHMMSS.FFFFFF``; ``HH:MM:SS`` of ACR-NEMA is read as well.

    Raises:
        NoMoment: anything else.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise NoMoment("not a time")
    hour, minute, second, fraction = found.groups()
    if hour > "23" or (minute or "") > "59" or (second or "") > "60":
        raise NoMoment("not a time")
    return Span(
        f"{hour}{minute or '00'}{second or '00'}.{(fraction or '').ljust(6, '0')}",
        f"{hour}{minute or '59'}{second or '59'}.{(fraction or '').ljust(6, '9')}",
    )


def date_time(text: str) -> Span:
    """A DT value, from ``YYYY`` to ``YYYYMMDDHHMMSS.FFFFFF&ZZXX``.

    Raises:
        NoMoment: anything else.
    """
    found = _DATETIME.fullmatch(text.strip())
    if found is None:
        raise NoMoment("not a date-time")
    *parts, fraction, zone = found.groups()
    digits = "".join(part for part in parts if part)
    if fraction and len(digits) != _WIDTHS[-1]:
        raise NoMoment("not a date-time")
    _check_parts(parts)
    earliest = digits + _EARLIEST[len(digits) :]
    latest = digits + _LATEST[len(digits) :]
    if fraction:
        earliest = f"{digits}.{fraction.ljust(6, '0')}"
        latest = f"{digits}.{fraction.ljust(6, '9')}"
    return Span(earliest, latest, _offset(zone) if zone else None)


def _check_parts(parts: list[str | None]) -> None:
    _, month, day, hour, minute, second = (part or "01" for part in parts)
    if not ("01" <= month <= "12" and "01" <= day <= "31" and hour <= "23" and minute <= "59" and second <= "60"):
        raise NoMoment("not a date-time")


def _offset(zone: str) -> int:
    """Minutes from UTC; -1200 to +1400 are possible (PS3.5 6.2), which is what tells a zone from a range."""
    minutes = int(zone[1:3]) * 60 + int(zone[3:])
    minutes = -minutes if zone[0] == "-" else minutes
    if not -12 * 60 <= minutes <= 14 * 60 or zone[3:] > "59":
        raise NoMoment("not an offset from UTC")
    return minutes


def _shift(canonical: str, minutes: int) -> str:
    """Move a canonical date-time; what is on no calendar, or falls off its ends, stays where it is."""
    try:
        moved = datetime.strptime(canonical, "%Y%m%d%H%M%S.%f") + timedelta(minutes=minutes)  # noqa: DTZ007
    except (ValueError, OverflowError):
        return canonical
    return f"{moved:%Y%m%d%H%M%S}.{moved.microsecond:06d}".rjust(len(canonical), "0")


_READERS = {"DA": date, "TM": time, "DT": date_time}


def span(vr: str, text: str) -> Span:
    """What one value of VR DA, TM or DT covers.

    Raises:
        NoMoment: the text is no such value.
    """
    return _READERS[vr](text)


def canonical(vr: str, text: str) -> str:
    """The earliest moment of a value as sortable text, empty when it is none: what an index stores."""
    try:
        return span(vr, text).earliest
    except NoMoment:
        return ""


def interval(vr: str, text: str) -> tuple[Span | None, Span | None]:
    """The two ends of a key: ``A``, ``A-``, ``-B`` or ``A-B``; None is an open end.

    Raises:
        NoMoment: the text is neither a value nor a range of them.
    """
    try:
        single = span(vr, text)
    except NoMoment:
        return _range(vr, text)
    return single, single


def _range(vr: str, text: str) -> tuple[Span | None, Span | None]:
    for at, char in enumerate(text):
        if char != "-":
            continue
        first, last = text[:at].strip(), text[at + 1 :].strip()
        try:
            ends = (span(vr, first) if first else None, span(vr, last) if last else None)
        except NoMoment:
            continue  # this hyphen belongs to an offset from UTC
        if ends != (None, None):
            return ends
    raise NoMoment("not a range")


__all__ = ["NoMoment", "Span", "canonical", "date", "date_time", "interval", "span", "time"]

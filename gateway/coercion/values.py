"""Whether a text may be the value of an attribute: value representation (PS3.5 6.2) and multiplicity (PS3.6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from struct import error as struct_error

from pydicom.datadict import dictionary_VM

from gateway.dicom.attributes import STRING_VRS, Element, element_of
from gateway.dicom.charset import UTF8
from gateway.dicom.tags import keyword_of, vr_of

_SINGLE = frozenset({"LT", "ST", "UR", "UT"})  # a backslash is a character here (PS3.5 6.4)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_PATTERNS = {
    "AE": (r"[ -\[\]-~]{1,16}", "up to 16 printable ASCII characters"),
    "AS": (r"\d{3}[DWMY]", "an age such as 034Y"),
    "CS": (r"[A-Z0-9 _]{1,16}", "up to 16 of A-Z 0-9 space _"),
    "DS": (r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", "a decimal number"),
    "DT": (r"\d{4}(\d\d(\d\d(\d\d(\d\d(\d\d(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})? *", "a date and time"),
    "IS": (r" *[+-]?\d{1,10} *", "a whole number"),
    "TM": (r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)? *", "a time such as 142530"),
    "UI": (r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", "a UID"),
}


class InvalidValue(ValueError):
    """A text that the attribute may not have; says the attribute and the rule, never the text."""


def checked(tag: int, text: str) -> Element:
    """The element for a text, in ISO_IR 192.

    Raises:
        InvalidValue: not a value of the attribute's VR, or not as many values as it may have.
    """
    vr, name = vr_of(tag), keyword_of(tag)
    singles = [text] if vr in _SINGLE or not text else text.split("\\")
    if text:
        _check_multiplicity(tag, len(singles))
    for one in singles:
        if one and (problem := _problem(vr, one)):
            raise InvalidValue(f"{name} must be {problem}")
    try:
        return element_of(tag, text, (UTF8,))
    except (ValueError, ArithmeticError, struct_error) as error:
        raise InvalidValue(f"{name} ({vr}) cannot be written from this text") from error


def multiplicity(tag: int) -> tuple[int, int | None, int]:
    """Least and greatest number of values, and the step between; no greatest for ``1-n``."""
    try:
        text = dictionary_VM(tag)
    except KeyError:
        return 1, None, 1
    least, _, most = text.partition("-")
    if not most:
        return int(least), int(least), 1
    if most.endswith("n"):
        return int(least), None, int(most[:-1] or 1)
    return int(least), int(most), 1


def _check_multiplicity(tag: int, count: int) -> None:
    least, most, step = multiplicity(tag)
    if count < least or (most is not None and count > most) or (most is None and count % step):
        wanted = str(least) if least == most else f"{least}-{'n' if most is None else most}"
        raise InvalidValue(f"{keyword_of(tag)} takes {wanted} values, not {count}")


def _problem(vr: str, text: str) -> str:
    """What a value of this VR must be, if the text is not; else empty."""
    if vr in _PATTERNS:
        pattern, words = _PATTERNS[vr]
        return "" if _compiled(pattern).fullmatch(text) and len(text) <= _LIMITS.get(vr, 1 << 30) else words
    check = _CHECKS.get(vr)
    return check(text) if check else ""


_LIMITS = {"AE": 16, "DS": 16, "DT": 26, "IS": 12, "TM": 14, "UI": 64}


@lru_cache(maxsize=32)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _date(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        return "a date such as 20240131"
    return "" if len(text) == 8 and text.isascii() and text.isdigit() else "a date such as 20240131"


def _person_name(text: str) -> str:
    groups = text.split("=")
    if len(groups) > 3 or any(len(group) > 64 or group.count("^") > 4 for group in groups):
        return "up to three groups of at most 64 characters and five components"
    return "without control characters" if _CONTROL.search(text) else ""


def _text(limit: int, control: re.Pattern[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        return (
            f"at most {limit} characters without control characters"
            if (len(text) > limit or control.search(text))
            else ""
        )

    return check


_CHECKS: dict[str, Callable[[str], str]] = {
    "DA": _date,
    "PN": _person_name,
    "LO": _text(64, _CONTROL),
    "SH": _text(16, _CONTROL),
    "ST": _text(1024, _CONTROL_IN_TEXT),
    "LT": _text(10240, _CONTROL_IN_TEXT),
}


def settable(tag: int) -> bool:
    """Whether a text can be the attribute's value at all."""
    return vr_of(tag) in STRING_VRS or vr_of(tag) in {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"}

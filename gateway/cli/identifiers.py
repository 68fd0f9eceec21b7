"""Query keys on a command line, and answers as tables and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import typer

from gateway.dicom import tags
from gateway.dicom.attributes import STRING_VRS, Attributes
from gateway.dicom.encoding import Element
from gateway.dicom.models import Level
from gateway.dicom.tags import keyword_of, tag_of, vr_of

_TAG = re.compile(r"\(?([0-9a-fA-F]{4}),?([0-9a-fA-F]{4})\)?")

DEFAULT_KEYS = {
    Level.PATIENT: ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        "PatientName", "PatientID", "StudyDate", "AccessionNumber", "StudyDescription", "ModalitiesInStudy",
        "StudyInstanceUID",
    ),
    Level.SERIES: ("Modality", "SeriesNumber", "SeriesDescription", "SeriesInstanceUID"),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}  # fmt: skip
"""What is asked for when the user names no return keys."""


def parse_level(text: str) -> Level:
    """A Query/Retrieve Level, in any case; dcm4che's name INSTANCE is IMAGE.

    Raises:
        typer.BadParameter: there is no such level.
    """
    name = {"INSTANCE": "IMAGE"}.get(text.upper(), text.upper())
    if name not in Level.__members__:
        raise typer.BadParameter(f"'{text}' is not one of {', '.join(Level.__members__)}", param_hint="-L")
    return Level[name]


def parse_key(text: str, option: str) -> tuple[str, str]:
    """``PatientName=DOE*`` or ``0010,0010=DOE*`` as keyword and value; without ``=`` the value is empty.

    Raises:
        typer.BadParameter: no such attribute, or one that cannot be written as text.
    """
    name, _, value = text.partition("=")
    match = _TAG.fullmatch(name.strip())
    keyword = keyword_of(int(match[1] + match[2], 16)) if match else name.strip()
    try:
        tag = tag_of(keyword)
    except KeyError as error:
        raise typer.BadParameter(f"'{name}' is no attribute's keyword or tag", param_hint=option) from error
    if value and vr_of(tag) not in STRING_VRS:
        raise typer.BadParameter(f"{keyword} is no text to match", param_hint=option)
    return keyword, value


def identifier(level: Level, matches: Sequence[tuple[str, str]], returns: Iterable[str]) -> Attributes:
    """The C-FIND identifier: the keys to match, and empty ones for what shall be returned besides."""
    values = dict.fromkeys(returns, "") | dict(matches)
    texts = {keyword: value for keyword, value in values.items() if vr_of(tag_of(keyword)) in STRING_VRS}
    empty = {tag_of(keyword): Element(vr_of(tag_of(keyword)), b"") for keyword in values if keyword not in texts}
    made = Attributes.of({**texts, "QueryRetrieveLevel": level.name})
    return Attributes({**made, **empty})


def document(attributes: Attributes) -> dict[str, object]:
    """Attributes for JSON: by keyword, a text, a list of several, numbers, or items of a sequence."""
    return {keyword_of(tag): _value(attributes, tag) for tag in attributes if tag != tags.SpecificCharacterSet}


def _value(attributes: Attributes, tag: int) -> object:
    vr = attributes[tag].vr
    if vr == "SQ":
        return [document(item) for item in attributes.sequence(tag)]
    values: Sequence[object] = attributes.texts(tag) if vr in STRING_VRS else attributes.numbers(tag)
    return values[0] if len(values) == 1 else list(values) if values else ""


def cell(attributes: Attributes, keyword: str) -> str:
    """One attribute for a table."""
    tag = tag_of(keyword)
    if tag not in attributes:
        return ""
    value = _value(attributes, tag)
    return "\\".join(str(one) for one in value) if isinstance(value, list) else str(value)

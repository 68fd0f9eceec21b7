"""Queries made out of queries: the same question put to another archive, another level or other UIDs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes, Element, element_of
from gateway.dicom.charset import UTF8
from gateway.dicom.identifier import Query
from gateway.dicom.models import COMPUTED_ATTRIBUTES, LEADING_ATTRIBUTES, Level, Model, level_of
from gateway.dicom.tags import tag_of, vr_of

_CORE = {
    tag: Element(vr_of(tag), b"")
    for tag in (
        *(tags.PatientName, tags.PatientID, tag_of("IssuerOfPatientID"), tag_of("PatientBirthDate")),
        *(tag_of("PatientSex"), tags.AccessionNumber, tags.StudyDate, tags.StudyTime, tags.StudyID),
        *(tag_of("StudyDescription"), tag_of("ReferringPhysicianName")),
    )
}


def keyed(query: Query, level: Level, uids: Sequence[str]) -> Query:
    """The query for certain unique keys of a level."""
    element = element_of(level.unique_key, "\\".join(uids), ())
    return _with_keys(query, Attributes({**query.keys, level.unique_key: element}), query.level)


def returning(query: Query, level: Level, uids: Sequence[str]) -> Query:
    """The same return keys, but matched by nothing except unique keys of a level: what do you know of these?"""
    return keyed(_with_keys(query, blank(query.keys, query.keys), query.level), level, uids)


def without_upper(query: Query) -> Query:
    """The query without restrictions by patient and study attributes, other than Study Instance UID."""
    upper = [tag for tag in query.keys if level_of(tag) <= Level.STUDY and tag != tags.StudyInstanceUID]
    return _with_keys(query, blank(query.keys, upper), query.level)


def studies_of(query: Query) -> Query:
    """The STUDY level query for the studies under which a query's entities are."""
    kept = [tag for tag in query.keys if level_of(tag) <= Level.STUDY]
    if query.level is Level.PATIENT:
        kept = [tag for tag in kept if level_of(tag) is Level.PATIENT]
    keys = query.keys.only([*kept, tags.SpecificCharacterSet])
    unique = {tag: Element(vr_of(tag), b"") for tag in (tags.PatientID, tags.StudyInstanceUID)}
    return _with_keys(query, Attributes({**unique, **keys}), Level.STUDY)


def for_leading(query: Query) -> Query:
    """What a leading archive is asked: Study Root, in UTF-8, matched by what it is the authority for.

    Computed attributes become mere return keys, since the counts and modalities of a study that is here are ours; so
    do keys below the level. A date and a time are matched apart unless the archive negotiates otherwise, which may
    give fewer answers than taken together: in that case the time becomes a return key too. Who and what a study is,
    is always asked for, so that it is known when the archive cannot be asked any more.
    """
    loose = [tag for tag in query.keys if tag in COMPUTED_ATTRIBUTES or level_of(tag) > query.level]
    if query.negotiated.combined_datetime:
        loose += [tag for tag in query.keys if vr_of(tag) == "TM"]
    keys = blank(query.keys, loose)
    if query.level is Level.STUDY:
        keys = Attributes({**_CORE, **keys})
    if not keys.is_ascii():
        keys = keys.in_charset((UTF8,))
    return Query(Model.STUDY_ROOT, query.level, keys.without([tags.SpecificCharacterSet] if keys.is_ascii() else []))


def asks_leading(query: Query) -> bool:
    """Whether a query's answer depends on a patient or study attribute other than Study Instance UID."""
    return any(tag in LEADING_ATTRIBUTES and tag != tags.StudyInstanceUID for tag in query.keys)


def restricts_upper(query: Query) -> bool:
    """Whether a patient or study key of the query has a value."""
    return any(level_of(tag) <= Level.STUDY and query.keys[tag].value.strip(b" \0*") for tag in query.keys)


def blank(keys: Attributes, chosen: Iterable[int]) -> Attributes:
    """Keys with the chosen ones made return keys: a sequence keeps the shape of its item."""
    blanked = {
        tag: Element(keys[tag].vr, _blank_value(keys, tag)) for tag in chosen if tag != tags.SpecificCharacterSet
    }
    return Attributes({**keys, **blanked})


def _blank_value(keys: Attributes, tag: int) -> bytes:
    if keys[tag].vr != "SQ":
        return b""
    return b"".join(_blank_item(item) for item in keys.sequence(tag))


def _blank_item(item: Attributes) -> bytes:
    body = blank(item, item).without([tags.SpecificCharacterSet]).encode(implicit=False)
    return b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body


def _with_keys(query: Query, keys: Attributes, level: Level) -> Query:
    return Query(Model.STUDY_ROOT, level, keys, replace(query.negotiated, relational=True))

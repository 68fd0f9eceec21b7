"""Asking a source, in a test's few words."""

from __future__ import annotations

from gateway.dicom import tags
from gateway.dicom.attributes import Attributes
from gateway.dicom.identifier import Negotiated, Query, parse_query
from gateway.dicom.models import Level, Model
from gateway.query.ports import QuerySource, Request
from tests.query.doubles import CALLER


def query(
    level: Level = Level.STUDY,
    model: Model = Model.STUDY_ROOT,
    negotiated: Negotiated | None = None,
    terms: tuple[str, ...] = (),
    **keys: str,
) -> Query:
    """A query as it comes from the wire; lenient, as relational queries are."""
    unique = {Level.PATIENT: "PatientID", Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID"}
    identifier = Attributes.of(
        {"QueryRetrieveLevel": level.name, unique.get(level, "SOPInstanceUID"): "", **keys}, terms=terms
    )
    return parse_query(identifier, model, negotiated or Negotiated(), lenient=True)


def ask(source: QuerySource, asked: Query) -> list[Attributes]:
    return list(source.find(Request(asked, CALLER)))


def uids(answers: list[Attributes], level: Level = Level.STUDY) -> list[str]:
    """The unique keys of answers, sorted."""
    return sorted(one.text(level.unique_key) for one in answers)


def patient(answers: list[Attributes]) -> list[tuple[str, str]]:
    """Patient ID and name of answers, sorted."""
    return sorted((one.text(tags.PatientID), one.text(tags.PatientName)) for one in answers)

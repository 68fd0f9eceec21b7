"""Audit messages have the form and the codes of PS3.15 A.5."""

import base64
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from pydicom.sr._concepts_dict import concepts

from gateway.audit.messages import Action, Code, Event, Outcome, Participant, QueryObject, Study, to_xml

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("code", Code)
def test_codes_are_those_of_the_standard(code: Code) -> None:
    dcm: Any = concepts["DCM"]
    meanings = {value: name for entry in dcm.values() for value, (name, _) in entry.items()}
    value, meaning = code.value
    assert meanings[value] == meaning


def test_a_transfer() -> None:
    event = Event(
        Code.INSTANCES_TRANSFERRED, Action.READ, Outcome.SUCCESS, WHEN,
        [
            Participant("GATEWAY", role=Code.SOURCE),
            Participant("VIEWER", "192.0.2.1", Code.DESTINATION, is_requestor=True),
        ],
        studies=[Study("1.2.3", {"1.2.840.10008.5.1.4.1.1.2": 5})], patients=["P<1>&"],
    )  # fmt: skip
    data = to_xml(event, "GATEWAY", "Hospital")
    assert b"\n" not in data
    root = fromstring(data)
    identification = root.find("EventIdentification")
    assert identification is not None
    assert identification.attrib == {
        "EventActionCode": "R", "EventDateTime": "2026-01-02T03:04:05.000+00:00", "EventOutcomeIndicator": "0",
    }  # fmt: skip
    code = identification.find("EventID")
    assert code is not None
    assert code.attrib == {
        "csd-code": "110104", "codeSystemName": "DCM", "originalText": "DICOM Instances Transferred",
    }  # fmt: skip
    source, destination = root.findall("ActiveParticipant")
    assert source.get("UserIsRequestor") == "false"
    assert destination.get("NetworkAccessPointID") == "192.0.2.1"
    assert destination.get("NetworkAccessPointTypeCode") == "2"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.3"
    assert [one.attrib for one in study.iter("SOPClass")] == [
        {"UID": "1.2.840.10008.5.1.4.1.1.2", "NumberOfInstances": "5"}
    ]
    assert patient.get("ParticipantObjectID") == "P<1>&"
    origin = root.find("AuditSourceIdentification")
    assert origin is not None
    assert origin.get("AuditSourceID") == "GATEWAY"
    assert origin.get("AuditEnterpriseSiteID") == "Hospital"


def test_a_query_carries_its_identifier() -> None:
    event = Event(
        Code.QUERY, Action.EXECUTE, Outcome.SUCCESS, WHEN, [], query=QueryObject("1.2", b"\x08\x00", "1.2.840")
    )
    query = fromstring(to_xml(event, "G")).find("ParticipantObjectIdentification/ParticipantObjectQuery")
    assert query is not None
    assert base64.b64decode(query.text or "") == b"\x08\x00"


def test_a_title_of_control_characters_stays_xml() -> None:
    event = Event(
        Code.SECURITY_ALERT, Action.EXECUTE, Outcome.MINOR_FAILURE, WHEN, [Participant("\x00\x1b<x>\n\ud800")]
    )
    assert fromstring(to_xml(event, "G")) is not None

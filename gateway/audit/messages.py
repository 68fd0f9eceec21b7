"""Audit messages as values, and their XML (PS3.15 A.5.1 to A.5.3)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from ipaddress import ip_address
from xml.etree.ElementTree import Element, SubElement, tostring


class Code(Enum):
    """Concepts of the audit messages (PS3.16 CID 400, 401, 402, 405): code value and meaning, all of scheme DCM."""

    APPLICATION_ACTIVITY = ("110100", "Application Activity")
    INSTANCES_TRANSFERRED = ("110104", "DICOM Instances Transferred")
    STUDY_DELETED = ("110105", "DICOM Study Deleted")
    QUERY = ("110112", "Query")
    SECURITY_ALERT = ("110113", "Security Alert")
    USER_AUTHENTICATION = ("110114", "User Authentication")
    APPLICATION_START = ("110120", "Application Start")
    APPLICATION_STOP = ("110121", "Application Stop")
    LOGIN = ("110122", "Login")
    NODE_AUTHENTICATION = ("110126", "Node Authentication")
    SOFTWARE_CONFIGURATION = ("110131", "Software Configuration")
    APPLICATION = ("110150", "Application")
    DESTINATION = ("110152", "Destination Role ID")
    SOURCE = ("110153", "Source Role ID")
    STUDY_UID = ("110180", "Study Instance UID")
    SOP_CLASS_UID = ("110181", "SOP Class UID")


class Action(Enum):
    """Event Action Code."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """Event Outcome Indicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True)
class Participant:
    """An active participant: an application entity or a user.

    Attributes:
        address: its network address, where known.
        role: source or destination of what was transferred or asked.
        is_person: a user of the operating system; ``aet`` is the name then.
    """

    aet: str
    address: str = ""
    role: Code | None = None
    is_requestor: bool = False
    is_person: bool = False


@dataclass(frozen=True)
class Study:
    """A study as the object of an event.

    Attributes:
        instances: by SOP class, how many.
    """

    uid: str
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class QueryObject:
    """The query of a Query message: its SOP class, and the identifier as it was encoded."""

    sop_class_uid: str
    identifier: bytes
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Event:
    """One audit message."""

    code: Code
    action: Action
    outcome: Outcome
    when: datetime
    participants: Sequence[Participant]
    type: Code | None = None
    studies: Sequence[Study] = ()
    patients: Sequence[str] = ()
    query: QueryObject | None = None
    subject: str = ""
    """What a security alert is about, in words."""


def to_xml(event: Event, source: str, site: str = "") -> bytes:
    """The message as PS3.15 A.5.1 has it, on one line.

    Args:
        source: Audit Source ID, which names this system at this site.
        site: Audit Enterprise Site ID.
    """
    root = Element("AuditMessage")
    identification = SubElement(
        root, "EventIdentification", EventActionCode=event.action.value,
        EventDateTime=event.when.isoformat(timespec="milliseconds"), EventOutcomeIndicator=str(int(event.outcome)),
    )  # fmt: skip
    _code(identification, "EventID", event.code)
    if event.type:
        _code(identification, "EventTypeCode", event.type)
    for participant in event.participants:
        _participant(root, participant)
    origin = SubElement(root, "AuditSourceIdentification", AuditSourceID=source)
    if site:
        origin.set("AuditEnterpriseSiteID", site)
    SubElement(origin, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server process (A.5.2)
    for study in event.studies:
        _study(root, study)
    for patient in event.patients:
        found = _object(root, patient, kind="1", role="1")
        attributes = {"csd-code": "2", "codeSystemName": "RFC-3881", "originalText": "Patient Number"}
        SubElement(found, "ParticipantObjectIDTypeCode", attributes)
        SubElement(found, "ParticipantObjectName").text = patient
    if event.query:
        _query(root, event.query)
    if event.subject:
        _alert(root, event.subject)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return written


def _code(parent: Element, name: str, code: Code) -> None:
    value, meaning = code.value
    SubElement(parent, name, {"csd-code": value, "codeSystemName": "DCM", "originalText": meaning})


def _participant(root: Element, participant: Participant) -> None:
    requestor = str(participant.is_requestor).lower()
    found = SubElement(root, "ActiveParticipant", UserID=_text(participant.aet) or "unknown", UserIsRequestor=requestor)
    if not participant.is_person:
        found.set("AlternativeUserID", f"AETITLES={_text(participant.aet)}")
    if participant.address:
        found.set("NetworkAccessPointID", _text(participant.address))
        found.set("NetworkAccessPointTypeCode", "2" if _is_address(participant.address) else "1")
    if participant.role:
        _code(found, "RoleIDCode", participant.role)


def _object(root: Element, uid: str, *, kind: str, role: str) -> Element:
    return SubElement(
        root, "ParticipantObjectIdentification", ParticipantObjectID=_text(uid), ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )  # fmt: skip


def _study(root: Element, study: Study) -> None:
    found = _object(root, study.uid, kind="2", role="3")
    _code(found, "ParticipantObjectIDTypeCode", Code.STUDY_UID)
    SubElement(found, "ParticipantObjectName").text = _text(study.uid)
    for sop_class, count in sorted(study.instances.items()):
        SubElement(found, "SOPClass", UID=_text(sop_class), NumberOfInstances=str(count))


def _query(root: Element, query: QueryObject) -> None:
    found = _object(root, query.sop_class_uid, kind="2", role="3")
    _code(found, "ParticipantObjectIDTypeCode", Code.SOP_CLASS_UID)
    SubElement(found, "ParticipantObjectQuery").text = base64.b64encode(query.identifier).decode()
    syntax = base64.b64encode(query.transfer_syntax_uid.encode()).decode()
    SubElement(found, "ParticipantObjectDetail", type="TransferSyntax", value=syntax)


def _alert(root: Element, subject: str) -> None:
    found = _object(root, "dicom-gateway", kind="2", role="13")
    attributes = {"csd-code": "12", "codeSystemName": "RFC-3881", "originalText": "URI"}
    SubElement(found, "ParticipantObjectIDTypeCode", attributes)
    described = base64.b64encode(subject.encode()).decode()
    SubElement(found, "ParticipantObjectDetail", type="Alert Description", value=described)


def _text(value: str) -> str:
    """What XML 1.0 can carry; a peer's AE title may hold anything."""
    return "".join(char if char.isprintable() else "?" for char in value)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

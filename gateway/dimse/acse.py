"""A-ASSOCIATE PDUs between bytes and values, in pynetdicom's words.

The only module that imports pynetdicom. Its PDU and item classes are used, not its primitives or its state machine:
the primitives refuse even context IDs, which real peers send (dcm4che's stgcmtscu), and cost ten times as much. What
the item classes cannot take, unknown item types that PS3.8 9.3.1 wants ignored and lengths that do not add up, is
sorted out before they see it.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import (
    AbstractSyntaxSubItem,
    ApplicationContextItem,
    AsynchronousOperationsWindowSubItem,
    ImplementationClassUIDSubItem,
    ImplementationVersionNameSubItem,
    MaximumLengthSubItem,
    PresentationContextItemAC,
    PresentationContextItemRQ,
    SCP_SCU_RoleSelectionSubItem,
    SOPClassExtendedNegotiationSubItem,
    TransferSyntaxSubItem,
    UserIdentitySubItemAC,
    UserIdentitySubItemRQ,
    UserInformationItem,
)

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dimse.negotiation import (
    Answered,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Proposed,
    Role,
    UserIdentity,
)
from gateway.dimse.pdu import AbortReason, ProtocolError

# pynetdicom logs a traceback with the peer's bytes for each text that is not ASCII; we raise ProtocolError instead.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

_FIXED = 74  # header, protocol version, AE titles, reserved bytes (PS3.8 Tables 9-11 and 9-17)
_ITEM = struct.Struct(">BxH")
_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _USER_INFORMATION = 0x10, 0x20, 0x21, 0x50
_IMPLEMENTATION, _ROLE, _VERSION_NAME, _EXTENDED = 0x52, 0x54, 0x55, 0x56
_USER_ITEMS = frozenset({0x51, 0x53, 0x58, 0x59})
_UID = re.compile(rb"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_NO_UID = b"2.25.0"
"""Stands for what is no UID: of the right form and nobody's, so that its context is rejected and the rest goes on."""
_FAULTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, struct.error)


def decode_request(data: bytes) -> AssociateRequest:
    """Read an A-ASSOCIATE-RQ.

    Raises:
        ProtocolError: it cannot be read.
    """
    pdu = A_ASSOCIATE_RQ()
    try:
        # An AE title of an unknown peer may hold anything; policy refuses it, the codec does not.
        pdu.decode(_titles_made_printable(data[:_FIXED]) + _known_items(data[_FIXED:]))
        user = _user_data(pdu)
        identity = next((item for item in user if isinstance(item, UserIdentitySubItemRQ)), None)
        return AssociateRequest(
            calling=pdu.calling_ae_title.strip(),
            called=pdu.called_ae_title.strip(),
            contexts=tuple(_proposed(item) for item in pdu.presentation_context),
            max_length=_max_length(user),
            application_context=str(pdu.application_context_name or ""),
            protocol_version=pdu.protocol_version,
            roles=_roles(user),
            extended=_extended(user),
            window=_window(user),
            identity=_identity(identity) if identity else None,
            implementation_version=_version(user),
        )
    except _FAULTS as fault:
        raise ProtocolError("A-ASSOCIATE-RQ cannot be read", AbortReason.INVALID_PARAMETER) from fault


def decode_accept(data: bytes) -> AssociateAccept:
    """Read an A-ASSOCIATE-AC.

    Raises:
        ProtocolError: it cannot be read.
    """
    pdu = A_ASSOCIATE_AC()
    try:
        # The AE titles of an AC are reserved and not to be tested (PS3.8 Table 9-17).
        pdu.decode(_titles_made_printable(data[:_FIXED]) + _known_items(data[_FIXED:]))
        user = _user_data(pdu)
        return AssociateAccept(
            contexts=tuple(
                Answered(item.context_id or 0, -1 if item.result is None else item.result, str(item.transfer_syntax))
                for item in pdu.presentation_context
            ),
            max_length=_max_length(user),
            roles=_roles(user),
            extended=_extended(user),
            window=_window(user),
            identity_confirmed=any(isinstance(item, UserIdentitySubItemAC) for item in user),
            implementation_version=_version(user),
        )
    except _FAULTS as fault:
        raise ProtocolError("A-ASSOCIATE-AC cannot be read", AbortReason.INVALID_PARAMETER) from fault


def decode_reject(data: bytes) -> AssociateReject:
    """Read an A-ASSOCIATE-RJ."""
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(data)
    return AssociateReject(pdu.result or 0, pdu.source or 0, pdu.reason_diagnostic or 0)


def encode_request(request: AssociateRequest) -> bytes:
    """Write an A-ASSOCIATE-RQ."""
    pdu = A_ASSOCIATE_RQ()
    pdu.calling_ae_title, pdu.called_ae_title = request.calling, request.called
    contexts = [_context_rq(context) for context in request.contexts]
    user = [*_user_items(request.max_length, request.window, request.roles.items(), request.extended.items())]
    if request.identity:
        user.append(_identity_item(request.identity))
    pdu.variable_items = [_application_context(), *contexts, _user_information(user)]
    return bytes(pdu.encode())


def encode_accept(accept: AssociateAccept, request: AssociateRequest) -> bytes:
    """Write an A-ASSOCIATE-AC; the request's AE titles come back as they were (PS3.8 9.3.3)."""
    pdu = A_ASSOCIATE_AC()
    pdu.reserved_aet, pdu.reserved_aec = request.called, request.calling
    contexts = [_context_ac(context) for context in accept.contexts]
    user = [*_user_items(accept.max_length, accept.window, accept.roles.items(), accept.extended.items())]
    if accept.identity_confirmed:
        confirmed = UserIdentitySubItemAC()
        confirmed.server_response = b""
        user.append(confirmed)
    pdu.variable_items = [_application_context(), *contexts, _user_information(user)]
    return bytes(pdu.encode())


def encode_reject(reject: AssociateReject) -> bytes:
    """Write an A-ASSOCIATE-RJ."""
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = reject.result, reject.source, reject.reason
    return bytes(pdu.encode())


def _titles_made_printable(fixed: bytes) -> bytes:
    if len(fixed) < _FIXED:
        raise ValueError("truncated")
    titles = bytes(byte if 0x20 <= byte < 0x7F and byte != 0x5C else 0x3F for byte in fixed[10:42].replace(b"\0", b" "))
    called, calling = (title if title.strip() else b"?".ljust(16) for title in (titles[:16], titles[16:]))
    return fixed[:10] + called + calling + fixed[42:]


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    pos = 0
    while pos < len(data):
        item_type, length = _ITEM.unpack_from(data, pos)
        end = pos + 4 + length
        if end > len(data):
            raise ValueError("item runs past the end")
        yield item_type, data[pos:end]
        pos = end


def _known_items(data: bytes) -> bytes:
    parts = []
    for item_type, item in _split(data):
        if item_type == _USER_INFORMATION:
            known = b"".join(sub for sub_type, sub in _split(item[4:]) if _is_usable(sub_type, sub))
            parts.append(_ITEM.pack(item_type, len(known)) + known)
        elif item_type in {_CONTEXT_RQ, _CONTEXT_AC}:
            inner = b"".join(_with_uid(sub_type, sub[4:]) for sub_type, sub in _split(item[8:]))
            parts.append(_ITEM.pack(item_type, 4 + len(inner)) + item[4:8] + inner)
        elif item_type == _APPLICATION:
            parts.append(_with_uid(item_type, item[4:]))
    return b"".join(parts)


def _with_uid(item_type: int, value: bytes) -> bytes:
    """An item whose value is a UID; pydicom would warn of a bad one, with the peer's bytes in the text."""
    uid = value.rstrip(b"\0 ")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        uid = _NO_UID
    return _ITEM.pack(item_type, len(uid)) + uid


def _is_usable(item_type: int, item: bytes) -> bool:
    if item_type == _IMPLEMENTATION:
        return _UID.fullmatch(item[4:].rstrip(b"\0 ")) is not None
    if item_type in {_ROLE, _EXTENDED}:
        length = int.from_bytes(item[4:6], "big")
        return _UID.fullmatch(item[6 : 6 + length].rstrip(b"\0 ")) is not None
    if item_type == _VERSION_NAME:
        return 1 <= len(item) - 4 <= 16 and item[4:].isascii() and item[4:].decode().isprintable()
    return item_type in _USER_ITEMS


def _user_data(pdu: Any) -> list[Any]:
    information = pdu.user_information
    return list(information.user_data) if information else []


def _proposed(item: Any) -> Proposed:
    syntaxes = tuple(str(uid).strip("\0 ") for uid in item.transfer_syntax)
    return Proposed(item.context_id, str(item.abstract_syntax or "").strip("\0 "), syntaxes)


def _max_length(user: list[Any]) -> int:
    items = (item for item in user if isinstance(item, MaximumLengthSubItem))
    return next((item.maximum_length_received or 0 for item in items), 0)


def _roles(user: list[Any]) -> dict[str, Role]:
    items = (item for item in user if isinstance(item, SCP_SCU_RoleSelectionSubItem))
    return {str(item.uid): Role(scu=item.scu == 1, scp=item.scp == 1) for item in items}


def _extended(user: list[Any]) -> dict[str, bytes]:
    items = (item for item in user if isinstance(item, SOPClassExtendedNegotiationSubItem))
    return {str(item.uid): item.app_info or b"" for item in items}


def _window(user: list[Any]) -> tuple[int, int] | None:
    items = (item for item in user if isinstance(item, AsynchronousOperationsWindowSubItem))
    return next(((item.max_operations_invoked or 0, item.max_operations_performed or 0) for item in items), None)


def _version(user: list[Any]) -> str:
    items = (item for item in user if isinstance(item, ImplementationVersionNameSubItem))
    return next((str(item.implementation_version_name or "") for item in items), "")


def _identity(item: Any) -> UserIdentity:
    return UserIdentity(item.id_type or 0, bool(item.response_requested), item.primary or b"", item.secondary or b"")


def _application_context() -> Any:
    return ApplicationContextItem()  # its default is the DICOM Application Context


def _transfer_syntax(uid: str) -> Any:
    item = TransferSyntaxSubItem()
    item.transfer_syntax_name = uid
    return item


def _context_rq(context: Proposed) -> Any:
    abstract = AbstractSyntaxSubItem()
    abstract.abstract_syntax_name = context.abstract_syntax
    item = PresentationContextItemRQ()
    item.presentation_context_id = context.id
    item.abstract_transfer_syntax_sub_items = [abstract, *map(_transfer_syntax, context.transfer_syntaxes)]
    return item


def _context_ac(context: Answered) -> Any:
    item = PresentationContextItemAC()
    item.presentation_context_id = context.id
    item.result_reason = context.result
    item.transfer_syntax_sub_item = [_transfer_syntax(context.transfer_syntax)]
    return item


def _user_items(
    max_length: int,
    window: tuple[int, int] | None,
    roles: Iterable[tuple[str, Role]],
    extended: Iterable[tuple[str, bytes]],
) -> Iterator[Any]:
    maximum = MaximumLengthSubItem()
    maximum.maximum_length_received = max_length
    implementation = ImplementationClassUIDSubItem()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    yield from (maximum, implementation)
    if window is not None:
        asynchronous = AsynchronousOperationsWindowSubItem()
        asynchronous.maximum_number_operations_invoked, asynchronous.maximum_number_operations_performed = window
        yield asynchronous
    for uid, role in roles:
        selection = SCP_SCU_RoleSelectionSubItem()
        selection.sop_class_uid, selection.scu_role, selection.scp_role = uid, int(role.scu), int(role.scp)
        yield selection
    version = ImplementationVersionNameSubItem()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    yield version
    for uid, information in extended:
        extension = SOPClassExtendedNegotiationSubItem()
        extension.sop_class_uid, extension.service_class_application_information = uid, information
        yield extension


def _identity_item(identity: UserIdentity) -> Any:
    item = UserIdentitySubItemRQ()
    item.user_identity_type = identity.type
    item.positive_response_requested = int(identity.response_requested)
    item.primary_field, item.secondary_field = identity.primary, identity.secondary
    return item


def _user_information(items: list[Any]) -> Any:
    information = UserInformationItem()
    information.user_data = items
    return information

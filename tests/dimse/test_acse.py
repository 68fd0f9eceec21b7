"""A-ASSOCIATE PDUs: the names of pynetdicom relied on, what its primitives make of them, and what peers really send."""

from __future__ import annotations

import inspect
import logging
from struct import pack, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as their_pdu
from pynetdicom import pdu_items, pdu_primitives
from pynetdicom.presentation import PresentationContext, build_context, build_role, negotiate_as_acceptor

from gateway.dicom.identifier import Negotiated
from gateway.dimse import acse
from gateway.dimse.negotiation import (
    Accepted,
    Answered,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Offer,
    Proposed,
    Role,
    UserIdentity,
    decide,
    negotiated,
    preflight,
    propose,
    query_extension,
    usable_contexts,
)
from gateway.dimse.pdu import ProtocolError

FIND, CT = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
SYNTAXES = [IMPLICIT, EXPLICIT, JPEG]
FULL = AssociateRequest(
    "ME",
    "YOU",
    (Proposed(1, FIND, (EXPLICIT, IMPLICIT)), Proposed(3, CT, (JPEG,))),
    65536,
    roles={CT: Role(scu=False, scp=True)},
    extended={FIND: b"\1\0\1"},
    window=(0, 0),
    identity=UserIdentity(2, response_requested=True, primary=b"user", secondary=b"word"),
)

# Contracts: each name of pynetdicom that acse relies on, and how it behaves.


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("ApplicationContextItem", ["application_context_name"]),
        ("PresentationContextItemRQ", ["context_id", "abstract_syntax", "transfer_syntax"]),
        ("PresentationContextItemAC", ["context_id", "result", "transfer_syntax"]),
        ("UserInformationItem", ["user_data"]),
        ("MaximumLengthSubItem", ["maximum_length_received"]),
        ("ImplementationClassUIDSubItem", ["implementation_class_uid"]),
        ("ImplementationVersionNameSubItem", ["implementation_version_name"]),
        ("AsynchronousOperationsWindowSubItem", ["max_operations_invoked", "max_operations_performed"]),
        ("SCP_SCU_RoleSelectionSubItem", ["uid", "scu", "scp", "sop_class_uid", "scu_role", "scp_role"]),
        ("SOPClassExtendedNegotiationSubItem", ["uid", "app_info", "sop_class_uid"]),
        ("UserIdentitySubItemRQ", ["id_type", "response_requested", "primary", "secondary"]),
        ("UserIdentitySubItemAC", ["response"]),
        ("AbstractSyntaxSubItem", ["abstract_syntax_name"]),
        ("TransferSyntaxSubItem", ["transfer_syntax_name"]),
    ],
)
def test_item_classes_have_the_names_relied_on(name: str, attributes: list[str]) -> None:
    item = getattr(pdu_items, name)()
    for attribute in attributes:
        assert hasattr(item, attribute), attribute
    assert inspect.ismethod(item.encode)
    assert inspect.ismethod(item.decode)


@pytest.mark.parametrize("name", ["A_ASSOCIATE_RQ", "A_ASSOCIATE_AC", "A_ASSOCIATE_RJ"])
def test_pdu_classes_encode_and_decode(name: str) -> None:
    pdu = getattr(their_pdu, name)()
    assert inspect.ismethod(pdu.encode)
    assert inspect.ismethod(pdu.decode)


def test_every_pdu_comes_back_as_it_was() -> None:
    request = acse.decode_request(acse.encode_request(FULL))
    assert request == AssociateRequest(**{**FULL.__dict__, "implementation_version": request.implementation_version})
    accept = AssociateAccept(
        (Answered(1, 0, EXPLICIT), Answered(3, 4, JPEG)),
        131072,
        roles={CT: Role(scu=False, scp=True)},
        extended={FIND: b"\1\0\0"},
        window=(1, 1),
        identity_confirmed=True,
    )
    back = acse.decode_accept(acse.encode_accept(accept, FULL))
    assert back == AssociateAccept(**{**accept.__dict__, "implementation_version": back.implementation_version})
    reject = AssociateReject(1, 1, 7)
    assert acse.decode_reject(acse.encode_reject(reject)) == reject


# Differential: pynetdicom's own primitives read what we write.


def test_pynetdicom_reads_our_request() -> None:
    pdu = their_pdu.A_ASSOCIATE_RQ()
    pdu.decode(acse.encode_request(FULL))
    primitive = pdu.to_primitive()
    assert (primitive.calling_ae_title, primitive.called_ae_title) == ("ME", "YOU")
    assert primitive.maximum_length_received == 65536
    contexts = primitive.presentation_context_definition_list
    assert [(one.context_id, one.abstract_syntax, tuple(one.transfer_syntax)) for one in contexts] == [
        (one.id, one.abstract_syntax, one.transfer_syntaxes) for one in FULL.contexts
    ]
    kinds = {type(item) for item in primitive.user_information}
    assert pdu_primitives.UserIdentityNegotiation in kinds
    assert pdu_primitives.SCP_SCU_RoleSelectionNegotiation in kinds


def test_pynetdicom_reads_our_answer() -> None:
    accept = AssociateAccept((Answered(1, 0, EXPLICIT), Answered(3, 3, JPEG)), 131072, window=(1, 1))
    pdu = their_pdu.A_ASSOCIATE_AC()
    pdu.decode(acse.encode_accept(accept, FULL))
    contexts = pdu.to_primitive().presentation_context_definition_results_list
    assert [(one.context_id, one.result) for one in contexts] == [(1, 0), (3, 3)]


@given(
    proposed=st.lists(
        st.tuples(st.sampled_from([FIND, CT, "1.2.3"]), st.sets(st.sampled_from(SYNTAXES), min_size=1)),
        min_size=1,
        max_size=6,
    ),
    supported=st.dictionaries(
        st.sampled_from([FIND, CT]), st.lists(st.sampled_from([IMPLICIT, EXPLICIT, JPEG]), min_size=1, unique=True)
    ),
)  # fmt: skip
def test_contexts_are_decided_as_pynetdicom_decides(
    proposed: list[tuple[str, set[str]]], supported: dict[str, list[str]]
) -> None:
    contexts = tuple(Proposed(2 * at + 1, uid, tuple(sorted(ts))) for at, (uid, ts) in enumerate(proposed))
    request = AssociateRequest("A", "B", contexts, 0)
    accept, usable = decide(
        request,
        lambda uid: Offer(tuple(supported[uid])) if uid in supported else None,
        lambda _uid, _asked: None,
        max_length=0,
    )
    theirs: list[PresentationContext] = []
    for one in contexts:
        context = build_context(one.abstract_syntax, list(one.transfer_syntaxes))
        context.context_id = one.id
        theirs.append(context)
    expected, _ = negotiate_as_acceptor(theirs, [build_context(uid, list(ts)) for uid, ts in supported.items()])
    assert [(one.id, one.result) for one in accept.contexts] == [(one.context_id, one.result) for one in expected]
    assert {one.id: one.transfer_syntax for one in usable.values()} == {
        one.context_id: one.transfer_syntax[0] for one in expected if one.result == 0
    }


@pytest.mark.parametrize("asked", [None, (True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("ours", [(True, False), (False, True), (True, True)])
def test_roles_are_decided_as_pynetdicom_decides(asked: tuple[bool, bool] | None, ours: tuple[bool, bool]) -> None:
    """``ours`` is what we let the requestor be: SCU if we serve, SCP if we would use it."""
    roles = {} if asked is None else {CT: Role(*asked)}
    request = AssociateRequest("A", "B", (Proposed(1, CT, (EXPLICIT,)),), 0, roles=roles)
    offer = Offer((EXPLICIT,), scp=ours[0], scu=ours[1])
    accept, usable = decide(request, lambda _uid: offer, lambda _uid, _asked: None, max_length=0)
    context, supported = build_context(CT, [EXPLICIT]), build_context(CT, [EXPLICIT])
    context.context_id = 1
    supported.scu_role, supported.scp_role = ours
    expected, replies = negotiate_as_acceptor([context], [supported], {} if asked is None else {CT: asked})  # type: ignore[dict-item]
    if asked is None and not ours[0]:
        assert accept.contexts[0].result == 1  # pynetdicom falls back to the default roles; we are not an SCP here
        return
    assert accept.contexts[0].result == expected[0].result
    if expected[0].result == 0:
        assert usable[1] == Accepted(
            1, CT, EXPLICIT, as_scp=expected[0].as_scp is True, as_scu=expected[0].as_scu is True
        )
        assert {uid: (one.scu, one.scp) for uid, one in accept.roles.items()} == {
            str(one.sop_class_uid): (one.scu_role, one.scp_role) for one in replies
        }
    assert build_role(CT, scp_role=True).scp_role


# What peers really send.


def with_user_item(item_type: int, body: bytes) -> bytes:
    """Our request with a user information sub-item more."""
    data = acse.encode_request(AssociateRequest("A", "B", propose([(FIND, EXPLICIT)]), 16384))
    start = data.rindex(b"\x50\x00", 74)
    length = unpack_from(">H", data, start + 2)[0]
    item = pack(">BxH", item_type, len(body)) + body
    data = data[: start + 2] + pack(">H", length + len(item)) + data[start + 4 :] + item
    return data[:2] + pack(">L", len(data) - 6) + data[6:]


def test_items_of_unknown_types_are_ignored() -> None:
    assert acse.decode_request(with_user_item(0x7E, b"vendor")).max_length == 16384
    data = (
        acse.encode_request(AssociateRequest("A", "B", propose([(FIND, EXPLICIT)]), 16384))
        + pack(">BxH", 0x66, 2)
        + b"ab"
    )
    assert acse.decode_request(data[:2] + pack(">L", len(data) - 6) + data[6:]).max_length == 16384


def test_even_context_ids_are_survived_and_answered() -> None:
    """As dcm4che's stgcmtscu proposes them, against PS3.8 9.3.2.2."""
    request = AssociateRequest("A", "B", (Proposed(2, FIND, (EXPLICIT,)),), 0)
    back = acse.decode_request(acse.encode_request(request))
    accept, usable = decide(back, lambda _uid: Offer((EXPLICIT,)), lambda _uid, _asked: None, max_length=0)
    assert [one.id for one in acse.decode_accept(acse.encode_accept(accept, back)).contexts] == [2]
    assert usable[2].as_scp


def test_an_unlimited_window_is_answered_with_one_operation_at_a_time() -> None:
    accept, _ = decide(FULL, lambda _uid: None, lambda _uid, _asked: None, max_length=0)
    assert accept.window == (1, 1)


def test_a_context_with_what_is_no_uid_is_rejected_and_the_others_are_not() -> None:
    data = acse.encode_request(AssociateRequest("A", "B", propose([(FIND, EXPLICIT), (CT, EXPLICIT)]), 0))
    request = acse.decode_request(data.replace(CT.encode(), b"1.02.SECRET".ljust(len(CT))))
    accept, usable = decide(
        request, lambda uid: Offer((EXPLICIT,)) if uid == FIND else None, lambda _uid, _asked: None, max_length=0
    )
    assert [one.result for one in accept.contexts] == [0, 3]
    assert set(usable) == {1}


def test_titles_of_strangers_are_made_printable() -> None:
    data = bytearray(acse.encode_request(AssociateRequest("A", "B", (), 0)))
    data[10:42] = bytes(range(0xF0, 0x100)) + b"A\\B\n".ljust(16, b"\0")
    request = acse.decode_request(bytes(data))
    assert (request.called, request.calling) == ("?" * 16, "A?B?")


def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert acse.decode_request(with_user_item(0x55, b"\xff\xfe")).calling == "A"
        with pytest.raises(ProtocolError):
            acse.decode_request(with_user_item(0x51, b"SECRET"))
    assert caplog.text == ""


def test_preflight_rejects_what_no_peer_may_ask() -> None:
    assert preflight(AssociateRequest("A", "B", (), 0, protocol_version=2)) == AssociateReject(1, 2, 2)
    assert preflight(AssociateRequest("A", "B", (), 0, application_context="1.2")) == AssociateReject(1, 1, 2)
    assert preflight(AssociateRequest("A", "B", (), 0, protocol_version=3)) is None


def test_an_acceptor_that_makes_up_contexts_is_not_believed() -> None:
    accept = AssociateAccept((Answered(1, 0, JPEG), Answered(5, 0, EXPLICIT), Answered(3, 0, JPEG)), 0)
    assert set(usable_contexts(FULL, accept)) == {3}


def test_more_contexts_than_an_association_has_are_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        propose((f"1.2.{at}", EXPLICIT) for at in range(129))


def test_extended_negotiation_grants_what_is_asked_and_implemented() -> None:
    ours = Negotiated(relational=True, fuzzy=True, multiple_value=True)
    answer = query_extension(b"\1\1\1\0\1\1\1", ours)
    assert answer == b"\1\0\1\0\0\0\1"
    assert negotiated(answer) == ours
    assert negotiated(query_extension(b"\1", ours)) == Negotiated(relational=True)
    assert negotiated(None) == Negotiated()


@settings(max_examples=300)
@given(st.data())
def test_any_mangled_request_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(acse.encode_request(FULL))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(6, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(6, len(whole)))
    for decode in (acse.decode_request, acse.decode_accept):
        try:
            decode(bytes(whole[:cut]))
        except ProtocolError as error:
            assert error.reason == 6  # noqa: PT017 - both ends are right

"""Association negotiation as values and decisions (PS3.8 7.1, PS3.7 Annex D).

:func:`decide` takes what a requestor proposes and what we offer for each abstract syntax it names, and returns the
answer; only what the request asks for is ever looked at, so a long list of supported SOP classes costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from gateway.dicom.identifier import Negotiated

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
MAX_CONTEXTS = 128


class Result(IntEnum):
    """Result/Reason of a presentation context (PS3.8 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class Proposed:
    """A presentation context as a requestor proposes it; even IDs of careless peers included."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """A presentation context in an A-ASSOCIATE-AC."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU role selection for a SOP class, from the requestor's side (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who the user is, and how that is to be proved (PS3.7 D.3.3.7); never logged."""

    type: int
    response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)


@dataclass(frozen=True)
class AssociateRequest:
    """What an A-ASSOCIATE-RQ says."""

    calling: str
    called: str
    contexts: tuple[Proposed, ...]
    max_length: int
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    roles: Mapping[str, Role] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    identity: UserIdentity | None = None
    implementation_version: str = ""


@dataclass(frozen=True)
class AssociateAccept:
    """What an A-ASSOCIATE-AC says."""

    contexts: tuple[Answered, ...]
    max_length: int
    roles: Mapping[str, Role] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    identity_confirmed: bool = False
    implementation_version: str = ""


@dataclass(frozen=True)
class AssociateReject:
    """What an A-ASSOCIATE-RJ says (PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int


PROTOCOL_VERSION_NOT_SUPPORTED = AssociateReject(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(1, 1, 2)
CALLING_AE_NOT_RECOGNISED = AssociateReject(1, 1, 3)
CALLED_AE_NOT_RECOGNISED = AssociateReject(1, 1, 7)
TEMPORARY_CONGESTION = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A presentation context that can be used.

    Attributes:
        as_scp: we may serve requests on it.
        as_scu: we may send requests on it.
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scp: bool
    as_scu: bool


@dataclass(frozen=True)
class Offer:
    """What we are ready to do for an abstract syntax.

    Attributes:
        syntaxes: transfer syntaxes; where they are a tuple, in our order of preference, else the requestor's counts.
        scp: we serve it.
        scu: we would use it as an SCU if the requestor takes the SCP role.
    """

    syntaxes: Collection[str]
    scp: bool = True
    scu: bool = False


Offers = Callable[[str], Offer | None]
"""What we offer for an abstract syntax; ``None`` when we do not know it."""


def preflight(request: AssociateRequest) -> AssociateReject | None:
    """What rejects a request whoever sends it."""
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    return None


def decide(
    request: AssociateRequest,
    offers: Offers,
    extensions: Callable[[str, bytes], bytes | None],
    *,
    max_length: int,
) -> tuple[AssociateAccept, dict[int, Accepted]]:
    """Answer the proposed contexts, roles, extended negotiation items and asynchronous operations window.

    Args:
        extensions: the answer to a SOP class's extended negotiation item, or ``None`` for none.
    """
    answers: list[Answered] = []
    accepted: dict[int, Accepted] = {}
    roles: dict[str, Role] = {}
    for context in request.contexts:
        answer, usable = _answer(context, offers(context.abstract_syntax), request.roles.get(context.abstract_syntax))
        answers.append(answer)
        if usable:
            accepted[context.id] = usable
            if context.abstract_syntax in request.roles:
                roles[context.abstract_syntax] = Role(scu=usable.as_scp, scp=usable.as_scu)
    used = {context.abstract_syntax for context in accepted.values()}
    extended = {
        uid: answered
        for uid, asked in request.extended.items()
        if uid in used and (answered := extensions(uid, asked)) is not None
    }
    accept = AssociateAccept(
        contexts=tuple(answers),
        max_length=max_length,
        roles=roles,
        extended=extended,
        # Whatever window is proposed, 0/0 (unlimited) included, we perform one operation at a time (PS3.7 D.3.3.3).
        window=(1, 1) if request.window is not None else None,
        identity_confirmed=request.identity is not None and request.identity.response_requested,
    )
    return accept, accepted


def _answer(context: Proposed, offer: Offer | None, role: Role | None) -> tuple[Answered, Accepted | None]:
    fallback = context.transfer_syntaxes[0] if context.transfer_syntaxes else ""
    if offer is None:
        return Answered(context.id, Result.ABSTRACT_SYNTAX_NOT_SUPPORTED, fallback), None
    # Without role selection the requestor is the SCU (PS3.7 D.3.3.4).
    asked = role or Role(scu=True, scp=False)
    as_scp, as_scu = asked.scu and offer.scp, asked.scp and offer.scu
    if not as_scp and not as_scu:
        return Answered(context.id, Result.USER_REJECTION, fallback), None
    chosen = _choose(offer.syntaxes, context.transfer_syntaxes)
    if chosen is None:
        return Answered(context.id, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED, fallback), None
    usable = Accepted(context.id, context.abstract_syntax, chosen, as_scp=as_scp, as_scu=as_scu)
    return Answered(context.id, Result.ACCEPTANCE, chosen), usable


def _choose(ours: Collection[str], theirs: tuple[str, ...]) -> str | None:
    first, second = (ours, theirs) if isinstance(ours, tuple) else (theirs, ours)
    return next((uid for uid in first if uid in second), None)


def usable_contexts(request: AssociateRequest, accept: AssociateAccept) -> dict[int, Accepted]:
    """The contexts a requestor may use after the acceptor's answer."""
    proposed = {context.id: context for context in request.contexts}
    usable: dict[int, Accepted] = {}
    for answer in accept.contexts:
        context = proposed.get(answer.id)
        if context is None or answer.result != Result.ACCEPTANCE:
            continue
        if answer.transfer_syntax not in context.transfer_syntaxes:
            continue  # an acceptor that makes up a syntax is not taken at its word
        asked, granted = request.roles.get(context.abstract_syntax), accept.roles.get(context.abstract_syntax)
        role = Role(scu=True, scp=False)
        if asked and granted:
            role = Role(scu=asked.scu and granted.scu, scp=asked.scp and granted.scp)
        usable[answer.id] = Accepted(
            answer.id, context.abstract_syntax, answer.transfer_syntax, as_scp=role.scp, as_scu=role.scu
        )
    return usable


def propose(pairs: Iterable[tuple[str, str]]) -> tuple[Proposed, ...]:
    """One context for each (SOP class, transfer syntax), so that the acceptor's choice loses nothing.

    Raises:
        ValueError: more than 128; split them over associations.
    """
    unique = dict.fromkeys(pairs)
    if len(unique) > MAX_CONTEXTS:
        raise ValueError(f"{len(unique)} presentation contexts; an association has at most {MAX_CONTEXTS}")
    return tuple(Proposed(2 * at + 1, uid, (syntax,)) for at, (uid, syntax) in enumerate(unique))


_NEGOTIATED = ("relational", "combined_datetime", "fuzzy", "timezone", "", "empty_value", "multiple_value")
"""The bytes of Service Class Application Information; the fifth, enhanced multi-frame conversion, is not done."""


def query_extension(asked: bytes, supported: Negotiated) -> bytes:
    """The acceptor's answer to Service Class Application Information of a C-FIND class (PS3.4 C.5.1.1)."""
    return bytes(
        int(byte == 1 and at < len(_NEGOTIATED) and bool(getattr(supported, _NEGOTIATED[at], False)))
        for at, byte in enumerate(asked)
    )


def negotiated(answered: bytes | None) -> Negotiated:
    """What an answered extended negotiation item settles; nothing when there was none."""
    flags = {name: byte == 1 for name, byte in zip(_NEGOTIATED, answered or b"", strict=False) if name}
    return Negotiated(**flags)

"""The DICOM conformance statement, its tables made from what the code offers (PS3.2 Annex N).

Every table is read from the values that negotiation, the services and the configuration use; docs/conformance.md is
this statement for the default configuration, and a test holds the one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill

from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, __version__
from gateway.config.models import Ae, RequestTimeouts
from gateway.config.types import format_duration
from gateway.daemon.chain import NEGOTIATED
from gateway.dicom import models
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS, SERVICES, STORAGE_COMMITMENT, VERIFICATION, Model
from gateway.dicom.status import Status, kind
from gateway.dicom.tags import keyword_of
from gateway.dimse import negotiation
from gateway.dimse.negotiation import APPLICATION_CONTEXT, AssociateReject
from gateway.dimse.ports import Verb
from gateway.dimse.sopclasses import IDENTIFIER_SYNTAXES, STORAGE_SYNTAXES, Offering, is_storage

_NEGOTIATION = {
    "Relational queries": "relational",
    "Combined date-time matching": "combined_datetime",
    "Fuzzy semantic matching of person names": "fuzzy",
    "Timezone query adjustment": "timezone",
    "Empty value matching": "empty_value",
    "Multiple value matching": "multiple_value",
}
_OFFERING = Offering(frozenset(Verb), events=True)


def statement(ae: Ae | None = None) -> str:
    """The statement as Markdown.

    Args:
        ae: the configured application entity; the defaults unless given.
    """
    return "\n".join(_lines(ae or Ae())).rstrip() + "\n"


def _lines(ae: Ae) -> Iterator[str]:
    yield f"# DICOM conformance statement of dicom-gateway {__version__}\n"
    yield "Made by `dicom-gateway conformance`; the tables are read from the code that negotiates and serves.\n"
    yield "## Overview\n"
    yield _prose(
        """A query/retrieve gateway with one application entity. It answers queries and retrieves for the instances
        of a local DICOMDIR file-set with the patient and study attributes of a leading archive, stores
        instances into the file-set, and commits to what is in it."""
    )
    yield from _table(("Network service", "User (SCU)", "Provider (SCP)"), _services())
    yield "## Associations\n"
    yield from _table(("Parameter", "Value"), _association(ae))
    yield "Rejections (PS3.8 9.3.4):\n"
    yield from _table(("Reason", "Result", "Source", "Reason code"), _rejections())
    yield "## Presentation contexts accepted\n"
    yield from _table(("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation"), _accepted())
    yield "Storage SOP classes, each in every transfer syntax below, as SCP, and as SCU for C-GET:\n"
    yield from _table(("SOP class", "UID"), _storage())
    yield from _table(("Transfer syntax of stored instances", "UID"), _named(sorted(STORAGE_SYNTAXES)))
    yield "Transfer syntaxes of identifiers:\n"
    yield from _table(("Transfer syntax", "UID"), _named(IDENTIFIER_SYNTAXES))
    yield "Extended negotiation of query and retrieve (PS3.4 C.5.1.1):\n"
    yield from _table(("Behaviour", "Supported"), _extended())
    yield "## Presentation contexts proposed\n"
    yield _prose(
        """Verification, Study Root C-FIND, C-GET and C-MOVE to leading archives; Storage to move destinations and
        Storage Commitment Push Model to peers. One context for each SOP class and transfer syntax; stored
        syntaxes first, then Explicit and Implicit VR Little Endian for instances that can be transcoded without
        loss."""
    )
    yield "## Query attributes\n"
    yield _prose(
        """Every attribute the index has for an entity can be matched and returned; these are the ones of each
        level. Those of patient and study are the leading archive's where it knows the study."""
    )
    for title, tags in _LEVELS:
        yield f"{title}:\n"
        yield ", ".join(f"`{keyword_of(tag)}`" for tag in sorted(tags)) + "\n"
    yield "Returned and never matched:\n"
    yield ", ".join(f"`{keyword_of(tag)}`" for tag in sorted(models.COMPUTED_ATTRIBUTES)) + "\n"
    yield "## Statuses\n"
    yield from _table(("Status", "Kind", "Name"), _statuses())
    yield "## Character sets\n"
    yield _prose(
        """Queries are read in, and answers given in, any of these; an answer that the query's set cannot represent
        is in `ISO_IR 192`, and says so in Specific Character Set (0008,0005)."""
    )
    yield ", ".join(f"`{term}`" for term in sorted(python_encoding) if term) + "\n"
    yield "## Media\n"
    yield _prose(
        """The file-set is read and written as a general purpose file-set (PS3.10, PS3.11): File IDs of at most
        eight components, DICOMDIR in Explicit VR Little Endian. Inactive records are neither found nor sent."""
    )
    yield "## Security\n"
    yield _prose(
        """Callers are recognised by AE title and network address, and permitted service by service. TLS 1.2 or newer
        (PS3.15 B.9) can be required of callers, and is spoken to peers where it is configured. Logs name no
        patient. See [security.md](security.md)."""
    )


_LEVELS = (
    ("Patient", models.PATIENT_ATTRIBUTES),
    ("Study", models.STUDY_ATTRIBUTES),
    ("Series", models.SERIES_ATTRIBUTES),
)


def _prose(text: str) -> str:
    return fill(" ".join(text.split()), 118) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _services() -> Iterator[tuple[str, str, str]]:
    yield "Verification", "yes", "yes"
    yield "Storage", "yes", "yes"
    for service in SERVICES:
        as_scu = "yes" if service.model is Model.STUDY_ROOT else "no"
        yield f"{service.model.value} Query/Retrieve - FIND", as_scu, _yes(service.find in FIND_MODELS)
        yield f"{service.model.value} Query/Retrieve - MOVE", as_scu, _yes(service.move in MOVE_MODELS)
        yield f"{service.model.value} Query/Retrieve - GET", as_scu, _yes(service.get in GET_MODELS)
    yield "Storage Commitment Push Model", "yes", "yes"


def _association(ae: Ae) -> Iterator[tuple[str, object]]:
    ours = RequestTimeouts()
    yield "Application context", f"`{APPLICATION_CONTEXT}`"
    yield "Implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"
    yield "Implementation version name", f"`{IMPLEMENTATION_VERSION_NAME}`"
    yield "AE title (`ae.title`)", ae.title
    yield "TCP port (`ae.port`)", ae.port
    yield "Maximum PDU length announced (`ae.max_pdu`)", ae.max_pdu
    yield "Associations accepted at once (`ae.max_associations`)", ae.max_associations
    yield "Associations of one peer at once (`ae.max_associations_per_peer`)", ae.max_associations_per_peer
    yield "Negotiations of one address at once (`ae.max_negotiations_per_address`)", ae.max_negotiations_per_address
    yield "Asynchronous operations window", "not negotiated: one operation at a time"
    yield "User identity", "not used"
    yield "Time to negotiate (`ae.timeouts.acse`)", format_duration(ae.timeouts.acse)
    yield "Time for a PDU (`ae.timeouts.network`)", format_duration(ae.timeouts.network)
    yield "Time between requests (`ae.timeouts.idle`)", format_duration(ae.timeouts.idle)
    yield "Time to connect to a peer (`peers.*.timeouts.connect`)", format_duration(ours.connect)
    yield "Time for a peer's response (`peers.*.timeouts.dimse`)", format_duration(ours.dimse)


def _rejections() -> Iterator[tuple[str, int, int, int]]:
    for name, value in vars(negotiation).items():
        if isinstance(value, AssociateReject):
            yield name.replace("_", " ").capitalize().replace("Ae ", "AE ").replace(" ae ", " AE "), *_codes(value)


def _codes(reject: AssociateReject) -> tuple[int, int, int]:
    return reject.result, reject.source, reject.reason


def _accepted() -> Iterator[tuple[str, str, str, str, str]]:
    for uid in (VERIFICATION, *FIND_MODELS, *MOVE_MODELS, *GET_MODELS, STORAGE_COMMITMENT):
        offer = _OFFERING.offer(uid, frozenset(Verb))
        assert offer is not None, uid
        roles = [name for name, has in (("SCP", offer.scp), ("SCU", offer.scu)) if has]
        extended = "yes" if uid in FIND_MODELS or uid in MOVE_MODELS or uid in GET_MODELS else "none"
        yield _name(uid), f"`{uid}`", "as identifiers, below", ", ".join(roles), extended


def _storage() -> Iterator[tuple[str, str]]:
    uids = [uid for uid, entry in UID_dictionary.items() if entry[0] and entry[1] == "SOP Class" and is_storage(uid)]
    return _named(sorted(uids, key=_name))


def _named(uids: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((_name(uid), f"`{uid}`") for uid in uids)


def _name(uid: str) -> str:
    return UID_dictionary[uid][0].replace("|", "/")


def _extended() -> Iterator[tuple[str, str]]:
    for text, field in _NEGOTIATION.items():
        yield text, _yes(getattr(NEGOTIATED, field))


def _statuses() -> Iterator[tuple[str, str, str]]:
    for name, status in Status.__members__.items():
        yield f"`{status:04X}H`", kind(status).value, name.replace("_", " ").capitalize()


def _yes(value: object) -> str:
    return "yes" if value else "no"

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
from gateway.dicom.matching import COUNTS
from gateway.dicom.models import FIND_MODELS, GET_MODELS, MOVE_MODELS, SERVICES, STORAGE_COMMITMENT, VERIFICATION, Model
from gateway.dicom.status import Status, kind
from gateway.dicom.tags import keyword_of, vr_of
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
    yield "## 1 Overview\n"
    yield _prose(_OVERVIEW)
    yield from _table(("Network service", "User (SCU)", "Provider (SCP)"), _services())
    yield "## 2 Contents\n"
    yield from _CONTENTS
    yield "\n## 3 Introduction\n"
    yield _prose(_INTRODUCTION)
    yield "## 4 Implementation model\n"
    yield _prose(_MODEL)
    yield "## 5 Services and interoperability\n"
    yield from _service_lines()
    yield "## 6 Configuration\n"
    yield from _table(("Parameter", "Value"), _configuration(ae))
    yield "## 7 Network and media communication\n"
    yield from _communication_lines()
    yield "## 8 Security\n"
    yield _prose(_SECURITY)


def _service_lines() -> Iterator[str]:
    yield "### 5.1 Query\n"
    yield _prose(_QUERY)
    for title, tags in _LEVELS:
        yield f"{title}:\n"
        yield ", ".join(f"`{keyword_of(tag)}`" for tag in sorted(tags)) + "\n"
    yield "Gathered from what a study has, returned and matched:\n"
    gathered = (tag for tag in sorted(models.COMPUTED_ATTRIBUTES - COUNTS) if vr_of(tag) != "SQ")
    yield ", ".join(f"`{keyword_of(tag)}`" for tag in gathered) + "\n"
    yield "Counted, returned and never matched:\n"
    yield ", ".join(f"`{keyword_of(tag)}`" for tag in sorted(COUNTS)) + "\n"
    yield "### 5.2 Retrieve\n"
    yield _prose(_RETRIEVE)
    yield "### 5.3 Storage\n"
    yield _prose(_STORAGE)
    yield "### 5.4 Storage commitment\n"
    yield _prose(_COMMITMENT)
    yield "### 5.5 Media\n"
    yield _prose(_MEDIA)
    yield "### 5.6 Statuses\n"
    yield from _table(("Status", "Kind", "Name"), _statuses())


def _communication_lines() -> Iterator[str]:
    yield "### 7.1 Associations\n"
    yield from _table(("Parameter", "Value"), _association())
    yield "Rejections (PS3.8 9.3.4):\n"
    yield from _table(("Reason", "Result", "Source", "Reason code"), _rejections())
    yield "### 7.2 Presentation contexts accepted\n"
    yield from _table(("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation"), _accepted())
    yield "Storage SOP classes, each in every transfer syntax below, as SCP, and as SCU for C-GET:\n"
    yield from _table(("SOP class", "UID"), _storage())
    yield from _table(("Transfer syntax of stored instances", "UID"), _named(sorted(STORAGE_SYNTAXES)))
    yield "Transfer syntaxes of identifiers:\n"
    yield from _table(("Transfer syntax", "UID"), _named(IDENTIFIER_SYNTAXES))
    yield "Extended negotiation of query and retrieve (PS3.4 C.5.1.1):\n"
    yield from _table(("Behaviour", "Supported"), _extended())
    yield "### 7.3 Presentation contexts proposed\n"
    yield _prose(_PROPOSED)
    yield "### 7.4 Character sets\n"
    yield _prose(_CHARACTER_SETS)
    yield ", ".join(f"`{term}`" for term in sorted(python_encoding) if term) + "\n"


_CONTENTS = (
    "1. Overview", "2. Contents", "3. Introduction", "4. Implementation model", "5. Services and interoperability",
    "6. Configuration", "7. Network and media communication", "8. Security",
)  # fmt: skip
_OVERVIEW = """A query/retrieve gateway with one application entity. It answers queries and retrieves for the
    instances of a local DICOMDIR file-set with the patient and study attributes of a leading archive, stores
    instances into the file-set, and commits to what is in it."""
_INTRODUCTION = """For those who connect viewers, modalities and archives to the gateway. The order is that of the
    template in PS3.2 Annex N (2024c and later). Names in `code` are keys of the configuration. Conformance does not
    by itself make two products work together: try them with each other."""
_MODEL = """One application entity serves all requests and makes all of its own. On a query it asks the leading
    archives (C-FIND) unless it remembers their answer, joins their answers with those of the local file-set, and
    responds. On a retrieve it resolves the identifier in the same way, sends what the file-set has with the leading
    archive's attributes, and meanwhile retrieves (C-GET, or C-MOVE to itself) what only the leading archive has,
    and sends that as it arrives. A C-STORE is answered when the instance is kept. An N-ACTION is answered when it
    is written down; the N-EVENT-REPORT follows on an association of the gateway's own, or on the same one where the
    peer wants that."""
_QUERY = """C-FIND in the three models, hierarchical, and relational where that was negotiated. Every attribute the
    index has for an entity can be matched and returned; these are the ones of each level. Those of patient and
    study are the leading archive's where it knows the study. Matching is that of PS3.4 C.2.2.2; person names are
    matched without regard to case and accents."""
_RETRIEVE = """C-MOVE and C-GET at every level. Move destinations are configured peers. Instances are sent as they
    are stored, or transcoded without loss where the destination accepts no stored syntax. Patient and study
    attributes are replaced by the leading archive's, and changed by rules (`coercion.rules`); pixel data is not
    touched. Pending responses carry the numbers of sub-operations, final ones list failed instances."""
_STORAGE = """Level 2 (full): all attributes are kept, private ones included, and no element is changed unless a rule
    for received instances says so, which is then recorded in Original Attributes Sequence (0400,0561). An instance
    that is stored again with other content is kept as it was, with warning B000H, or replaced
    (`archive.on_conflict`). Success means that the instance is on disk and synced (`archive.durability`). IOCM
    rejection notes are followed (`rejection`)."""
_COMMITMENT = """Push Model, as SCP for peers and as SCU. Committed is what is in the index under the SOP class asked
    for, with its file on the disk and of the right size (`commitment.verify`). Reports are repeated until they are
    answered (`commitment.retry`)."""
_MEDIA = """The file-set is read and written as a general purpose file-set (PS3.10, PS3.11): File IDs of at most
    eight components, DICOMDIR in Explicit VR Little Endian. Inactive records are neither found nor sent."""
_PROPOSED = """Verification, Study Root C-FIND, C-GET and C-MOVE to leading archives; Storage to move destinations
    and Storage Commitment Push Model to peers. One context for each SOP class and transfer syntax; stored syntaxes
    first, then Explicit and Implicit VR Little Endian for instances that can be transcoded without loss."""
_CHARACTER_SETS = """Queries are read in, and answers given in, any of these; an answer that the query's set cannot
    represent is in `ISO_IR 192`, and says so in Specific Character Set (0008,0005)."""
_SECURITY = """Callers are recognised by AE title and network address, and permitted service by service. TLS 1.2 or
    newer (PS3.15 B.9) can be required of callers, and is spoken to peers where it is configured. An audit trail
    (PS3.15 A.5) can be kept. Logs name no patient. See [security.md](security.md)."""
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


def _configuration(ae: Ae) -> Iterator[tuple[str, object]]:
    ours = RequestTimeouts()
    yield "AE title (`ae.title`)", ae.title
    yield "TCP port (`ae.port`)", ae.port
    yield "Maximum PDU length announced (`ae.max_pdu`)", ae.max_pdu
    yield "Associations accepted at once (`ae.max_associations`)", ae.max_associations
    yield "Associations of one peer at once (`ae.max_associations_per_peer`)", ae.max_associations_per_peer
    yield "Negotiations of one address at once (`ae.max_negotiations_per_address`)", ae.max_negotiations_per_address
    yield "Time to negotiate (`ae.timeouts.acse`)", format_duration(ae.timeouts.acse)
    yield "Time for a PDU (`ae.timeouts.network`)", format_duration(ae.timeouts.network)
    yield "Time between requests (`ae.timeouts.idle`)", format_duration(ae.timeouts.idle)
    yield "Time to connect to a peer (`peers.*.timeouts.connect`)", format_duration(ours.connect)
    yield "Time for a peer's response (`peers.*.timeouts.dimse`)", format_duration(ours.dimse)


def _association() -> Iterator[tuple[str, object]]:
    yield "Application context", f"`{APPLICATION_CONTEXT}`"
    yield "Implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"
    yield "Implementation version name", f"`{IMPLEMENTATION_VERSION_NAME}`"
    yield "Asynchronous operations window", "not negotiated: one operation at a time"
    yield "User identity", "not used"


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
    name, _, _, retired, *_ = UID_dictionary[uid]
    return name.replace("|", "/") + (" (retired)" if retired else "")


def _extended() -> Iterator[tuple[str, str]]:
    for text, field in _NEGOTIATION.items():
        yield text, _yes(getattr(NEGOTIATED, field))


def _statuses() -> Iterator[tuple[str, str, str]]:
    for name, status in Status.__members__.items():
        yield f"`{status:04X}H`", kind(status).value, name.replace("_", " ").capitalize()


def _yes(value: object) -> str:
    return "yes" if value else "no"

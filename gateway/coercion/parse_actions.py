"""Actions from YAML: one function for each word under ``then``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.coercion.actions import Copy, Default, Map, Missing, Nullify, Remove, Replace, Set, Table
from gateway.coercion.charsets import ChangeCharset, TrimISO2022
from gateway.coercion.every_action import AnyAction
from gateway.coercion.formats import BadFormat, Format, parse_format
from gateway.coercion.identity import Issuer, KeepPatientID, RemapUIDs
from gateway.coercion.parse_conditions import attribute_path, pattern
from gateway.coercion.paths import BadPath, Path
from gateway.coercion.sources import SETS, Device, FromLeading, Policy, Supplement
from gateway.coercion.values import InvalidValue, checked, settable
from gateway.coercion.yamlnodes import Broken, Place, each
from gateway.dicom import tags
from gateway.dicom.attributes import STRING_VRS
from gateway.dicom.charset import known_term
from gateway.dicom.tags import keyword_of, tag_of, vr_of

Actions = tuple[AnyAction, ...]
_UIDS = frozenset({tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID})


@dataclass(frozen=True)
class Shared:
    """What stands beside the rules in a file and is used by name in them."""

    tables: dict[str, Table]
    devices: tuple[Device, ...]


def changeable(place: Place) -> Path:
    """The path of an attribute that an action may change."""
    path = attribute_path(place)
    if path.tag == tags.SpecificCharacterSet:
        raise place.broken("the character set is changed by its own action", "charset: ISO_IR 192")
    if path.tag in _UIDS and not path.nested:
        raise place.broken(f"{keyword_of(path.tag)} is changed by a UID rule only", "remap_uids")
    return path


def writable(place: Place) -> Path:
    """The path of an attribute whose value a text can be."""
    path = changeable(place)
    if not settable(path.tag):
        raise place.broken(f"{keyword_of(path.tag)} ({vr_of(path.tag)}) cannot be written from a text")
    return path


def texty(place: Place) -> Path:
    """The path of a string attribute."""
    path = changeable(place)
    if vr_of(path.tag) not in STRING_VRS:
        raise place.broken(f"{keyword_of(path.tag)} ({vr_of(path.tag)}) is no string")
    return path


def filling(place: Place, path: Path) -> Format:
    """A format for an attribute; where it is plain text, the text is checked at once."""
    if place.is_null:
        raise place.broken("null is no text", "'nullify' empties an attribute, 'remove' takes it out")
    try:
        found = parse_format(place.text())
    except (BadFormat, BadPath) as error:
        raise place.broken(str(error), error.hint) from error
    if all(isinstance(one, str) for one in found.parts):
        try:
            checked(path.tag, "".join(str(one) for one in found.parts))
        except InvalidValue as error:
            raise place.broken(str(error)) from error
    return found


def needed(place: Place, keys: dict[str, Place], *names: str) -> None:
    """Complain of every missing key at once."""
    missing = [name for name in names if name not in keys]
    for name in missing:
        place.note(f"needs {name!r}")
    if missing:
        raise Broken


def _set(place: Place, _: Shared) -> Actions:
    return each(place.entries(), _one_set)


def _one_set(entry: tuple[Place, Place]) -> AnyAction:
    path = writable(entry[0])
    return Set(path, filling(entry[1], path))


def _default(place: Place, _: Shared) -> Actions:
    return each(place.entries(), _one_default)


def _one_default(entry: tuple[Place, Place]) -> AnyAction:
    path = writable(entry[0])
    return Default(path, filling(entry[1], path))


def _copy(place: Place, _: Shared) -> Actions:
    return each(place.entries(), _one_copy)


def _one_copy(entry: tuple[Place, Place]) -> AnyAction:
    path, source = changeable(entry[0]), attribute_path(entry[1])
    if vr_of(path.tag) != vr_of(source.tag) and not (settable(path.tag) and settable(source.tag)):
        raise entry[1].broken(f"a {vr_of(source.tag)} cannot be copied to a {vr_of(path.tag)}")
    return Copy(path, source)


def _remove(place: Place, _: Shared) -> Actions:
    return (Remove(each(place.sequence(), changeable)),)


def _nullify(place: Place, _: Shared) -> Actions:
    return (Nullify(each(place.sequence(), changeable)),)


def _replace(place: Place, _: Shared) -> Actions:
    keys = place.mapping(("attribute", "pattern", "with", "undo"))
    needed(place, keys, "attribute", "pattern", "with")
    found, text = _substitution(keys["pattern"], keys["with"])
    back = None
    if "undo" in keys:
        inner = keys["undo"].mapping(("pattern", "with"))
        needed(keys["undo"], inner, "pattern", "with")
        back = _substitution(inner["pattern"], inner["with"])
    return (Replace(texty(keys["attribute"]), found, text, back),)


def _substitution(pattern_place: Place, text_place: Place) -> tuple[re.Pattern[str], str]:
    found, text = pattern(pattern_place), text_place.text()
    try:
        found.sub(text, "")
    except (re.error, IndexError) as error:
        raise text_place.broken(f"no replacement for this pattern: {error}") from error
    return found, text


def _map(place: Place, shared: Shared) -> Actions:
    keys = place.mapping(("attribute", "table", "missing"))
    needed(place, keys, "attribute", "table")
    missing = Missing(keys["missing"].choice(one.value for one in Missing)) if "missing" in keys else Missing.KEEP
    return (Map(texty(keys["attribute"]), _table(keys["table"], shared), missing),)


def _table(place: Place, shared: Shared) -> Table:
    return shared.tables[place.choice(shared.tables)]


def _from_leading(place: Place, _: Shared) -> Actions:
    keys = place.mapping(("sets", "attributes", "policy"))
    policy = Policy(keys["policy"].choice(one.value for one in Policy)) if "policy" in keys else Policy.MERGE
    sets = each(keys["sets"].sequence(), lambda one: one.choice(SETS)) if "sets" in keys else ()
    named = each(keys["attributes"].sequence(), top_level) if "attributes" in keys else ()
    if "sets" not in keys and "attributes" not in keys:
        raise place.broken("needs 'sets' or 'attributes'", "sets: [patient, study]")
    return (FromLeading(policy, sets, named),)


def top_level(place: Place) -> int:
    """The tag of a changeable attribute of the data set itself."""
    path = changeable(place)
    if path.nested:
        raise place.broken("must be an attribute of the data set itself")
    return path.tag


def _supplement(place: Place, shared: Shared) -> Actions:
    keys = place.mapping(("device",))
    needed(place, keys, "device")
    if not shared.devices:
        raise place.broken("the file has no 'devices' to supplement from")
    return (Supplement(keys["device"].choice(("sending", "receiving")), shared.devices),)


def _issuer(place: Place, _: Shared) -> Actions:
    keys = place.mapping(("name", "universal_id", "universal_type", "replace"))
    needed(place, keys, "name")
    return (Issuer(*_issuer_of(keys, "name"), replace="replace" in keys and keys["replace"].boolean()),)


def _keep_patient_id(place: Place, _: Shared) -> Actions:
    keys = place.mapping(("issuer", "universal_id", "universal_type"))
    needed(place, keys, "issuer")
    return (KeepPatientID(*_issuer_of(keys, "issuer")),)


def _issuer_of(keys: dict[str, Place], name: str) -> tuple[str, str, str]:
    """Local name, universal ID and its type, each as its attribute may have it."""
    names = {
        name: "IssuerOfPatientID",
        "universal_id": "UniversalEntityID",
        "universal_type": "UniversalEntityIDType",
    }
    for key, keyword in names.items():
        if key in keys:
            try:
                checked(tag_of(keyword), keys[key].text())
            except InvalidValue as error:
                keys[key].note(str(error))
    local, universal, kind = (keys[key].text() if key in keys else "" for key in names)
    return local, universal, kind or "ISO"


def _remap_uids(place: Place, shared: Shared) -> Actions:
    if not place.is_mapping:
        place.choice(("all",))
        return (RemapUIDs(),)
    keys = place.mapping(("table",))
    needed(place, keys, "table")
    return (RemapUIDs(_table(keys["table"], shared)),)


def _charset(place: Place, _: Shared) -> Actions:
    terms = place.texts()
    for term in terms:
        if not known_term(term):
            raise place.broken(f"{term!r} is no character set", "such as ISO_IR 192 or ISO_IR 100")
    return (ChangeCharset(terms),)


def _trim_iso2022(place: Place, _: Shared) -> Actions:
    return (TrimISO2022(),) if place.boolean() else ()


ACTIONS: dict[str, Callable[[Place, Shared], Actions]] = {
    "from_leading": _from_leading,
    "set": _set,
    "default": _default,
    "copy": _copy,
    "remove": _remove,
    "nullify": _nullify,
    "replace": _replace,
    "map": _map,
    "issuer_of_patient_id": _issuer,
    "keep_patient_id": _keep_patient_id,
    "supplement": _supplement,
    "remap_uids": _remap_uids,
    "charset": _charset,
    "trim_iso2022": _trim_iso2022,
}

"""Actions from YAML."""

from __future__ import annotations

from collections.abc import Callable

from gateway.coercion.actions import SETS, AnyAction, FromLeading, Policy, Remove, Set
from gateway.coercion.formats import BadFormat, Format, parse_format
from gateway.coercion.parse_conditions import attribute_path
from gateway.coercion.paths import BadPath, Path
from gateway.coercion.values import InvalidValue, checked, settable
from gateway.coercion.yamlnodes import Place, each
from gateway.dicom import tags
from gateway.dicom.tags import keyword_of, vr_of

Actions = tuple[AnyAction, ...]
_UIDS = frozenset({tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID})


def changeable(place: Place) -> Path:
    """The path of an attribute that an action may change."""
    path = attribute_path(place)
    if path.top >> 16 in {0x0000, 0x0002}:
        raise place.broken("command and file meta elements follow from the data set and are not changed by rules")
    if path.top >= 0x7FE00000:
        raise place.broken("pixel data, and what stands behind it, is never changed")
    if path.tag == tags.SpecificCharacterSet:
        raise place.broken("the character set is changed by its own action", "charset: ISO_IR 192")
    return path


def writable(place: Place) -> Path:
    """The path of an attribute whose value a text can be."""
    path = changeable(place)
    if path.tag in _UIDS and not path.nested:
        raise place.broken(f"{keyword_of(path.tag)} is changed by a UID rule only", "see remap_uids")
    if not settable(path.tag):
        raise place.broken(f"{keyword_of(path.tag)} ({vr_of(path.tag)}) cannot be written from a text")
    return path


def filling(place: Place, path: Path) -> Format:
    """A format for an attribute; where it is plain text, the text is checked at once."""
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


def _set(place: Place) -> Actions:
    return each(place.entries(), _one_set)


def _one_set(entry: tuple[Place, Place]) -> AnyAction:
    key, value = entry
    path = writable(key)
    return Set(path, filling(value, path))


def _remove(place: Place) -> Actions:
    return (Remove(each(place.sequence(), _removable)),)


def _removable(place: Place) -> Path:
    path = changeable(place)
    if path.tag in _UIDS and not path.nested:
        raise place.broken(f"{keyword_of(path.tag)} cannot be removed")
    return path


def _from_leading(place: Place) -> Actions:
    keys = place.mapping(("sets", "attributes", "policy"))
    policy = Policy(keys["policy"].choice(one.value for one in Policy)) if "policy" in keys else Policy.MERGE
    sets = each(keys["sets"].sequence(), lambda one: one.choice(SETS)) if "sets" in keys else ()
    named = each(keys["attributes"].sequence(), _top_level) if "attributes" in keys else ()
    if not sets and not named:
        raise place.broken("needs 'sets' or 'attributes'", "sets: [patient, study]")
    return (FromLeading(policy, sets, named),)


def _top_level(place: Place) -> int:
    path = changeable(place)
    if path.nested:
        raise place.broken("must be an attribute of the data set itself")
    if path.tag in _UIDS:
        raise place.broken(f"{keyword_of(path.tag)} is changed by a UID rule only")
    return path.tag


ACTIONS: dict[str, Callable[[Place], Actions]] = {
    "set": _set,
    "remove": _remove,
    "from_leading": _from_leading,
}

"""All actions there are, as one type."""

from gateway.coercion.actions import Copy, Default, Map, Nullify, Remove, Replace, Set
from gateway.coercion.charsets import ChangeCharset, TrimISO2022
from gateway.coercion.identity import Issuer, KeepPatientID, RemapUIDs
from gateway.coercion.sources import FromLeading, Supplement

AnyAction = (
    Set
    | Remove
    | Nullify
    | Default
    | Copy
    | Replace
    | Map
    | FromLeading
    | Supplement
    | Issuer
    | KeepPatientID
    | RemapUIDs
    | ChangeCharset
    | TrimISO2022
)

r"""Specific Character Set: from the bytes of a text value to Unicode and back (PS3.3 C.12.1.1.2, PS3.5 6.1).

A value is always decoded *before* it is split on ``\``, ``^`` or ``=``: the byte 5CH occurs inside Shift-JIS and
GB18030 characters. Decoding never raises: what cannot be decoded becomes U+FFFD, because an archive must be able
to answer for a study whose name was stored wrongly twenty years ago.

The tables of encodings are pydicom's. Its functions are not used: they warn with the value in the text, which
would put patient names in logs.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydicom.charset import CODES_TO_ENCODINGS, ENCODINGS_TO_CODES, python_encoding

UTF8 = "ISO_IR 192"
"""The one character set that represents every value (PS3.3 Table C.12-5)."""

Terms = tuple[str, ...]
"""The values of (0008,0005) Specific Character Set; empty when the attribute is absent or empty."""

_DEFAULT = "iso8859"  # pydicom's name for ISO_IR 6; reads Latin-1 where files forgot to declare it
_ESCAPE = re.compile(rb"(\x1b(?:\$[()][A-D]|\$[AB]|[-()][A-Z]))")
_RESET_BYTES = re.compile(rb"[\\^=\r\n\t\f]")
_RESET_TEXT = re.compile(r"([\\^=\r\n\t\f])")
_SEVEN_BIT = frozenset({"iso2022_jp", "iso2022_jp_2"})  # Python reads and writes their escapes itself


class Unrepresentable(ValueError):
    """A text has characters that none of the wanted character sets has."""


@lru_cache(maxsize=256)
def codecs_of(terms: Terms) -> tuple[str, ...]:
    """Python codec names for the defined terms; an unknown term counts as the default repertoire.

    A multi-byte set without code extensions (ISO_IR 192, GB18030, GBK) stands alone (PS3.3 C.12.1.1.2).
    """
    names = tuple(python_encoding.get(_spelling(term), _DEFAULT) for term in terms) or (_DEFAULT,)
    return names[:1] if names[0] in {"UTF8", "GB18030", "GBK"} else names


def known_term(term: str) -> bool:
    """Whether a text is a defined term of Specific Character Set, as PS3.3 Tables C.12-2 to C.12-5 spell it."""
    return term in python_encoding and _spelling(term) == term and term != ""


def _spelling(term: str) -> str:
    """Mend spellings seen in the field: ``ISO-IR 100``, ``ISO 2022-IR 100``, ``ISO IR 192``."""
    term = re.sub(r"^ISO[ _-]?IR[ _-]?(?=\d)", "ISO_IR ", term)
    return re.sub(r"^ISO[ _-]2022[ _-]IR[ _-](?=\d)", "ISO 2022 IR ", term)


def decode(value: bytes, terms: Terms) -> str:
    """Decode one text value, padding and delimiters included."""
    if b"\x1b" not in value:
        return value.decode("ascii" if value.isascii() else codecs_of(terms)[0], "replace")
    codecs = codecs_of(terms)
    first, *escaped = _ESCAPE.split(value)
    text = [first.decode(codecs[0], "replace")]
    for escape, run in zip(escaped[::2], escaped[1::2], strict=True):
        text.append(_decode_run(escape, run, codecs[0]))
    return "".join(text)


def _decode_run(escape: bytes, run: bytes, first: str) -> str:
    """Decode what follows an escape sequence; a delimiter returns to the first set (PS3.5 6.1.2.5.3)."""
    codec = CODES_TO_ENCODINGS.get(escape, first)
    if codec in _SEVEN_BIT:
        return (escape + run).decode(codec, "replace")
    reset = _RESET_BYTES.search(run)
    end = reset.start() if reset else len(run)
    return run[:end].decode(codec, "replace") + run[end:].decode(first, "replace")


def encode(text: str, terms: Terms) -> bytes:
    """Encode one text value, with the escape sequences that several character sets need.

    Raises:
        Unrepresentable: a component has characters that no single one of the sets has.
    """
    if text.isascii():
        return text.encode("ascii")
    codecs = codecs_of(terms)
    runs = _RESET_TEXT.split(text) if len(codecs) > 1 else [text]
    return b"".join(_encode_run(run, codecs) for run in runs)


def _encode_run(run: str, codecs: tuple[str, ...]) -> bytes:
    for position, codec in enumerate(codecs):
        try:
            encoded = run.encode("ascii" if codec == _DEFAULT else codec)
        except UnicodeEncodeError:
            continue
        if codec == "shift_jis" and len(encoded) != len(run):
            continue  # ISO-IR 13 is the single-byte part only
        return encoded if position == 0 or codec in _SEVEN_BIT else ENCODINGS_TO_CODES[codec] + encoded
    raise Unrepresentable("the text has characters outside the declared character sets")

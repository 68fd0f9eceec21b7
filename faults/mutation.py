"""Spoils bytes: the same seed spoils them the same way."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_WORDS = (
    b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0", b"\xff\xff\xff\xff", b"SQ\x00\x00", b"UN\x00\x00",
    b"\\", b"*", b"?", b"^", b"=", b"\x1b$B", b"../../../etc/passwd", b"\x00", b"1.2.840.10008.1.2.1.99",
    b"\x40\x00\x20\x00", b"9" * 65, b"ISO 2022 IR 87", b"ISO_IR 192", b"GB18030", b"\xe0\x7f\x10\x00",
)  # fmt: skip


def mutated(data: bytes, chance: Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes: bits, bytes, lengths, words of the format, cuts, repeats, and parts of another input."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        _CHANGES[chance.randrange(len(_CHANGES))](changed, chance)
    if others and chance.random() < 0.1:
        other = chance.choice(others)
        at, start = chance.randint(0, len(changed)), chance.randint(0, len(other))
        changed[at : at + chance.randint(0, 64)] = other[start : start + chance.randint(1, 256)]
    return bytes(changed)


def _place(data: bytearray, chance: Random) -> int:
    """A place, more often at the beginning, where structure is."""
    return int(len(data) * chance.random() ** chance.choice((1, 2, 4))) if data else 0


def _bit(data: bytearray, chance: Random) -> None:
    if data:
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: Random) -> None:
    at = _place(data, chance)
    data[at : at + 1] = bytes([chance.randrange(256)])


def _number(data: bytearray, chance: Random) -> None:
    at, size = _place(data, chance), chance.choice((1, 2, 4))
    number = chance.choice(_EDGES) & (1 << 8 * size) - 1
    data[at : at + size] = number.to_bytes(size, chance.choice(("little", "big")))


def _word(data: bytearray, chance: Random) -> None:
    at = _place(data, chance)
    word = chance.choice(_WORDS)
    data[at : at + (len(word) if chance.random() < 0.5 else 0)] = word


def _cut(data: bytearray, chance: Random) -> None:
    del data[_place(data, chance) :]


def _drop(data: bytearray, chance: Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.randint(1, 32)]


def _repeat(data: bytearray, chance: Random) -> None:
    at = _place(data, chance)
    part = data[at : at + chance.randint(1, 64)]
    data[at:at] = part * chance.randint(1, 8)


_CHANGES = (_bit, _byte, _byte, _number, _number, _word, _cut, _drop, _repeat)

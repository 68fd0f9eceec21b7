"""The beginning of a DICOM file: preamble, prefix and File Meta Information (PS3.10 7.1)."""

from __future__ import annotations

from functools import lru_cache

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.attributes import pad
from gateway.dicom.encoding import Element, write

PREAMBLE = bytes(128) + b"DICM"
"""A preamble of zeros: what a sender put there may be a program (CVE-2019-11687)."""

_GROUP_LENGTH = 0x00020000
_VERSION = 0x00020001
_MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
_TRANSFER_SYNTAX_UID = 0x00020010
_IMPLEMENTATION_CLASS_UID = 0x00020012
_IMPLEMENTATION_VERSION_NAME = 0x00020013
_SOURCE_APPLICATION_ENTITY_TITLE = 0x00020016


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_aet: str = "") -> bytes:
    """Everything of a file that stands before the data set.

    Args:
        source_aet: the AE title that the instance came from.
    """
    before, after = _around(sop_class_uid, transfer_syntax_uid, source_aet)
    instance = write([(_MEDIA_STORAGE_SOP_INSTANCE_UID, _text("UI", sop_instance_uid))], implicit=False)
    length = Element("UL", (len(before) + len(instance) + len(after)).to_bytes(4, "little"))
    return PREAMBLE + write([(_GROUP_LENGTH, length)], implicit=False) + before + instance + after


@lru_cache(maxsize=256)
def _around(sop_class_uid: str, transfer_syntax_uid: str, source_aet: str) -> tuple[bytes, bytes]:
    """What stands before and behind the SOP Instance UID; the same for most instances of a sender."""
    before = {
        _VERSION: Element("OB", b"\x00\x01"),
        _MEDIA_STORAGE_SOP_CLASS_UID: _text("UI", sop_class_uid),
    }
    after = {
        _TRANSFER_SYNTAX_UID: _text("UI", transfer_syntax_uid),
        _IMPLEMENTATION_CLASS_UID: _text("UI", IMPLEMENTATION_CLASS_UID),
        _IMPLEMENTATION_VERSION_NAME: _text("SH", IMPLEMENTATION_VERSION_NAME),
    }
    if source_aet:
        after[_SOURCE_APPLICATION_ENTITY_TITLE] = _text("AE", source_aet)
    return write(before.items(), implicit=False), write(after.items(), implicit=False)


def _text(vr: str, value: str) -> Element:
    return Element(vr, pad(vr, value.encode("ascii", "replace")))

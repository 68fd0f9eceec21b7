"""Tags by element keyword, for the attributes this gateway speaks of (PS3.6)."""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

SpecificCharacterSet = 0x00080005
SOPClassUID = 0x00080016
SOPInstanceUID = 0x00080018
StudyDate = 0x00080020
StudyTime = 0x00080030
AccessionNumber = 0x00080050
QueryRetrieveLevel = 0x00080052
RetrieveAETitle = 0x00080054
InstanceAvailability = 0x00080056
Modality = 0x00080060
ModalitiesInStudy = 0x00080061
SOPClassesInStudy = 0x00080062
PatientName = 0x00100010
PatientID = 0x00100020
TimezoneOffsetFromUTC = 0x00080201
StudyInstanceUID = 0x0020000D
SeriesInstanceUID = 0x0020000E
StudyID = 0x00200010
SeriesNumber = 0x00200011
InstanceNumber = 0x00200013
NumberOfPatientRelatedStudies = 0x00201200
NumberOfPatientRelatedSeries = 0x00201202
NumberOfPatientRelatedInstances = 0x00201204
NumberOfStudyRelatedSeries = 0x00201206
NumberOfStudyRelatedInstances = 0x00201208
NumberOfSeriesRelatedInstances = 0x00201209
PixelData = 0x7FE00010

_AMBIGUOUS = {"US or SS": "US", "OB or OW": "OW", "US or SS or OW": "OW", "US or OW": "OW"}


@lru_cache(maxsize=8192)
def vr_of(tag: int) -> str:
    """The VR of a tag by the data dictionary: ``UN`` for what it does not know, ``UL`` for group lengths."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"  # private creators (PS3.5 7.8.1)
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return _AMBIGUOUS.get(vr, vr)


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int:
    """The tag of an element keyword, spelled as PS3.6 does.

    Raises:
        KeyError: no such keyword.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def keyword_of(tag: int) -> str:
    """The element keyword of a tag, or ``(gggg,eeee)`` where the dictionary has none."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"

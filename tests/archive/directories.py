"""DICOMDIRs in every shape that the field has, built byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack

from gateway.dicom.encoding import LONG_VRS, UNDEFINED
from gateway.dicom.tags import tag_of, vr_of

SYNTAXES = {
    (True, False): "1.2.840.10008.1.2",
    (False, False): "1.2.840.10008.1.2.1",
    (False, True): "1.2.840.10008.1.2.2",
}
CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass
class Entry:
    """A record to be written; ``parent`` is the position of another one, -1 for the root."""

    parent: int
    type: str
    values: dict[str, str]
    in_use: bool = True


def tree(patients: int = 2, studies: int = 1, instances: int = 2) -> list[Entry]:
    """An ordinary directory in depth-first order."""
    found: list[Entry] = []
    for p in range(1, patients + 1):
        found.append(Entry(-1, "PATIENT", {"PatientName": f"Patient^{p}", "PatientID": f"P{p}"}))
        patient = len(found) - 1
        for s in range(1, studies + 1):
            uid = f"1.2.3.{p}.{s}"
            found.append(Entry(patient, "STUDY", {"StudyInstanceUID": uid, "StudyDate": "20240101", "StudyID": "1"}))
            found.append(Entry(len(found) - 1, "SERIES", {"Modality": "CT", "SeriesInstanceUID": f"{uid}.1"}))
            series = len(found) - 1
            for i in range(1, instances + 1):
                values = {
                    "ReferencedFileID": f"DICOM\\P{p}\\S{s}\\I{i}",
                    "ReferencedSOPClassUIDInFile": CT,
                    "ReferencedSOPInstanceUIDInFile": f"{uid}.1.{i}",
                    "ReferencedTransferSyntaxUIDInFile": "1.2.840.10008.1.2.1",
                    "InstanceNumber": str(i),
                }
                found.append(Entry(series, "IMAGE", values))
    return found


@dataclass
class Shape:
    """How a directory is written."""

    implicit: bool = False
    big: bool = False
    undefined_items: bool = False
    undefined_sequence: bool = True
    item_delimiters: bool = True
    sequence_delimiter: bool = True
    shift: int = 0
    links: bool = True
    first: bool = True

    def element(self, tag: int, value: bytes, vr: str = "") -> bytes:
        order, vr = (">" if self.big else "<"), vr or vr_of(tag)
        head = pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return head + pack("<L", len(value)) + value
        if vr in LONG_VRS:
            return head + vr.encode() + b"\0\0" + pack(f"{order}L", len(value)) + value
        return head + vr.encode() + pack(f"{order}H", len(value)) + value

    def text(self, keyword: str, value: str) -> bytes:
        tag = tag_of(keyword)
        pad = "\0" if vr_of(tag) == "UI" else " "
        return self.element(tag, (value + pad * (len(value) % 2)).encode())

    def number(self, tag: int, value: int, code: str = "L") -> bytes:
        order = ">" if self.big else "<"
        return self.element(tag, pack(f"{order}{code}", value), {"L": "UL", "H": "US"}[code])

    def delimiter(self, element: int, length: int = 0) -> bytes:
        return pack(f"{'>' if self.big else '<'}HHL", 0xFFFE, element, length)

    def record(self, entry: Entry, following: int, lower: int) -> bytes:
        body = self.number(0x00041400, following) + self.number(0x00041410, 0xFFFF if entry.in_use else 0, "H")
        body += self.number(0x00041420, lower) + self.text("DirectoryRecordType", entry.type)
        values = sorted(entry.values.items(), key=lambda one: tag_of(one[0]))
        body += b"".join(self.text(keyword, value) for keyword, value in values)
        if not self.undefined_items:
            return self.delimiter(0xE000, len(body)) + body
        return self.delimiter(0xE000, UNDEFINED) + body + (self.delimiter(0xE00D) if self.item_delimiters else b"")

    def front(self, first: int, last: int, length: int) -> bytes:
        uid = SYNTAXES[self.implicit, self.big]
        meta = Shape()
        syntax = meta.text("TransferSyntaxUID", uid)
        found = bytes(128) + b"DICM" + meta.number(0x00020000, len(syntax)) + syntax
        found += self.text("FileSetID", "TEST") + self.number(0x00041200, first) + self.number(0x00041202, last)
        found += self.number(0x00041212, 0, "H")
        order = ">" if self.big else "<"
        head = pack(f"{order}HH", 0x0004, 0x1220) + (b"" if self.implicit else b"SQ\0\0")
        return found + head + pack(f"{order}L", UNDEFINED if self.undefined_sequence else length)

    def build(self, entries: list[Entry]) -> bytes:
        """The whole file."""
        sizes = [len(self.record(one, 0, 0)) for one in entries]
        start = len(self.front(0, 0, 0))
        places = [start + sum(sizes[:at]) for at in range(len(entries))]

        def link(found: list[int]) -> int:
            return places[found[0]] + self.shift if found and self.links else 0

        records = []
        for at, entry in enumerate(entries):
            sisters = [one for one in range(at + 1, len(entries)) if entries[one].parent == entry.parent]
            children = [one for one in range(len(entries)) if entries[one].parent == at]
            records.append(self.record(entry, link(sisters), link(children)))
        roots = [at for at, one in enumerate(entries) if one.parent == -1]
        ends = (link(roots), link(roots[::-1])) if self.first else (0, 0)
        body = b"".join(records)
        tail = self.delimiter(0xE0DD) if self.undefined_sequence and self.sequence_delimiter else b""
        return self.front(*ends, len(body)) + body + tail

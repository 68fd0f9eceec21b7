from io import BytesIO

from pydicom import dcmread

from gateway import IMPLEMENTATION_CLASS_UID
from gateway.dicom.part10 import file_head

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def test_another_reader_finds_what_was_written() -> None:
    head = file_head(CT, "1.2.3", EXPLICIT, "MODALITY1")
    meta = dcmread(BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.SourceApplicationEntityTitle == "MODALITY1"
    assert meta.FileMetaInformationGroupLength == len(head) - 132 - 12


def test_the_preamble_is_empty_and_a_source_may_be_missing() -> None:
    head = file_head(CT, "1.2.3", EXPLICIT)
    assert head[:128] == bytes(128)
    assert "SourceApplicationEntityTitle" not in dcmread(BytesIO(head)).file_meta

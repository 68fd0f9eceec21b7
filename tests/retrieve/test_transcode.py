"""Lossless transcoding: pixel for pixel and element for element what pydicom reads from the original."""

# ruff: noqa: ARG001 - pydicom's callback

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian

from gateway.dicom.instance import Outgoing
from gateway.errors import BadInstance, StorageError
from gateway.retrieve import transcode as module
from gateway.retrieve.contexts import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.retrieve.contexts import FALLBACKS
from gateway.retrieve.contexts import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.retrieve.transcode import COMPRESSED, transcode

NATIVE = ["CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "test-SR.dcm", "liver_1frame.dcm",
          "MR_small_padded.dcm", "examples_palette.dcm"]  # fmt: skip
DECODED = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm",
           "SC_rgb_rle_2frame.dcm", "MR_small_bigendian.dcm", "liver_expb_1frame.dcm",
           "image_dfl.dcm"]  # fmt: skip
_TRAILING = 0xFFFCFFFC


def path_of(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def _behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group > 2


def stored(path: str) -> Outgoing:
    with Path(path).open("rb") as file:
        file.seek(132)
        read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_behind_meta)
        offset = file.tell()
    meta = dcmread(path, stop_before_pixels=True)
    syntax = str(meta.file_meta.TransferSyntaxUID)
    return Outgoing(
        str(meta.SOPClassUID), str(meta.SOPInstanceUID), syntax, b"", path, offset, Path(path).stat().st_size - offset
    )


def sent(outgoing: Outgoing) -> Dataset:
    """The data set as a receiver reads it."""
    with Path(outgoing.path).open("rb") as file:
        file.seek(outgoing.offset)
        data = outgoing.head + file.read(outgoing.length)
    return read_dataset(BytesIO(data), outgoing.transfer_syntax_uid == IMPLICIT, is_little_endian=True)


def differences(old: Dataset, new: Dataset) -> list[str]:
    return [
        str(element.tag)
        for element in old
        if element.tag.element
        and element.tag != _TRAILING
        and (element.tag not in new or new[element.tag].value != element.value)
    ] + [str(element.tag) for element in new if element.tag not in old]


@pytest.mark.parametrize("target", FALLBACKS)
@pytest.mark.parametrize("name", [*NATIVE, *DECODED])
def test_every_element_reads_the_same_afterwards(name: str, target: str) -> None:
    original = dcmread(path_of(name))
    before = stored(path_of(name))
    if before.transfer_syntax_uid == target:
        pytest.skip("it is in this syntax already")
    after = transcode(before, target)
    assert after.transfer_syntax_uid == target
    if before.transfer_syntax_uid in COMPRESSED:
        original.decompress(as_rgb=False, generate_instance_uid=False)
    new = sent(after)
    if original.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and "PixelData" in original:
        swap, pixels = (2 if original["PixelData"].VR == "OW" else 1), original.PixelData
        assert new.PixelData == b"".join(pixels[at : at + swap][::-1] for at in range(0, len(pixels), swap))
        del original.PixelData, new.PixelData
    assert differences(original, new) == []


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_decompressed_pixels_are_those_that_were_compressed(name: str) -> None:
    assert sent(transcode(stored(path_of(name)), EXPLICIT)).PixelData == dcmread(path_of("MR_small.dcm")).PixelData


def test_pixel_data_stays_in_the_file_between_the_little_endian_syntaxes() -> None:
    before = stored(path_of("liver_1frame.dcm"))
    after = transcode(before, IMPLICIT)
    assert (after.path, after.length) == (before.path, 32768)


def test_a_coerced_head_is_transcoded_with_the_rest() -> None:
    before = stored(path_of("liver_1frame.dcm"))
    cut = 500
    with Path(before.path).open("rb") as file:
        file.seek(before.offset)
        head = file.read(cut)
    coerced = Outgoing(*before_head(before), head, before.path, before.offset + cut, before.length - cut)
    assert differences(dcmread(before.path), sent(transcode(coerced, IMPLICIT))) == []


def before_head(outgoing: Outgoing) -> tuple[str, str, str]:
    return outgoing.sop_class_uid, outgoing.sop_instance_uid, outgoing.transfer_syntax_uid


def test_signed_values_get_their_vr_from_pixel_representation(tmp_path: Path) -> None:
    dataset = dcmread(path_of("CT_small.dcm"))
    assert dataset.PixelRepresentation == 1
    dataset.SmallestImagePixelValue = -5
    dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT)
    dataset.save_as(tmp_path / "signed.dcm", implicit_vr=True, little_endian=True)
    new = sent(transcode(stored(str(tmp_path / "signed.dcm")), EXPLICIT))
    assert new["SmallestImagePixelValue"].VR == "SS"
    assert new.SmallestImagePixelValue == -5


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPEG2000.dcm", "SC_rgb_jls_lossy_line.dcm"])
def test_lossy_images_are_not_decoded(name: str) -> None:
    class Everything:
        def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
            return bool(sop_class_uid and transfer_syntax_uid)

        def store(self, outgoing: Outgoing, originator: object = None, following: object = None) -> int:
            raise AssertionError(outgoing, originator, following)

    assert module.target_for(stored(path_of(name)), Everything()) is None
    assert module.target_for(stored(path_of("MR_small_RLE.dcm")), Everything()) == EXPLICIT


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan_truncated.dcm"])
def test_a_truncated_instance_is_a_bad_one(name: str) -> None:
    before = stored(path_of(name))
    with pytest.raises(BadInstance):
        transcode(before, IMPLICIT if before.transfer_syntax_uid == EXPLICIT else EXPLICIT)


@pytest.mark.parametrize("name", ["J2K_pixelrep_mismatch.dcm"])
def test_an_instance_that_cannot_be_decoded_is_a_bad_one(name: str) -> None:
    with pytest.raises(BadInstance):
        transcode(stored(path_of(name)), EXPLICIT)


def test_32_bit_big_endian_pixels_are_not_guessed_at() -> None:
    with pytest.raises(BadInstance, match="byte order"):
        transcode(stored(path_of("rtdose_expb.dcm")), EXPLICIT)


def test_a_large_compressed_instance_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY", 1000)
    with pytest.raises(BadInstance, match="too large"):
        transcode(stored(path_of("MR_small_RLE.dcm")), EXPLICIT)


def test_a_deflated_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY", 200_000)
    with pytest.raises(BadInstance):
        transcode(stored(path_of("image_dfl.dcm")), EXPLICIT)


def test_a_file_that_is_gone_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        transcode(Outgoing("1.2", "1.3", EXPLICIT, b"", str(tmp_path / "gone"), 0, 100), IMPLICIT)

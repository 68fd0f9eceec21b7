from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from gateway.dicom import charset, encoding, tags
from gateway.dicom.attributes import Attributes, MalformedDataset
from gateway.dicom.encoded import Encoded
from gateway.dicom.tags import tag_of


def encoded_by_pydicom(dataset: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def sample() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Müller^Jörg"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.ModalitiesInStudy = ["CT", "MR"]
    dataset.NumberOfStudyRelatedInstances = 7
    dataset.Rows = 512
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-1", "Rücken"
    dataset.ProcedureCodeSequence = [inner]
    return dataset


@pytest.mark.parametrize("implicit", [True, False])
def test_reads_what_pydicom_wrote_and_writes_what_pydicom_reads(implicit: bool) -> None:
    dataset = sample()
    attributes = Attributes.decode(encoded_by_pydicom(dataset, implicit=implicit), implicit=implicit)
    assert attributes.text(tags.PatientName) == "Müller^Jörg"
    assert attributes.texts(tags.ModalitiesInStudy) == ("CT", "MR")
    assert attributes.text(tags.StudyInstanceUID) == "1.2.3"
    assert attributes.numbers(tag_of("Rows")) == (512,)
    assert attributes.sequence(tag_of("ProcedureCodeSequence"))[0].text(tag_of("CodeMeaning")) == "Rücken"
    again = read_dataset(BytesIO(attributes.encode(implicit=implicit)), is_implicit_VR=implicit, is_little_endian=True)
    assert again == dataset


def test_undefined_lengths_read_as_the_canonical_form() -> None:
    dataset = sample()
    dataset["ProcedureCodeSequence"].is_undefined_length = True
    dataset.ProcedureCodeSequence[0].is_undefined_length_sequence_item = True
    undefined = Attributes.decode(encoded_by_pydicom(dataset, implicit=False), implicit=False)
    defined = Attributes.decode(encoded_by_pydicom(sample(), implicit=True), implicit=True)
    assert undefined == defined


def test_overlay_unifies_the_character_set() -> None:
    local = Attributes.of({"PatientName": "Müller^Jörg", "StudyID": "7"}, terms=("ISO_IR 100",))
    leading = Attributes.of({"PatientName": "山田^太郎"}, terms=("ISO_IR 192",))
    both = local.overlay(leading)
    assert both.terms == ("ISO_IR 192",)
    assert (both.text(tags.PatientName), both.text(tags.StudyID)) == ("山田^太郎", "7")
    assert leading.overlay(local).text(tags.PatientName) == "Müller^Jörg"


def test_an_overlay_in_ascii_keeps_the_local_character_set() -> None:
    local = Attributes.of({"PatientName": "Müller^Jörg", "StudyID": "7"}, terms=("ISO_IR 100",))
    both = local.overlay(Attributes.of({"StudyID": "8"}, terms=("ISO_IR 192",)))
    assert both.terms == ("ISO_IR 100",)
    assert both.text(tags.PatientName) == "Müller^Jörg"


def test_a_text_that_needs_it_is_written_in_unicode() -> None:
    assert Attributes.of({"PatientName": "山田^太郎"}).terms == ("ISO_IR 192",)
    assert Attributes.of({"PatientName": "Doe^Jane"}).terms == ()


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (("ISO_IR 100",), "Buc^Jérôme"),
        (("ISO_IR 144",), "Люкceмбypг"),
        (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
        (("GB18030",), "Wang^XiaoDong=王^小东="),
        (("", "ISO 2022 IR 100", "ISO 2022 IR 144"), "Müller=Люкceмбypг"),
    ],
)
def test_character_sets_of_the_standards_examples_round_trip(terms: charset.Terms, text: str) -> None:
    assert charset.decode(charset.encode(text, terms), terms) == text


def test_decoding_agrees_with_the_bytes_printed_in_the_standard() -> None:
    # PS3.5 H.3.1 and I.2
    japanese = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    assert charset.decode(japanese, ("", "ISO 2022 IR 87")) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    korean = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
    assert charset.decode(korean, ("", "ISO 2022 IR 149")) == "Hong^Gildong=洪^吉洞=홍^길동"


def test_what_a_set_cannot_represent_is_said() -> None:
    with pytest.raises(charset.Unrepresentable):
        charset.encode("山田", ("ISO_IR 100",))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, implicit: bool) -> None:
    try:
        attributes = Attributes.decode(data, implicit=implicit)
    except MalformedDataset as malformed:
        assert 0 <= malformed.offset <= len(data)  # noqa: PT017
        return
    assert Attributes.decode(attributes.encode(implicit=False), implicit=False) == attributes


def test_deep_nesting_is_refused() -> None:
    data = b""
    for _ in range(100):
        data = (
            b"\x08\x00\x10\x11SQ\0\0"
            + (len(data) + 8).to_bytes(4, "little")
            + b"\xfe\xff\x00\xe0"
            + len(data).to_bytes(4, "little")
            + data
        )
    with pytest.raises(MalformedDataset, match="nested deeper"):
        Attributes.decode(data, implicit=False)


def test_a_repr_shows_no_values() -> None:
    assert "Doe" not in repr(Attributes.of({"PatientName": "Doe^Jane"}))


def test_reading_stops_before_a_header_of_another_syntax() -> None:
    meta = b"\2\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    implicit = b"\x08\0\x12\0\x08\0\0\x0020030903"
    elements, offset = encoding.read(meta + implicit, implicit=False, stop=0x00030000)
    assert (list(elements), offset) == ([0x00020010], len(meta))


def test_what_comes_encoded_is_the_same_and_decoded_at_the_first_look() -> None:
    made = Attributes.of({"PatientName": "Müller", "StudyDate": "20240131"})
    again = Encoded(made.encode(implicit=False))
    assert again.encode(implicit=True) == made.encode(implicit=True)
    assert again == made
    assert hash(again) == hash(made)
    assert (again.text(tag_of("PatientName")), len(again)) == ("Müller", 3)
    with pytest.raises(MalformedDataset):
        len(Encoded(b"x"))

from hypothesis import given
from hypothesis import strategies as st

from gateway.retrieve.contexts import EXPLICIT_VR_LITTLE_ENDIAN, FALLBACKS, IMPLICIT_VR_LITTLE_ENDIAN, proposals

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
RLE = "1.2.840.10008.1.2.5"

numbers = st.integers(min_value=1, max_value=40)
pairs = st.lists(st.tuples(numbers.map(lambda n: f"1.2.{n}"), numbers.map(lambda n: f"1.3.{n}")), max_size=400)


def test_each_class_is_proposed_as_stored_and_with_the_syntaxes_everybody_reads() -> None:
    assert proposals([(CT, RLE), (CT, RLE), (MR, EXPLICIT_VR_LITTLE_ENDIAN)]) == [
        [
            (CT, RLE),
            (CT, EXPLICIT_VR_LITTLE_ENDIAN),
            (CT, IMPLICIT_VR_LITTLE_ENDIAN),
            (MR, EXPLICIT_VR_LITTLE_ENDIAN),
            (MR, IMPLICIT_VR_LITTLE_ENDIAN),
        ]
    ]


def test_more_than_128_contexts_need_another_association() -> None:
    associations = proposals((f"1.2.{number}", RLE) for number in range(43))
    assert [len(contexts) for contexts in associations] == [126, 3]


@given(pairs)
def test_every_pair_is_proposed_and_no_association_has_too_many(wanted: list[tuple[str, str]]) -> None:
    associations = proposals(wanted)
    assert all(len(contexts) <= 128 and len(set(contexts)) == len(contexts) for contexts in associations)
    proposed = {pair for contexts in associations for pair in contexts}
    assert set(wanted) <= proposed
    assert {(sop_class, syntax) for sop_class, _ in wanted for syntax in FALLBACKS} <= proposed

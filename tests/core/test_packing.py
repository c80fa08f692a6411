"""Batches never pass a ceiling, and nothing is left out or moved."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.packing import Packed, Packer, body_bytes
from cdf_upsert.core.record import Record
from tests.records import make_record


def body(records: list[Record]) -> bytes:
    return b'{"items":[' + b",".join(record.text for record in records) + b"]}"


SMALLEST = len(body([make_record(0, "k")]))


@given(
    pads=st.lists(st.lists(st.integers(0, 300), max_size=30), max_size=20),
    most_records=st.integers(1, 12),
    room=st.integers(320, 2000),
)
def test_batches_are_the_input_under_both_ceilings(
    pads: list[list[int]], most_records: int, room: int
) -> None:
    """However records arrive, the batches joined are the input, each is under both ceilings, and as full as it can be."""
    most_bytes = SMALLEST + room
    packer = Packer(most_records, most_bytes)
    given_records: list[Record] = []
    packed: list[Packed] = []
    for some in pads:
        block = [make_record(len(given_records) + i, "k", pad=pad) for i, pad in enumerate(some)]
        given_records += block
        packed += packer.add(block)
    packed += [packer.flush()] if packer.waiting else []
    batches = [one.records for one in packed]
    assert [one.nbytes for one in packed] == [body_bytes(batch) for batch in batches]
    assert [record for batch in batches for record in batch] == given_records
    for batch in batches:
        assert 0 < len(batch) <= most_records
        assert body_bytes(batch) == len(body(batch)) <= most_bytes
    for batch, following in pairwise(batches):
        assert len(batch) == most_records or body_bytes([*batch, following[0]]) > most_bytes


def test_a_body_may_have_exactly_the_ceiling() -> None:
    """A batch whose body has exactly as many bytes as allowed is one batch; with one byte less it is two."""
    records = [make_record(0, "a"), make_record(1, "b")]
    size = len(body(records))
    packer = Packer(1000, size)
    assert packer.add(records) == []
    assert packer.flush() == Packed(records, size)
    assert [one.records for one in Packer(1000, size - 1).add(records)] == [records[:1]]


def test_a_full_batch_goes_at_once() -> None:
    """A batch that has reached its count is not held back until the next record comes."""
    records = [make_record(i, str(i)) for i in range(3)]
    assert [one.records for one in Packer(3, 10_000).add(records)] == [records]


@pytest.mark.parametrize("ceiling", [1, SMALLEST - 1, SMALLEST])
def test_a_lowered_ceiling_holds_for_what_comes(ceiling: int) -> None:
    """After the service called a batch too large the next are smaller; one record is still sent, alone."""
    packer = Packer(1000, 100_000)
    packer.lower(ceiling)
    records = [make_record(i, "k") for i in range(3)]
    packed = [*packer.add(records), packer.flush()]
    assert [one.records for one in packed if one.records] == [[record] for record in records]

"""Whether an input that can be read only once brings the same bytes again."""

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.errors import UsageError
from cdf_upsert.journal.same import KEPT_EVERY, Mark, SameBytes, VerifiedReader

DATA = random.Random(7).randbytes(1000)


def marks_of(data: bytes, lengths: Sequence[int]) -> list[Mark]:
    same = SameBytes("standard input")
    marks, at = [], 0
    for length in sorted({*lengths}):
        same.feed(data[at:length])
        at = length
        assert same.latest is not None
        marks.append(same.latest)
    return marks


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *cuts})
    return [data[a:b] for a, b in pairwise(edges)]


some_lengths = st.lists(st.integers(1, len(DATA)), min_size=1, max_size=6)


@given(some_lengths, some_lengths)
def test_the_same_bytes_are_the_same_however_they_are_cut(lengths: list[int], cuts: list[int]) -> None:
    """The bytes of the earlier run pass, in pieces of any size, and are verified exactly up to the marks."""
    same = SameBytes("standard input", marks_of(DATA, lengths))
    fed = 0
    for piece in pieces(DATA, cuts):
        same.feed(piece)
        fed += len(piece)
        reached = [length for length in lengths if length <= fed]
        assert same.verified == (None if fed >= max(lengths) else max(reached, default=0))
    same.end()
    assert same.latest == marks_of(DATA, [len(DATA)])[0]


@given(some_lengths, some_lengths, st.integers(0, len(DATA) - 1))
def test_other_bytes_are_told_before_they_pass(lengths: list[int], cuts: list[int], at: int) -> None:
    """A difference anywhere before the last mark is told, and never lies in what is verified."""
    other = bytearray(DATA)
    other[at] ^= 1
    same = SameBytes("standard input", marks_of(DATA, lengths))
    if at >= max(lengths):
        same.feed(bytes(other))
        return
    with pytest.raises(UsageError) as caught:  # noqa: PT012  Each piece may be the one that is told.
        for piece in pieces(bytes(other), cuts):
            same.feed(piece)
            assert same.verified is not None
            assert same.verified <= at
    end = min(length for length in lengths if length > at)
    begin = max((length for length in lengths if length <= at), default=0)
    assert (
        f"standard input is not what it was in the earlier run: it differs between bytes {begin:,} and {end:,}"
        in str(caught.value)
    )


def test_an_input_that_ends_too_early_is_told() -> None:
    """The end comes before the earlier run's: the sentence says where each of them was."""
    same = SameBytes("standard input", marks_of(DATA, [400, 1000]))
    same.feed(DATA[:999])
    with pytest.raises(UsageError, match="it ends after 999 bytes, where that run has read 1,000"):
        same.end()


@given(some_lengths, st.booleans(), st.booleans())
def test_more_than_the_earlier_run_has_read_is_told_where_nothing_may_follow(
    cuts: list[int], ended: bool, closed: bool
) -> None:
    """However the bytes are cut; elsewhere more may follow, and all of it is heard. That it ended stays known."""
    same = SameBytes("standard input", marks_of(DATA, [400, 900]), ended=ended, closed=closed)
    told = None
    try:
        for piece in pieces(DATA, cuts):
            same.feed(piece)
    except UsageError as error:
        told = str(error)
    assert (told is not None) == closed
    if told is None:
        assert same.latest == marks_of(DATA, [len(DATA)])[0]
        assert same.ended == ended
        same.end()
        assert same.ended
    else:
        assert "it goes on after 900 bytes, where it ended then" in told
        assert same.latest == marks_of(DATA, [900])[0]


def test_marks_are_kept_now_and_then() -> None:
    """A mark is kept for good every four million bytes, and none while the earlier run's are not passed."""
    same = SameBytes("standard input", [(10, marks_of(DATA, [10])[0][1])])
    same.feed(DATA[:9])
    assert same.latest is None
    assert same.keep() is None
    same.feed(DATA[9:10])
    assert same.latest is not None
    assert same.keep() is None
    same.feed(bytes(KEPT_EVERY))
    kept = same.keep()
    assert kept is not None
    assert kept[0] == KEPT_EVERY + 10
    assert same.keep() is None


class Scripted:
    """A reader that hears its bytes and answers records at once, as the sources do."""

    format = "ndjson"
    total_bytes = None
    position = 0

    def __init__(self, same: SameBytes, data: bytes, step: int) -> None:
        self._same, self._data, self._step = same, data, step
        self._at = 0
        self.closed = False

    async def read(self) -> Sequence[Frames | Unframed] | None:
        if self._at >= len(self._data):
            return None
        piece = self._data[self._at : self._at + self._step]
        self._same.feed(piece)
        self._at += len(piece)
        return [Frames("-", [piece], [self._at], [1], 1, Position(self._at))]

    async def close(self) -> None:
        self.closed = True


async def all_read(reader: VerifiedReader) -> list[bytes]:
    texts: list[bytes] = []
    while (some := await reader.read()) is not None:
        assert some
        texts += [text for one in some if isinstance(one, Frames) for text in one.texts]
    return texts


def test_nothing_of_other_bytes_is_handed_on() -> None:
    """What is read is held back until it is known to be the same, also what comes before the difference."""
    same = SameBytes("standard input", marks_of(DATA, [300, 900]))
    other = DATA[:500] + b"?" + DATA[501:]
    reader = VerifiedReader(Scripted(same, other, 100), same)
    handed: list[bytes] = []

    async def run() -> None:
        while (some := await reader.read()) is not None:
            handed.extend(text for one in some if isinstance(one, Frames) for text in one.texts)

    with pytest.raises(UsageError):
        asyncio.run(run())
    assert b"".join(handed) == DATA[:300]


@given(some_lengths, st.integers(1, 400))
def test_the_same_bytes_are_all_handed_on_in_order(lengths: list[int], step: int) -> None:
    """Nothing is lost or turned round by being held back."""
    same = SameBytes("standard input", marks_of(DATA, lengths))
    inner = Scripted(same, DATA, step)
    reader = VerifiedReader(inner, same)
    assert b"".join(asyncio.run(all_read(reader))) == DATA
    asyncio.run(reader.close())
    assert inner.closed


def test_a_new_input_is_not_held_back() -> None:
    """Without an earlier run each record is handed on as it comes."""
    same = SameBytes("standard input")
    reader = VerifiedReader(Scripted(same, DATA, 100), same)
    some = asyncio.run(reader.read())
    assert some is not None
    assert len(some) == 1

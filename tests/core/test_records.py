"""Records in columns are the same records, however they are cut and put together."""

from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.checking import Checker
from cdf_upsert.core.framing import Frames, Position
from cdf_upsert.core.record import Record, Records, keys_of, picked, texts_of
from tests.records import make_record, make_text


def checked(first: int, count: int, path: str) -> Records:
    """Records as the checker makes them of a block."""
    texts = [make_text(f"k{first + i}", pad=i) for i in range(count)]
    frames = Frames(path, texts, range(0, count * 7, 7), range(1, count + 1), 1 + first, Position())
    records = Checker(10_000_000).check(frames, first).records
    assert isinstance(records, Records)
    return records


def one_by_one(records: Records) -> list[Record]:
    """What the columns must hold: made anew from what the block was."""
    return [records[i] for i in range(len(records))]


blocks = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["a", "b"]), st.booleans()), min_size=1, max_size=6
)


@given(given=blocks, data=st.data())
def test_cut_and_joined_they_are_the_same_records(
    given: list[tuple[int, str, bool]], data: st.DataObject
) -> None:
    """Blocks joined, sliced, picked from and put into columns again hold what lists of the same records hold."""
    parts: list[Records] = []
    expected: list[Record] = []
    for count, path, plain in given:
        part = checked(len(expected), count, path)
        alone = [
            Record(make_text(f"k{n}", pad=i), ("s", f"k{n}"), n, path, n + 1, i + 1, i * 7)
            for i, n in enumerate(range(len(expected), len(expected) + count))
        ]
        parts.append(Records.of(alone) if plain else part)
        expected += alone
    records = Records.joined(parts)
    for _ in range(3):
        assert list(records) == expected == one_by_one(records)
        assert (len(records), records.keys, records.texts) == (
            len(expected),
            keys_of(expected),
            texts_of(expected),
        )
        assert [n for first, end in records.spans for n in range(first, end)] == [r.ordinal for r in expected]
        if data.draw(st.booleans()):
            some = data.draw(st.slices(len(expected)))
            records, expected = records[some], expected[some]
        else:
            places = data.draw(st.lists(st.integers(0, len(expected) - 1), unique=True)) if expected else []
            taken = picked(records, places)
            assert isinstance(taken, Records)
            records, expected = taken, list(picked(expected, places))


def test_consecutive_records_stand_in_one_span() -> None:
    """A whole block is one span of ordinals, however many records it has: the journal writes that down."""
    records = checked(40, 12, "a")
    assert records.spans == [(40, 52)]
    assert records[3:7].spans == [(43, 47)]
    assert records.take([0, 1, 2, 5, 6]).spans == [(40, 43), (45, 47)]


def test_they_are_compared_by_what_they_hold() -> None:
    """Columns equal any sequence of the same records, and no other."""
    records = [make_record(0, "a"), make_record(1, "b")]
    assert Records.of(records) == records
    assert Records.of(records) != records[:1]
    assert records[:0] == [] == Records.of([])

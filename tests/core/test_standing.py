"""Sets of ordinals as ranges."""

from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.standing import Ranges

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(spans, st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_the_set_of_their_members(
    given_spans: list[tuple[int, int]], first: int, end: int
) -> None:
    """Union, count, members and what is missing are those of the plain set."""
    plain = {i for a, b in given_spans for i in range(a, b)}
    ranges = Ranges.of(given_spans)
    assert list(ranges) == sorted(plain)
    assert len(ranges) == len(plain)
    missing = [i for a, b in ranges.missing_from(first, end) for i in range(a, b)]
    assert missing == [i for i in range(first, end) if i not in plain]

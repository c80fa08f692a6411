"""Writes that overlap: the later one loses the keys that both want."""

from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.sandbox.flights import Flights
from tests.sandbox.builders import patient


def test_the_later_of_two_overlapping_writes_loses_the_shared_keys():
    """While the first is unanswered the second gets back the keys that both name, and only those."""
    flights = Flights()
    first, second = flights.arrive(), flights.arrive()
    assert flights.claim(first, "s", ["a", "b"]) == frozenset()
    assert flights.claim(second, "s", ["b", "c"]) == {"b"}
    flights.depart(first)
    assert flights.claim(flights.arrive(), "s", ["c"]) == {"c"}
    assert flights.claim(flights.arrive(), "elsewhere", ["c"]) == frozenset()


def test_a_write_that_began_before_the_other_was_answered_overlaps():
    """What counts is when the request came in, not when its body was read."""
    flights = Flights()
    first, second = flights.arrive(), flights.arrive()
    flights.claim(first, "s", ["a"])
    flights.depart(first)
    assert flights.claim(second, "s", ["a"]) == {"a"}
    flights.depart(second)
    assert flights.claim(flights.arrive(), "s", ["a"]) == frozenset()


@patient
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.frozensets(st.sampled_from("abcd"))), max_size=60)
)
def test_overlap_is_that_of_the_times(steps):
    """Keys are lost exactly to earlier claims of writes whose time overlaps; nothing is remembered for ever."""
    flights, under_way, past = Flights(), [], []
    for time, (arrives, index, keys) in enumerate(steps):
        if arrives or not under_way:
            flight = flights.arrive()
            others = [(kept, end) for _, kept, end in under_way + past]
            expected = {key for kept, end in others if end is None or end > time for key in keys & kept}
            assert flights.claim(flight, "s", keys) == expected
            under_way.append((flight, keys - expected, None))
        else:
            flight, kept, _ = under_way.pop(index % len(under_way))
            flights.depart(flight)
            past.append((flight, kept, time))
    for flight, _, _ in under_way:
        flights.depart(flight)
    assert flights._flights == []
    assert flights._open == 0

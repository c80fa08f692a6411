"""Failures that differ only in names or numbers are one group."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.framing import Place
from cdf_upsert.core.grouping import MOST_CHARACTERS, OTHERS, FailureGroups, pattern_of
from cdf_upsert.core.record import Failed, Failure, FailureClass, Key


def a_failure(
    message: str,
    *,
    ordinal: int = 0,
    kind: FailureClass = FailureClass.REJECTED,
    status: int | None = 400,
    key: Key | None = None,
    path: str = "a.ndjson",
) -> Failed:
    place = Place(path, ordinal + 1, ordinal + 1, 100 * ordinal, 100)
    return Failed(ordinal, place, Failure(kind, message, status), b"{}", key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the text is 12 bytes long", "the text is 13,000,000 bytes long"),
        ("Unknown container 'weather'", "Unknown container 'flights of may'"),
        ('no property "a b" in `x`', 'no property "c" in `y z`'),
        ("sources[0].properties: expected object", "sources[12].properties: expected object"),
        ("trace 3fa85f64-5717-4562-b3fc-2c963f66afa6", "trace 00000000-0000-4562-b3fc-2c963f66afa7"),
        ("since 2026-05-28T12:00:00Z", "since 2025-01-01T00:00:00.123Z"),
        ("bad value -1.5e-7 in EWR-1", "bad value 2 in LGA-22"),
        ("record EWR-2013-01-01T05 is locked", "record LGA-2014-02-03T04 is locked"),
    ],
)
def test_names_and_numbers_make_no_difference(one, other):
    """Two messages that differ only in a quoted name, a number or a word with a digit are one group."""
    assert pattern_of(one) == pattern_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("temp: expected int32", "temp: expected int64"),
        ("temp: expected float64", "temp: expected int64"),
        ("space: missing", "externalId: missing"),
        ("can't read the record's key", "can't read the record's name"),
        ("value 5 is too large", "value 5 is too small"),
    ],
)
def test_what_is_meant_makes_a_difference(one, other):
    """Property types, other words and apostrophes do not make two different messages one."""
    assert pattern_of(one) != pattern_of(other)


def test_the_key_of_a_record_is_a_name():
    """A message that names the record without quotes and digits is grouped by what it says of it."""
    one = pattern_of("weather.newark is being modified", ("weather", "newark"))
    assert one == pattern_of("flights.la guardia is being modified", ("flights", "la guardia"))


@given(st.lists(st.integers(min_value=0), min_size=2, max_size=2), st.text("abc' [].,:\"", max_size=30))
def test_any_number_anywhere(numbers, around):
    """Whatever stands around a number, another number in its place changes nothing."""
    one, other = (f"{around} {number} {around}" for number in numbers)
    assert pattern_of(one) == pattern_of(other)


@pytest.mark.parametrize("piece", ["a", "'", '"', "a1", "1,", "aaaaaaaaaa'", ".", " '", "int", "float3"])
def test_a_hostile_message_costs_no_time(piece):
    """A pattern is found in a time that grows with the length of a message and no faster."""
    began = time.process_time()
    pattern_of(piece * 100_000)
    assert time.process_time() - began < 5


def test_groups_keep_count_and_the_first_example():
    """A group counts its failures and shows the first in input order, in whatever order they settle."""
    groups = FailureGroups()
    for ordinal in (7, 3, 9):
        groups.add(a_failure(f"bad value {ordinal}", ordinal=ordinal, key=("s", f"k{ordinal}")))
    (group,) = groups.most_common()
    assert (group.count, group.message, group.key) == (3, "bad value 3", ("s", "k3"))
    assert group.place is not None
    assert group.place.line == 4


def test_class_and_status_part_groups():
    """The same words under another class or status are another group; the largest group comes first."""
    groups = FailureGroups()
    groups.add(a_failure("why", status=400))
    groups.add(a_failure("why", status=409, kind=FailureClass.CONFLICT, ordinal=1))
    groups.add(a_failure("why", status=500, kind=FailureClass.UNAVAILABLE, ordinal=2))
    groups.add(a_failure("why", status=500, kind=FailureClass.UNAVAILABLE, ordinal=3))
    assert [(group.status, group.count) for group in groups.most_common()] == [(500, 2), (400, 1), (409, 1)]


def test_groups_are_bounded():
    """When too many different messages come, the later ones are counted as others, and none is lost."""
    groups = FailureGroups(most=3)
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    for ordinal, word in enumerate(words * 2):
        groups.add(a_failure(word * 1000, ordinal=ordinal, status=400 + ordinal % 2))
    told = groups.most_common()
    assert sum(group.count for group in told) == 16
    assert [group.message for group in told[3:]] == [OTHERS, OTHERS]
    assert max(len(group.message) for group in told) <= MOST_CHARACTERS

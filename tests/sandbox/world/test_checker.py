"""Property values: what each type takes and what it refuses."""

import datetime as dt
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from cdf_upsert.sandbox.world.checker import DATE, TIME, Checker, Fault
from cdf_upsert.sandbox.world.definitions import Property, PropertyType
from tests.sandbox.builders import TYPES, encode, patient

RELATION = {"space": "plant", "externalId": "n"}
GOOD = {
    "text": ["", "x", "ø" * 64_000],
    "boolean": [True, False],
    "int32": [0, -(2**31), 2**31 - 1],
    "int64": [0, -(2**63), 2**63 - 1],
    "float32": [0, 1.5, -3.4e38],
    "float64": [0, 1.5, 1e308, 10**18],
    "timestamp": [
        "2024-02-29T23:59:59Z",
        "2024-01-01T00:00:00.1Z",
        "2024-01-01T00:00:00.123+05:30",
        "2024-01-01T00:00:00-0830",
        "2024-01-01T00:00:00+02",
        "0001-01-01T00:00:00",
    ],
    "date": ["2024-02-29", "9999-12-31", "0001-01-01"],
    "json": [{}, {"a": [1, {"b": None}]}, {"k" * 128: "v" * 10_240}],
    "direct": [RELATION],
    "enum": ["on", "off"],
}
BAD = {
    "text": [1, True, {}, [], "x" * 128_001, "ø" * 64_001],
    "boolean": [1, "true", 0.0],
    "int32": [2**31, -(2**31) - 1, 1.0, 1.5, "1", True],
    "int64": [2**63, -(2**63) - 1, 1.0, "1"],
    "float32": [3.5e38, -3.5e38, "1", True],
    "float64": ["1.5", False, [1.5]],
    "timestamp": [
        0,
        1_700_000_000_000,
        "2024-01-01",
        "2023-02-29T00:00:00Z",
        "2024-04-31T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00.1234Z",
        "2024-01-01 00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z\n",
        "2024-01-01T00:00:00Z\n2024-01-01T00:00:00Z",
        "",
    ],
    "date": [
        "2023-02-29",
        "1900-02-29",
        "2024-13-01",
        "24-01-01",
        "2024-01-01T00:00:00Z",
        "2024-01-01\n",
        20240101,
    ],
    "json": [1, "x", [1], {"k" * 129: 1}, {"a": "v" * 10_241}, {str(n): 1 for n in range(257)}],
    "direct": [
        RELATION | {"externalId": ""},
        RELATION | {"externalId": "x" * 257},
        {"space": "plant"},
        RELATION | {"more": 1},
        {"space": "nowhere", "externalId": "n"},
        "plant",
    ],
    "enum": ["ON", "lost", "", 1],
}


def checker(**properties: Property) -> Checker:
    return Checker(properties, {"plant": None})


def property_of(name: str, **changes) -> Property:
    return Property(type=msgspec.convert(TYPES[name] | changes, PropertyType))


def check(one: Checker, **properties):
    return one.check([Raw(encode(properties))])


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_a_value_of_the_type_is_taken(name, value):
    """Each type takes its values, alone and in a list."""
    check(checker(p=property_of(name)), p=value)
    check(checker(p=property_of(name, list=True)), p=[value])


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_a_value_of_another_type_is_refused(name, value):
    """What does not fit is refused with the property's name, alone and in a list after a good one."""
    with pytest.raises(Fault) as single:
        check(checker(p=property_of(name)), p=value)
    assert single.value.path.startswith("p")
    with pytest.raises(Fault):
        check(checker(p=property_of(name, list=True)), p=[GOOD[name][0], value])


@pytest.mark.parametrize("name", TYPES)
def test_lists_have_their_sizes(name):
    """A list has 1 to 1000 values, of relations 100, or fewer where the property says so; a single value is none."""
    most = 100 if name == "direct" else 1000
    value = GOOD[name][0]
    many = checker(p=property_of(name, list=True))
    check(many, p=[value] * most)
    for wrong in ([], [value] * (most + 1), value):
        with pytest.raises(Fault):
            check(many, p=wrong)
    few = checker(p=property_of(name, list=True, maxListSize=2))
    check(few, p=[value] * 2)
    with pytest.raises(Fault):
        check(few, p=[value] * 3)


def test_an_explicit_null_is_refused():
    """The value schema knows no null, nullable or not."""
    for nullable in (True, False):
        prop = Property(type=PropertyType(type="text"), nullable=nullable)
        with pytest.raises(Fault, match="null"):
            check(checker(p=prop), p=None)


def test_a_property_that_must_not_be_null_must_be_there():
    """Leaving out a non-nullable property is refused, unless a default stands in for it."""
    needed = Property(type=PropertyType(type="int32"), nullable=False)
    other = Property(type=PropertyType(type="int32"))
    with pytest.raises(Fault, match="required for `p`"):
        check(checker(p=needed, q=other), q=1)
    filled = Property(type=PropertyType(type="int32"), nullable=False, default_value=7)
    assert check(checker(p=filled, q=other), q=1) == [b'{"q":1,"p":7}']
    assert check(checker(p=filled, q=other), p=2) == [b'{"p":2}']


def test_an_enum_of_the_unknown_alone_takes_nothing():
    """The unknown value cannot be written, also where it is the only one."""
    only = property_of("enum", values={"lost": {}}, unknownValue="lost")
    for value in ("lost", "", "on"):
        with pytest.raises(Fault):
            check(checker(p=only), p=value)


def test_text_may_be_limited_in_bytes():
    """`maxTextSize` counts bytes, not characters."""
    one = checker(p=property_of("text", maxTextSize=4))
    check(one, p="øø")
    with pytest.raises(Fault, match="5 bytes"):
        check(one, p="øøx")


def test_a_list_of_texts_is_limited_as_a_whole():
    """A list of texts holds at most 128,000 bytes together."""
    one = checker(p=property_of("text", list=True))
    check(one, p=["x" * 64_000] * 2)
    with pytest.raises(Fault):
        check(one, p=["x" * 64_000, "x" * 64_001])


def test_json_objects_are_limited_in_bytes():
    """A JSON object, and a list of them together, have at most 40,960 bytes."""
    big = {f"k{n}": "v" * 10_000 for n in range(4)}
    check(checker(p=property_of("json")), p=big)
    with pytest.raises(Fault, match="40960"):
        check(checker(p=property_of("json")), p=big | {"more": "v" * 2000})
    with pytest.raises(Fault, match="40960"):
        check(checker(p=property_of("json", list=True)), p=[big, big])


def test_json_that_could_not_be_read_back_is_refused():
    """Numbers beyond those of a float and objects deeper than 200 levels, which no reader of JSON takes."""
    one = checker(p=property_of("json"))

    def deep(levels: int) -> Raw:
        return Raw(b'{"p":{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}}")

    one.check([deep(200)])
    check(one, p={"a": [10**25, -(10**308)]})
    with pytest.raises(Fault, match="200 levels deep"):
        one.check([deep(201)])
    for digits in (b"1" + b"0" * 400, b"-1" + b"0" * 309, b"1e400"):
        with pytest.raises(Fault, match="out of range"):
            one.check([Raw(b'{"p":{"a":[' + digits + b"]}}")])


def test_the_fault_names_the_place():
    """A fault says which of the objects does not fit, and which property."""
    one = checker(a=property_of("text"), b=property_of("date", list=True))
    with pytest.raises(Fault) as caught:
        one.check([Raw(b'{"a":"x"}'), Raw(b'{"a":"x","b":["2024-01-01","no"]}')])
    assert (caught.value.index, caught.value.path) == (1, "b[1]")


@pytest.mark.parametrize("text", ["{}", "[]", "1", '{"a":"x","nope":1}', '{"a":"\\ud800"}', '{"a":"x",}'])
def test_what_is_no_object_of_the_container_is_refused(text):
    """Empty objects, other JSON, unknown properties and broken text are refused."""
    with pytest.raises(Fault):
        checker(a=property_of("text")).check([Raw(text.encode())])


def test_text_that_is_not_utf8_is_refused():
    """Bytes that are not UTF-8 are refused even where the value is not looked into."""
    for name in ("text", "json"):
        with pytest.raises(Fault):
            checker(a=property_of(name)).check(
                [Raw(b'{"a":{"b":"\xff"}}' if name == "json" else b'{"a":"\xff"}')]
            )


@patient
@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_dates_are_those_of_the_calendar(year, month, day):
    """The pattern takes a date exactly when the calendar has it."""
    text = f"{year:04}-{month:02}-{day:02}"
    try:
        dt.date(year, month, day)
        exists = True
    except ValueError:
        exists = False
    assert (re.fullmatch(DATE, text) is not None) == exists


@patient
@given(st.integers(0, 25), st.integers(0, 61), st.integers(0, 61))
def test_times_are_those_of_the_clock(hour, minute, second):
    """The pattern takes a time of day exactly when the clock has it."""
    fits = hour < 24 and minute < 60 and second < 60
    assert (re.fullmatch(TIME, f"T{hour:02}:{minute:02}:{second:02}Z") is not None) == fits

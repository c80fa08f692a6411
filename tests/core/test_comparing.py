"""What is stored is told apart from what was sent, by the values' meaning and by nothing else."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cdf_upsert.core.comparing import (
    LONGEST_TOLD,
    MOST_TOLD,
    Different,
    Missing,
    Same,
    difference_told,
    values_told,
)
from cdf_upsert.core.comparing import compare as compare_values


def compare(*what: Any) -> Same | Different:
    """Compare, and leave the values out."""
    found = compare_values(*what)
    return Different(found.properties) if isinstance(found, Different) else found


def record(properties: str, container: str = "c", space: str = "s") -> bytes:
    source = f'{{"type":"container","space":"{space}","externalId":"{container}"}}'
    return (
        f'{{"space":"s","externalId":"x","sources":[{{"source":{source},"properties":{properties}}}]}}'
    ).encode()


def stored(properties: dict[str, Any], container: str = "c", space: str = "s") -> dict[str, Any]:
    return {
        "space": "s",
        "externalId": "x",
        "createdTime": 1,
        "lastUpdatedTime": 2,
        "properties": {space: {container: properties}},
    }


def typing(kind: str, *, name: str = "p", **more: Any) -> dict[str, Any]:
    return {"s": {"c": {name: {"nullable": True, "type": {"type": kind, "list": False}, **more}}}}


# Ours, stored, and the types that hold both as the same; "" is a type that is not told.
SAME = [
    ("1", 1.0, ("", "int32", "int64", "float32", "float64")),
    ("1.0", 1, ("", "int32", "int64", "float32", "float64")),
    ("1.10", 1.1, ("", "float64", "float32")),
    ("1e2", 100, ("", "int64", "float64")),
    ("9007199254740993", 9007199254740993, ("", "int64")),
    ("-9223372036854775808", -9223372036854775808, ("", "int64")),
    ("9007199254740993", 9007199254740992.0, ("", "float64")),
    ("0.1", 0.10000000149011612, ("", "float32")),
    ("0.10000000149011612", 0.1, ("", "float32")),
    ("19.56326", 19.563260, ("", "float32", "float64")),
    ("3.141592653589793", 3.1415927, ("", "float32")),
    ("16777217", 16777216.0, ("", "float32")),
    ("-0.0", 0, ("", "float64")),
    ("true", True, ("", "boolean")),
    ('"é"', "é", ("", "text")),
    (r'"\u00e9\n"', "é\n", ("", "text")),
    ('"2013-02-01T05:00:00Z"', "2013-02-01T05:00:00.000Z", ("", "timestamp")),
    ('"2013-02-01T05:00:00"', "2013-02-01T05:00:00Z", ("", "timestamp")),
    ('"2013-02-01T06:30:00.5+01:30"', "2013-02-01T05:00:00.500Z", ("", "timestamp")),
    ('"2013-01-31T22:00:00-07"', "2013-02-01T05:00:00+00:00", ("", "timestamp")),
    ('"0001-01-01T00:00:00+01:00"', "0000-12-31T23:00:00Z", ()),
    ('"0001-01-01T00:30:00+01:00"', "0001-01-01T00:30:00+0100", ("", "timestamp")),
    ('"2013-02-01"', "2013-02-01", ("", "date", "text")),
    ("null", None, ("", "text", "int64", "json")),
    ("[1, 2.50]", [1.0, 2.5], ("", "float64", "float32")),
    ('["2013-02-01T05:00:00Z"]', ["2013-02-01T05:00:00.000Z"], ("", "timestamp")),
    ("[]", [], ("", "text")),
    ('{"a": 1, "b": [true, null]}', {"b": [True, None], "a": 1.0}, ("", "json")),
    ('{"space": "s", "externalId": "e"}', {"externalId": "e", "space": "s"}, ("", "direct")),
    ('{"later": [1]}', {"later": [1]}, ("", "type-of-tomorrow")),
]

# Ours, stored, and the types that tell them apart.
DIFFERENT = [
    ("1", 2, ("", "int64", "float64")),
    ("9007199254740993", 9007199254740992, ("", "int64")),
    ("9007199254740993", 9007199254740992.0, ("int64",)),
    ("16777217", 16777216, ("", "int32", "float64")),
    ("0.1", 0.100000001, ("", "float64")),
    ("1.00000001", 1.0, ("float64",)),
    ("1", True, ("", "boolean", "int64", "float64", "float32")),
    ("true", 1, ("", "boolean", "int64", "float64", "float32")),
    ("true", 1.0, ("", "float64")),
    ("1", "1", ("", "int64", "text")),
    ('"1"', 1, ("", "int64", "text")),
    ('"a"', "A", ("", "text")),
    (r'"\u00e9"', "e\u0301", ("", "text")),
    ('"2013-02-01T05:00:00Z"', "2013-02-01T05:00:00.001Z", ("", "timestamp", "text")),
    ('"2013-02-01T05:00:00Z"', "2013-02-01T05:00:00.000Z", ("text", "json")),
    ('"2013-02-01T05:00:00Z"', "2013-02-01T05:00:00+01:00", ("", "timestamp")),
    ('"2013-02-30T05:00:00Z"', "2013-02-30T05:00:00.0Z", ("", "timestamp")),
    ('"2013-02-01"', "2013-02-01T00:00:00Z", ("", "date", "timestamp")),
    ("null", 0, ("", "int64")),
    ("0", None, ("", "int64")),
    ('""', None, ("", "text")),
    ("[1, 2]", [2, 1], ("", "int64")),
    ("[1]", [1, 1], ("", "int64")),
    ("[1]", 1, ("", "int64")),
    ("[true]", [1], ("", "boolean", "int64")),
    ('{"a": true}', {"a": 1}, ("", "json")),
    ('{"a": null}', {}, ("", "json")),
    ('{"a": 1}', {"a": 1, "b": 2}, ("", "json")),
    ('{"a": [1]}', {"a": [1, 2]}, ("", "json")),
    ('{"t": "2013-02-01T05:00:00Z"}', {"t": "2013-02-01T05:00:00.000Z"}, ("", "json")),
    ('{"space": "s", "externalId": "e"}', {"space": "s", "externalId": "f"}, ("", "direct")),
    ("1e400", 1.7976931348623157e308, ("", "float64")),
    ("1e999", "1e999", ("", "float64", "text")),
]


def cases(table: list[tuple[str, Any, tuple[str, ...]]]) -> list[tuple[str, Any, str]]:
    return [(ours, theirs, kind) for ours, theirs, kinds in table for kind in kinds]


@pytest.mark.parametrize(("ours", "theirs", "kind"), cases(SAME))
def test_one_value_written_in_two_ways_is_the_same(ours: str, theirs: Any, kind: str) -> None:
    """Numbers, timestamps and objects are compared by what they mean to the type of their property."""
    told = typing(kind) if kind else {}
    assert compare(record(f'{{"p":{ours}}}'), stored({"p": theirs}), told) == Same()


@pytest.mark.parametrize(("ours", "theirs", "kind"), cases(DIFFERENT))
def test_two_values_are_different(ours: str, theirs: Any, kind: str) -> None:
    """Values that mean something else are told apart, also where Python holds them equal."""
    told = typing(kind) if kind else {}
    assert compare(record(f'{{"p":{ours}}}'), stored({"p": theirs}), told) == Different(("c.p",))


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        ("{}", {}, None),
        ('{"a":null}', {}, None),
        ("{}", {"a": None}, None),
        ('{"a":1}', {}, ("c.a",)),
        ("{}", {"a": 1}, ("c.a",)),
        ('{"a":1,"b":2,"c":3}', {"c": 4, "b": 2, "a": 5, "d": 6}, ("c.a", "c.c", "c.d")),
    ],
)
def test_a_property_on_one_side_only_differs_unless_it_is_null(
    ours: str, theirs: dict[str, Any], names: tuple[str, ...] | None
) -> None:
    """An upsert replaces the whole record: what was not sent must not be stored."""
    expected = Same() if names is None else Different(names)
    assert compare(record(ours), stored(theirs)) == expected


@pytest.mark.parametrize("default", [0, False, "", "m/s", 2.5])
def test_a_default_of_the_container_is_no_difference(default: Any) -> None:
    """What was not sent is stored as its default; any other value differs."""
    told = typing("text" if isinstance(default, str) else "float64", defaultValue=default)
    if isinstance(default, bool):
        told = typing("boolean", defaultValue=default)
    assert compare(record("{}"), stored({"p": default}), told) == Same()
    assert compare(record('{"p":null}'), stored({"p": default}), told) == Same()
    assert compare(record("{}"), stored({"p": "other"}), told) == Different(("c.p",))


def test_a_whole_container_may_be_missing_or_too_many() -> None:
    """Each of its properties is named; a container without properties is as good as none."""
    assert compare(record('{"a":1,"b":2}'), {"properties": {}}) == Different(("c.a", "c.b"))
    assert compare(record("{}"), {"properties": {}}) == Same()
    assert compare(record("{}"), stored({"z": 1}, "other")) == Different(("other.z",))
    assert compare(record("{}"), stored({}, "other")) == Same()


def test_the_space_is_named_only_where_containers_share_a_name() -> None:
    """`container.property` is enough elsewhere."""
    both = {"properties": {"s": {"c": {"a": 2}, "d": {"z": 1}}, "t": {"c": {"b": 1}}}}
    assert compare(record('{"a":1}'), both) == Different(("s/c.a", "d.z", "t/c.b"))


def test_the_properties_of_a_container_may_stand_in_two_sources() -> None:
    """Where both name a property the later one counts, as in JSON."""
    source = '{"type":"container","space":"s","externalId":"c"}'
    text = (
        f'{{"space":"s","externalId":"x","sources":[{{"source":{source},"properties":{{"a":1,"b":1}}}},'
        f'{{"source":{source},"properties":{{"b":2}}}}]}}'
    ).encode()
    assert compare(text, stored({"a": 1, "b": 2})) == Same()


def test_a_view_is_found_under_its_name_and_version() -> None:
    """Newer clients send views too; data modelling names them so."""
    source = '{"type":"view","space":"s","externalId":"v","version":"1"}'
    text = (
        f'{{"space":"s","externalId":"x","sources":[{{"source":{source},"properties":{{"a":1}}}}]}}'.encode()
    )
    assert compare(text, stored({"a": 1}, "v/1")) == Same()


@pytest.mark.parametrize(
    "told", [{"s": None}, {"s": {"c": 1}}, {"s": {"c": {"p": []}}}, {"s": {"c": {"p": {"type": 1}}}}]
)
def test_types_of_an_unknown_shape_are_no_types(told: dict[str, Any]) -> None:
    """What comes from outside may have any shape; the values are still compared."""
    assert compare(record('{"p":1}'), stored({"p": 1.0}), told) == Same()
    assert compare(record('{"p":1}'), stored({"p": 2}), told) == Different(("c.p",))


def test_what_is_nested_too_deeply_to_be_looked_through_differs() -> None:
    """No input ends the run."""
    deep: Any = 1
    for _ in range(2000):
        deep = {"a": deep}
    text = '{"a":' * 600 + "1" + "}" * 600
    assert compare(record(f'{{"p":{text}}}'), stored({"p": deep})) == Different(("c.p",))


# A model of the service: for each type, values with the ways to write them in an input and to read them back.


@dataclass(frozen=True)
class Value:
    """`meaning` is what is stored; two values are the same when their meanings are equal."""

    kind: str
    meaning: Any
    sent: str
    read: Any


def float32(number: float) -> float:
    unpacked: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return unpacked


def shortest32(number: float) -> float:
    return next(float(f"{number:.{n}g}") for n in range(1, 18) if float32(float(f"{number:.{n}g}")) == number)


@st.composite
def integers(draw: st.DrawFn, kind: str, bits: int) -> Value:
    number = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    sent = draw(st.sampled_from([str(number), f"{number}.0"] if abs(number) < 2**53 else [str(number)]))
    return Value(kind, number, sent, number)


@st.composite
def doubles(draw: st.DrawFn) -> Value:
    number = draw(st.floats(allow_nan=False, allow_infinity=False)) + 0.0
    whole = number.is_integer() and abs(number) < 2**53
    sent = draw(st.sampled_from([repr(number), f"{number:.17e}"] + ([str(int(number))] if whole else [])))
    return Value("float64", number, sent, int(number) if whole and draw(st.booleans()) else number)


@st.composite
def singles(draw: st.DrawFn) -> Value:
    number = draw(st.floats(allow_nan=False, allow_infinity=False, width=32)) + 0.0
    nudged = number * (1 + draw(st.sampled_from([0.0, 1e-9, -1e-9])))
    assume(abs(nudged) < 3.4e38)
    assume(float32(nudged) == number)
    return Value("float32", number, repr(nudged), draw(st.sampled_from([number, shortest32(number)])))


@st.composite
def timestamps(draw: st.DrawFn) -> Value:
    year = draw(st.integers(2, 9998))
    moment = draw(st.datetimes(timezones=st.just(UTC))).replace(year=year, day=1)
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    offset = draw(st.integers(-14 * 60, 14 * 60))
    local = moment.astimezone(timezone(timedelta(minutes=offset)))
    text = local.strftime("%m-%dT%H:%M:%S")
    digits = f"{moment.microsecond // 1000:03}"
    fraction = draw(st.sampled_from(sorted({f".{digits}", f".{digits.rstrip('0')}".rstrip(".")})))
    zone = local.strftime("%z")
    zones = [zone, f"{zone[:3]}:{zone[3:]}"] + (["Z", ""] if offset == 0 else [])
    sent = f"{local.year:04}-{text}{fraction}{draw(st.sampled_from(zones))}"
    read = f"{moment.year:04}-{moment.strftime('%m-%dT%H:%M:%S')}.{digits}Z"
    return Value("timestamp", moment, json.dumps(sent), read)


@st.composite
def objects(draw: st.DrawFn) -> Value:
    leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5)
    inner = st.recursive(
        leaves, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=3), c, max_size=3)
    )
    content = draw(st.dictionaries(st.text(max_size=3), inner, max_size=4))
    shuffled = dict(draw(st.permutations(list(content.items()))))
    # As text, for Python holds true and 1 equal.
    meaning = json.dumps(content, sort_keys=True)
    return Value("json", meaning, json.dumps(shuffled, ensure_ascii=draw(st.booleans())), content)


def texts(kind: str, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Value]:
    return strategy.map(lambda text: Value(kind, text, json.dumps(text), text))


def relation(pair: tuple[str, str]) -> Value:
    space, external_id = (json.dumps(part) for part in pair)
    sent = f'{{"externalId":{external_id},"space":{space}}}'
    return Value("direct", pair, sent, {"space": pair[0], "externalId": pair[1]})


TYPES: dict[str, st.SearchStrategy[Value]] = {
    "boolean": st.booleans().map(lambda b: Value("boolean", b, json.dumps(b), b)),
    "int32": integers("int32", 32),
    "int64": integers("int64", 64),
    "float32": singles(),
    "float64": doubles(),
    "text": texts("text", st.text(max_size=8)),
    "enum": texts("enum", st.sampled_from(["on", "off", "_x"])),
    "date": texts("date", st.dates().map(date.isoformat)),
    "timestamp": timestamps(),
    "json": objects(),
    "direct": st.tuples(st.text("abc", max_size=3), st.text(max_size=3)).map(relation),
}


@st.composite
def values(draw: st.DrawFn) -> Value:
    one = TYPES[draw(st.sampled_from(sorted(TYPES)))]
    if draw(st.integers(0, 3)):
        return draw(one)
    several = draw(st.lists(one, max_size=3))
    kind = several[0].kind if several else "text"
    meaning = tuple(value.meaning for value in several)
    return Value(kind, meaning, f"[{','.join(v.sent for v in several)}]", [v.read for v in several])


RECORDS = st.dictionaries(st.sampled_from("abcdef"), values(), max_size=5)


def sent(properties: dict[str, Value]) -> bytes:
    members = [f'"{name}":{value.sent}' for name, value in properties.items()]
    return record("{" + ",".join(members) + "}")


def read(properties: dict[str, Value]) -> dict[str, Any]:
    return stored({name: value.read for name, value in reversed(properties.items())})


def types_of(*records: dict[str, Value]) -> dict[str, Any]:
    kinds = {name: value.kind for properties in records for name, value in properties.items()}
    return {
        "s": {
            "c": {
                name: {"nullable": True, "defaultValue": None, "type": {"type": kind, "list": False}}
                for name, kind in kinds.items()
            }
        }
    }


@given(RECORDS)
def test_what_the_service_gives_back_is_the_same(properties: dict[str, Value]) -> None:
    """However a type lets its values be written and read back, with the types told and without."""
    assert compare(sent(properties), read(properties), types_of(properties)) == Same()
    assert compare(sent(properties), read(properties)) == Same()


@given(RECORDS, st.data())
def test_a_changed_value_is_named(properties: dict[str, Value], data: st.DataObject) -> None:
    """Whatever is stored otherwise is found under its name, and nothing else is."""
    assume(properties)
    name = data.draw(st.sampled_from(sorted(properties)))
    old = properties[name]
    new = data.draw(TYPES[old.kind])
    assume(new.meaning != old.meaning)
    changed = {**properties, name: new}
    assert compare(sent(properties), read(changed), types_of(properties)) == Different((f"c.{name}",))
    # Without its type a number may be one of 32 bits, and then what rounds to it is the same.
    if old.kind != "float64" or not isinstance(old.meaning, float) or float32_or_none(old.meaning) is None:
        assert compare(sent(properties), read(changed)) == Different((f"c.{name}",))


def float32_or_none(number: float) -> float | None:
    return float32(number) if abs(number) < 3.4e38 else None


REMOVE: list[Callable[[dict[str, Value], str], tuple[dict[str, Value], dict[str, Value]]]] = [
    lambda all_of, name: (all_of, {n: v for n, v in all_of.items() if n != name}),
    lambda all_of, name: ({n: v for n, v in all_of.items() if n != name}, all_of),
]


@given(RECORDS, st.sampled_from(REMOVE), st.data())
def test_a_property_that_one_side_lacks_is_named(
    properties: dict[str, Value], remove: Any, data: st.DataObject
) -> None:
    """It does not matter which side."""
    assume(properties)
    name = data.draw(st.sampled_from(sorted(properties)))
    ours, theirs = remove(properties, name)
    assert compare(sent(ours), read(theirs), types_of(properties)) == Different((f"c.{name}",))


def test_what_differs_is_told_by_names_alone() -> None:
    """Values are data, and a message goes into files and reports."""
    found = compare_values(record('{"p":"secret","q":1}'), stored({"p": "other", "r": 2}))
    assert isinstance(found, Different)
    assert difference_told(found) == "what is stored differs in c.p, c.q, c.r"
    assert difference_told(Missing()) == "nothing is stored under this key"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ("1", 2, "c.p: stored 2, ours 1"),
        ('"a\\n\u00e9"', "b", r'c.p: stored "b", ours "a\n\u00e9"'.replace(r"\u00e9", "\u00e9")),
        ('{"a":[1,null]}', {"a": []}, 'c.p: stored {"a": []}, ours {"a": [1, null]}'),
        ("123456789012345678901234567890", 1, "c.p: stored 1, ours 123456789012345678901234567890"),
        ("null", False, "c.p: stored false, ours nothing"),
        ("true", None, "c.p: stored nothing, ours true"),
        ('"' + "x" * 58 + '"', 0, 'c.p: stored 0, ours "' + "x" * 58 + '"'),
        ('"' + "x" * 59 + '"', 0, 'c.p: stored 0, ours "' + "x" * 56 + "..."),
        ('"' + "x" * 100_000 + '"', 0, 'c.p: stored 0, ours "' + "x" * 56 + "..."),
    ],
)
def test_values_are_told_on_demand(ours: str, theirs: object, told: str) -> None:
    """What is stored and what is ours, as JSON, and never more than a part of a long value."""
    found = compare_values(record(f'{{"p":{ours}}}'), stored({} if theirs is None else {"p": theirs}))
    assert values_told(found) == told


def test_only_so_many_values_are_told() -> None:
    """However many properties differ, and however long they are, it is a line or two."""
    names = [f"p{i:03}" for i in range(100)]
    found = compare_values(record("{}"), stored(dict.fromkeys(names, "x" * 1000)))
    told = values_told(found)
    assert told.startswith("c.p000: stored ")
    assert told.endswith('c.p009: stored "' + "x" * 56 + "..., ours nothing; and 90 other properties")
    assert len(told) < MOST_TOLD * (2 * LONGEST_TOLD + 40)
    one_more = compare_values(record("{}"), stored(dict.fromkeys(names[: MOST_TOLD + 1], 1)))
    assert values_told(one_more).endswith("; and 1 other property")
    assert values_told(Missing()) == values_told(Same()) == ""


def test_a_value_that_is_too_deep_is_not_told() -> None:
    """Nothing fails over it."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert values_told(Different(("c.p",), [(deep, 1)])) == "c.p: stored a value too deep to be told, ours 1"

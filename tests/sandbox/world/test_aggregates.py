"""Aggregates: against the plain arithmetic of Python, and against the example of the API's reference."""

import datetime as dt
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.sandbox.world import Refusal
from tests.sandbox.builders import NOW, declared_world, done, encode, patient, record, upsert


def path(name: str) -> list[str]:
    return ["plant", "pump", name]


def ask(world, aggregates, **more):
    return done(world.aggregate("events", encode({"aggregates": aggregates, **more}), NOW))["aggregates"]


def made(*values):
    world = declared_world()
    if values:
        upsert(world, *(record(f"r{n}", **({"boolean": True} | one)) for n, one in enumerate(values)))
    return world


_RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "int64": st.integers(-50, 50),
            "float64": st.floats(-1e6, 1e6),
            "text": st.sampled_from("abc"),
            "timestamp": st.datetimes(dt.datetime(2019, 1, 1), dt.datetime(2024, 1, 1)).map(  # noqa: DTZ001 - UTC by the Z
                lambda one: one.replace(microsecond=0).isoformat() + "Z"
            ),
        },
    ),
    max_size=30,
)


@patient
@given(_RECORDS)
def test_metrics_are_those_of_arithmetic(values):
    """Count, min, max, sum and avg are what Python finds; of nothing there is no least and no average."""
    world = made(*values)
    for name in ("int64", "float64"):
        have = [one[name] for one in values if name in one]
        found = ask(
            world,
            {word: {word: {"property": path(name)}} for word in ("min", "max", "sum", "avg")}
            | {"all": {"count": {}}},
        )
        assert found["all"] == {"count": len(values)}
        assert found["sum"]["sum"] == pytest.approx(math.fsum(have))
        assert ask(world, {"n": {"count": {"property": path(name)}}}) == {"n": {"count": len(have)}}
        if have:
            assert (found["min"]["min"], found["max"]["max"]) == (min(have), max(have))
            assert found["avg"]["avg"] == pytest.approx(statistics.fmean(have))
        else:
            assert set(found) == {"all", "sum"}


@patient
@given(_RECORDS, st.integers(1, 3))
def test_unique_values_are_counted_the_fullest_first(values, size):
    """Each value has its bucket with its count and its own aggregates; only the fullest are shown."""
    world = made(*values)
    inner = {"sum": {"sum": {"property": path("int64")}}}
    found = ask(world, {"u": {"uniqueValues": {"property": path("text"), "size": size, "aggregates": inner}}})
    have = [one for one in values if "text" in one]
    counts = sorted(
        {one["text"] for one in have}, key=lambda text: (-sum(o["text"] == text for o in have), text)
    )
    assert found["u"]["uniqueValueBuckets"] == [
        {
            "count": sum(one["text"] == text for one in have),
            "value": text,
            "aggregates": {"sum": {"sum": sum(one.get("int64", 0) for one in have if one["text"] == text)}},
        }
        for text in counts[:size]
    ]


@patient
@given(_RECORDS, st.sampled_from([1, 7, 2.5]))
def test_number_histograms_cover_their_range(values, interval):
    """Buckets follow each other without a gap, each holds the values of its interval, and none is lost."""
    found = ask(made(*values), {"h": {"numberHistogram": {"property": path("int64"), "interval": interval}}})
    buckets = found["h"]["numberHistogramBuckets"]
    have = [one["int64"] for one in values if "int64" in one]
    assert sum(bucket["count"] for bucket in buckets) == len(have)
    for number, bucket in enumerate(buckets):
        start = bucket["intervalStart"]
        assert start == pytest.approx(buckets[0]["intervalStart"] + number * interval)
        assert bucket["count"] == sum(start <= value < start + interval for value in have)


@patient
@given(_RECORDS, st.sampled_from(["1d", "1w", "1M", "1q", "1y"]))
def test_calendar_histograms_follow_the_calendar(values, interval):
    """Each time falls into the day, the week from Monday, the month, the quarter or the year that it lies in."""
    values = [
        one | {"timestamp": one["timestamp"][:5] + "03" + one["timestamp"][7:]}
        for one in values
        if "timestamp" in one and one["timestamp"][8:10] < "29"
    ]
    found = ask(
        made(*values), {"h": {"timeHistogram": {"property": path("timestamp"), "calendarInterval": interval}}}
    )
    buckets = found["h"]["timeHistogramBuckets"]
    starts = [dt.datetime.fromisoformat(bucket["intervalStart"]) for bucket in buckets]
    for start in starts:
        assert (start.hour, start.minute, start.second) == (0, 0, 0)
        match interval:
            case "1w":
                assert start.weekday() == 0
            case "1M":
                assert start.day == 1
            case "1q":
                assert (start.day, start.month % 3) == (1, 1)
            case "1y":
                assert (start.day, start.month) == (1, 1)
    times = [dt.datetime.fromisoformat(one["timestamp"]) for one in values]
    for number, bucket in enumerate(buckets):
        end = starts[number + 1] if number + 1 < len(starts) else dt.datetime.max.replace(tzinfo=dt.UTC)
        assert bucket["count"] == sum(starts[number] <= time < end for time in times)
    assert sum(bucket["count"] for bucket in buckets) == len(times)


def test_fixed_histograms_and_hard_bounds():
    """A fixed interval counts from the epoch; bounds keep buckets, the upper one of times not included."""
    world = made(*({"timestamp": f"2024-01-01T00:{minute:02}:00Z", "int64": minute} for minute in range(10)))
    histogram = {"property": path("timestamp"), "fixedInterval": "3m"}
    found = ask(world, {"h": {"timeHistogram": histogram}})["h"]["timeHistogramBuckets"]
    assert [(one["intervalStart"][11:16], one["count"]) for one in found] == [
        ("00:00", 3),
        ("00:03", 3),
        ("00:06", 3),
        ("00:09", 1),
    ]
    bounds = {"min": "2024-01-01T00:03:00Z", "max": "2024-01-01T00:09:00Z"}
    found = ask(world, {"h": {"timeHistogram": histogram | {"hardBounds": bounds}}})["h"][
        "timeHistogramBuckets"
    ]
    assert [one["intervalStart"][14:16] for one in found] == ["03", "06"]
    numbers = {"property": path("int64"), "interval": 3, "hardBounds": {"min": 3, "max": 6}}
    found = ask(world, {"h": {"numberHistogram": numbers}})["h"]["numberHistogramBuckets"]
    assert [one["intervalStart"] for one in found] == [3, 6]


def test_filters_make_buckets():
    """Each filter has a bucket; a record may fall into several or none."""
    world = made({"int64": 1}, {"int64": 2}, {"int64": 3})
    low = {"range": {"property": path("int64"), "lt": 3}}
    even = {"equals": {"property": path("int64"), "value": 2}}
    inner = {"most": {"max": {"property": path("int64")}}}
    found = ask(world, {"f": {"filters": {"filters": [low, even], "aggregates": inner}}})
    assert found["f"]["filterBuckets"] == [
        {"count": 2, "aggregates": {"most": {"max": 2}}},
        {"count": 1, "aggregates": {"most": {"max": 2}}},
    ]


# Daily counts 10, 5, 12, 1, 20 with greatest severities 13, 7, 100, 1, 1: the example of the API's reference.
_DAYS = [(10, 13), (5, 7), (12, 100), (1, 1), (20, 1)]
_MOVING = {
    "count": {"bucketsPath": "_count", "window": 3, "function": "MovingFunctions.unweightedAvg"},
    "severity": {"bucketsPath": "worst", "window": 100_000, "function": "MovingFunctions.unweightedAvg"},
    "total": {"bucketsPath": "_count", "window": 100_000, "function": "MovingFunctions.sum"},
    "linear": {"bucketsPath": "_count", "window": 2, "function": "MovingFunctions.linearWeightedAvg"},
}


def moving(name: str) -> list[float]:
    values = [
        {"timestamp": f"2025-05-{25 + day}T00:00:00Z", "int64": worst if number == 0 else 1}
        for day, (count, worst) in enumerate(_DAYS)
        for number in range(count)
    ]
    inner = {"worst": {"max": {"property": path("int64")}}, name: {"movingFunction": _MOVING[name]}}
    histogram = {"property": path("timestamp"), "calendarInterval": "1d", "aggregates": inner}
    found = ask(made(*values), {"h": {"timeHistogram": histogram}})["h"]["timeHistogramBuckets"]
    return [bucket["aggregates"][name]["fnValue"] for bucket in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("count", [0, 7.5, 9, 6, 11]),
        ("severity", [0, 10, 40, 30.25, 24.4]),
        ("total", [10, 15, 27, 28, 48]),
        ("linear", [0, 20 / 3, 29 / 3, 14 / 3, 41 / 3]),
    ],
)
def test_moving_functions_follow_the_reference(name, expected):
    """The window ends with each bucket; the average of a single bucket is 0."""
    assert moving(name) == pytest.approx(expected)


@pytest.mark.parametrize("where", ["group[a]>sum", "group['b']>_count"])
def test_a_moving_function_may_look_into_buckets(where):
    """A path leads through a bucket by its key; where the bucket is missing it counts as 0."""
    world = made(
        {"int64": 1, "text": "a", "float64": 2.0},
        {"int64": 2, "text": "b"},
        {"int64": 2, "text": "a", "float64": 3.0},
    )
    inner = {
        "group": {
            "uniqueValues": {
                "property": path("text"),
                "aggregates": {"sum": {"sum": {"property": path("float64")}}},
            }
        },
        "m": {"movingFunction": {"bucketsPath": where, "window": 1, "function": "MovingFunctions.max"}},
    }
    histogram = {"property": path("int64"), "interval": 1, "aggregates": inner}
    found = ask(world, {"h": {"numberHistogram": histogram}})["h"]["numberHistogramBuckets"]
    expected = [2.0, 3.0] if "sum" in where else [0, 1]
    assert [bucket["aggregates"]["m"]["fnValue"] for bucket in found] == expected


def inside(**changes) -> dict:
    """A moving function in its histogram, beside buckets."""
    inner = {
        "group": {"uniqueValues": {"property": path("text")}},
        "m": {"movingFunction": _MOVING["count"] | changes},
    }
    return {"a": {"numberHistogram": {"property": path("int64"), "interval": 1, "aggregates": inner}}}


@pytest.mark.parametrize(
    ("aggregates", "told"),
    [
        ({}, "aggregates"),
        ({f"a{n}": {"count": {}} for n in range(6)}, "aggregates"),
        ({"a": {}}, "exactly one"),
        ({"a": {"median": {}}}, "not an aggregate"),
        ({"a.b": {"count": {}}}, "identifier"),
        ({"_count": {"count": {}}}, "identifier"),
        ({"": {"count": {}}}, "identifier"),
        ({"a" * 256: {"count": {}}}, "identifier"),
        ({"a": {"sum": {}}}, "`property` is required"),
        ({"a": {"sum": {"property": path("text")}}}, "not supported for text"),
        ({"a": {"sum": {"property": ["createdTime"]}}}, "property"),
        ({"a": {"min": {"property": ["space"]}}}, "property"),
        ({"a": {"count": {"property": path("nope")}}}, "no property"),
        ({"a": {"count": {"more": 1}}}, "unknown field"),
        ({"a": {"uniqueValues": {"property": path("json")}}}, "not supported"),
        ({"a": {"uniqueValues": {"property": path("text"), "size": 2001}}}, "size"),
        ({"a": {"uniqueValues": {"property": path("text"), "size": True}}}, "size"),
        ({"a": {"uniqueValues": {"property": path("text"), "size": 1.0}}}, "size"),
        ({"a": {"numberHistogram": {"property": path("int64"), "interval": 0}}}, "interval"),
        ({"a": {"numberHistogram": {"property": path("int64"), "interval": True}}}, "interval"),
        (
            {"a": {"numberHistogram": {"property": path("int64"), "interval": 1, "hardBounds": {}}}},
            "hardBounds",
        ),
        ({"a": {"timeHistogram": {"property": path("int64"), "calendarInterval": "1d"}}}, "not supported"),
        ({"a": {"timeHistogram": {"property": path("timestamp")}}}, "exactly one"),
        (
            {"a": {"timeHistogram": {"property": path("timestamp"), "calendarInterval": "2d"}}},
            "calendarInterval",
        ),
        ({"a": {"timeHistogram": {"property": path("timestamp"), "fixedInterval": "soon"}}}, "fixedInterval"),
        ({"a": {"filters": {"filters": []}}}, "1 to 10"),
        ({"a": {"filters": {"filters": [None]}}}, "a.filters.filters[0]: expected an object"),
        ({"a": {"filters": {"filters": ["all"]}}}, "a.filters.filters[0]: expected an object"),
        ({"a": {"count": 5}}, "a.count: expected an object"),
        ({"a": {"uniqueValues": {"property": path("text"), "aggregates": {}}}}, "1 to 5 aggregates"),
        ({"a": {"uniqueValues": {"property": path("text"), "aggregates": []}}}, "1 to 5 aggregates"),
        (
            {"a": {"numberHistogram": {"property": path("int64"), "interval": 1, "hardBounds": 5}}},
            "hardBounds: expected an object",
        ),
        (
            {
                "a": {
                    "numberHistogram": {"property": path("int64"), "interval": 1, "hardBounds": {"min": "1"}}
                }
            },
            "hardBounds.min: expected a number",
        ),
        (
            {
                "a": {
                    "timeHistogram": {
                        "property": path("timestamp"),
                        "fixedInterval": "1d",
                        "hardBounds": {"max": NOW},
                    }
                }
            },
            "hardBounds.max: expected an ISO 8601",
        ),
        (inside(bucketsPath=""), "m.movingFunction.bucketsPath"),
        (inside(bucketsPath="_count>" * 200), "m.movingFunction.bucketsPath"),
        (inside(window=0), "m.movingFunction.window"),
        (inside(window=True), "m.movingFunction.window"),
        (inside(function="MovingFunctions.median"), "m.movingFunction.function"),
        (inside(more=1), "unknown field `more`"),
        (inside(bucketsPath="group"), "`group` does not lead to a number"),
        ({"a": {"movingFunction": _MOVING["count"]}}, "inside"),
        (
            {
                "a": {
                    "numberHistogram": {
                        "property": path("int64"),
                        "interval": 1,
                        "aggregates": {"m": {"movingFunction": _MOVING["severity"]}},
                    }
                }
            },
            "`worst` is not an aggregate",
        ),
        (
            {"a": {"uniqueValues": {"property": path("text"), "aggregates": {"a": {"count": {}}}}}},
            "stands twice",
        ),
    ],
)
def test_aggregates_against_the_rules_are_refused(aggregates, told):
    """Each fault is a 400 that names the aggregate."""
    with pytest.raises(Refusal) as caught:
        ask(made({"int64": 1, "text": "a"}), aggregates)
    assert caught.value.status == 400
    assert told in caught.value.message


def test_dates_and_times_are_aggregated():
    """Dates count as their midnight, in lists too; the unique values of times are texts in UTC."""
    world = made(
        {
            "date": "2024-01-31",
            "dates": ["2024-01-01", "2024-03-01"],
            "timestamp": "2024-01-01T02:00:00+02:00",
        },
        {"date": "2024-02-01", "timestamp": "2024-01-01T00:00:00Z"},
        {"text": "x"},
    )
    midnight = 1_706_659_200_000  # of 2024-01-31
    found = ask(world, {"a": {"min": {"property": path("date")}}, "b": {"max": {"property": path("dates")}}})
    assert found == {"a": {"min": midnight}, "b": {"max": 1_709_251_200_000}}
    histogram = {"property": path("date"), "calendarInterval": "1M"}
    found = ask(world, {"h": {"timeHistogram": histogram}})["h"]["timeHistogramBuckets"]
    assert found == [
        {"count": 1, "intervalStart": "2024-01-01T00:00:00Z"},
        {"count": 1, "intervalStart": "2024-02-01T00:00:00Z"},
    ]
    found = ask(world, {"u": {"uniqueValues": {"property": path("timestamp")}}})["u"]["uniqueValueBuckets"]
    assert found == [{"count": 2, "value": "2024-01-01T00:00:00Z"}]


def test_aggregates_have_their_sizes():
    """Five levels, sixteen aggregates and thirty filter buckets are taken, more are refused."""
    world = made({"int64": 1, "text": "a"})

    def nested(depth: int) -> dict:
        inner = {"aggregates": nested(depth - 1)} if depth > 1 else {}
        return {f"u{depth}": {"uniqueValues": {"property": path("text"), **inner}}}

    ask(world, nested(5))
    with pytest.raises(Refusal, match="5 levels"):
        ask(world, nested(6))
    wide = {
        f"u{n}": {
            "uniqueValues": {
                "property": path("text"),
                "aggregates": {f"c{n}{m}": {"count": {}} for m in range(3)},
            }
        }
        for n in range(4)
    }
    ask(world, wide)
    with pytest.raises(Refusal, match="at most 16"):
        ask(world, wide | {"one": {"count": {}}})
    tens = {"filters": [{"matchAll": {}}] * 10}
    ask(world, {f"f{n}": {"filters": tens} for n in range(3)})
    with pytest.raises(Refusal, match="at most 30 filter buckets"):
        ask(
            world,
            {f"f{n}": {"filters": tens} for n in range(3)}
            | {"g": {"filters": {"filters": [{"matchAll": {}}]}}},
        )


def test_a_reply_has_at_most_so_many_buckets():
    """65,536 buckets are shown, on all levels together; what is not shown counts nothing."""
    world = made({"int64": 0, "text": "a"}, {"int64": 65_535, "text": "b"})
    histogram = {"property": path("int64"), "interval": 1}
    found = ask(world, {"h": {"numberHistogram": histogram}})
    assert len(found["h"]["numberHistogramBuckets"]) == 65_536
    unique = {"property": path("text"), "size": 1}
    for more in (
        {"u": {"uniqueValues": unique}},
        {"u": {"uniqueValues": unique | {"aggregates": {"i": {"numberHistogram": histogram}}}}},
    ):
        with pytest.raises(Refusal, match="at most 65,536 buckets"):
            ask(world, {"h": {"numberHistogram": histogram}} | more)
    upsert(world, record("r2", int64=65_536))
    with pytest.raises(Refusal, match="at most 65,536 buckets"):
        ask(world, {"h": {"numberHistogram": histogram}})
    wider = {"h": {"numberHistogram": histogram | {"interval": 2}}, "u": {"uniqueValues": unique}}
    assert len(ask(world, wider)["u"]["uniqueValueBuckets"]) == 1


@pytest.mark.parametrize(
    ("text", "day", "year", "value"),
    [
        ("9999-12-31T23:59:59Z", "9999-12-31", "9999-01-01", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59-18:00", "+10000-01-01", "+10000-01-01", "+10000-01-01T17:59:59Z"),
        ("0001-01-01T00:00:00+18:00", "0000-12-31", "0000-01-01", "0000-12-31T06:00:00Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31", "1969-01-01", "1969-12-31T23:59:59.500Z"),
    ],
)
def test_times_at_the_ends_of_the_calendar(text, day, year, value):
    """The first and the last times that a record may hold, in any time zone, have their buckets and their texts."""
    world = made({"timestamp": text})
    for interval, start in (("1d", day), ("1y", year)):
        histogram = {"property": path("timestamp"), "calendarInterval": interval}
        (bucket,) = ask(world, {"h": {"timeHistogram": histogram}})["h"]["timeHistogramBuckets"]
        assert bucket["intervalStart"] == f"{start}T00:00:00Z"
    found = ask(world, {"u": {"uniqueValues": {"property": path("timestamp")}}})
    assert found["u"]["uniqueValueBuckets"] == [{"count": 1, "value": value}]


def test_numbers_at_the_ends_of_their_range():
    """Sums past 64 bits are floats; what no number can tell is refused, not answered wrongly."""
    world = made({"int64": 2**63 - 1, "float64": 1e308}, {"int64": 2**63 - 1, "float64": 1e308})
    found = ask(world, {"s": {"sum": {"property": path("int64")}}, "a": {"avg": {"property": path("int64")}}})
    assert found == {"s": {"sum": float(2**64 - 2)}, "a": {"avg": float(2**63 - 1)}}
    assert isinstance(found["s"]["sum"], float)
    for word in ("sum", "avg"):
        with pytest.raises(Refusal, match=f"The {word} of the values is out of range"):
            ask(world, {"s": {word: {"property": path("float64")}}})
    for interval, told in ((1e-308, "too narrow"), (10**400, "a number above 0")):
        with pytest.raises(Refusal, match=told):
            ask(world, {"h": {"numberHistogram": {"property": path("float64"), "interval": interval}}})
    beyond = {"range": {"property": path("int64"), "lt": 10**400}}
    assert ask(world, {"n": {"count": {}}}, filter=beyond) == {"n": {"count": 2}}


def test_aggregates_heed_filter_and_time():
    """Only records that match are counted, and times bound them as in a filter."""
    world = made({"int64": 1}, {"int64": 2})
    only = {"equals": {"property": path("int64"), "value": 2}}
    assert ask(world, {"n": {"count": {}}}, filter=only) == {"n": {"count": 1}}
    assert ask(world, {"n": {"count": {}}}, lastUpdatedTime={"gt": NOW}) == {"n": {"count": 0}}
    found = done(
        world.aggregate(
            "events",
            encode({"aggregates": {"n": {"max": {"property": path("int64")}}}, "includeTyping": True}),
            NOW,
        )
    )
    assert found["typing"]["plant"]["pump"].keys() == {"int64"}
    assert ask(world, {"n": {"max": {"property": ["createdTime"]}}}) == {"n": {"max": NOW}}
    assert ask(world, {"n": {"uniqueValues": {"property": ["space"]}}})["n"]["uniqueValueBuckets"] == [
        {"count": 2, "value": "plant"}
    ]

"""The filter language: what each filter matches, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.sandbox.world import Refusal, World
from tests.sandbox.builders import (
    CONTAINER,
    NOW,
    container,
    declared_world,
    done,
    encode,
    items,
    patient,
    record,
    upsert,
)


def path(name: str) -> list[str]:
    return ["plant", "pump", name]


@pytest.fixture(scope="module")
def world() -> World:
    made = declared_world()
    made.models.apply_spaces(items({"space": "mine"}), NOW)
    made.models.apply_containers(items(container("valve")), NOW)
    upsert(
        made, record("a", text="alpha", int64=1, float64=0.5, date="2024-01-01", texts=["x", "y"]), now=NOW
    )
    upsert(
        made,
        record("b", text="beta", int64=2, boolean=True, timestamp="2024-06-01T02:00:00+02:00", enum="on"),
        now=NOW + 1000,
    )
    other = record("c", space="mine", int64=3, direct={"space": "plant", "externalId": "n"}, int64s=[1, 2, 3])
    upsert(made, other, now=NOW + 2000)
    valve = record("d", text="x") | {
        "sources": [{"source": CONTAINER | {"externalId": "valve"}, "properties": {"int32": 1}}]
    }
    upsert(made, valve, now=NOW + 3000)
    return made


def found(world: World, definition, **more) -> str:
    page = done(world.filter("events", encode({"filter": definition, "limit": 1000, **more}), NOW + 9000))
    return "".join(one["externalId"] for one in page["items"])


@pytest.mark.parametrize(
    ("definition", "names"),
    [
        ({"matchAll": {}}, "abcd"),
        ({"equals": {"property": ["space"], "value": "plant"}}, "abd"),
        ({"equals": {"property": ["externalId"], "value": "a"}}, "a"),
        ({"in": {"property": ["externalId"], "values": ["a", "c", "z"]}}, "ac"),
        ({"equals": {"property": ["createdTime"], "value": NOW}}, "a"),
        ({"equals": {"property": ["lastUpdatedTime"], "value": "2023-11-14T22:13:21Z"}}, "b"),
        ({"range": {"property": ["lastUpdatedTime"], "gt": NOW, "lte": NOW + 2000}}, "bc"),
        ({"prefix": {"property": ["externalId"], "value": "b"}}, "b"),
        ({"prefix": {"property": ["space"], "value": "pl"}}, "abd"),
        ({"prefix": {"property": path("text"), "value": "al"}}, "a"),
        ({"equals": {"property": path("text"), "value": "beta"}}, "b"),
        ({"equals": {"property": path("int64"), "value": 2.0}}, "b"),
        ({"equals": {"property": path("boolean"), "value": True}}, "b"),
        ({"equals": {"property": path("enum"), "value": "on"}}, "b"),
        ({"equals": {"property": path("date"), "value": "2024-01-01"}}, "a"),
        ({"equals": {"property": path("timestamp"), "value": "2024-06-01T00:00:00Z"}}, "b"),
        ({"equals": {"property": path("direct"), "value": {"space": "plant", "externalId": "n"}}}, "c"),
        ({"in": {"property": path("int64"), "values": [1, 3]}}, "ac"),
        ({"range": {"property": path("int64"), "gte": 2}}, "bc"),
        ({"range": {"property": path("float64"), "gt": 0, "lt": 1}}, "a"),
        ({"range": {"property": path("date"), "gte": "2023-12-31", "lt": "2024-01-02"}}, "a"),
        ({"range": {"property": path("timestamp"), "gt": "2024-05-31T23:59:59Z"}}, "b"),
        ({"range": {"property": path("text"), "gte": "b"}}, "b"),
        ({"exists": {"property": path("int64")}}, "abc"),
        ({"not": {"exists": {"property": path("text")}}}, "cd"),
        ({"hasData": [CONTAINER]}, "abc"),
        ({"hasData": [CONTAINER | {"externalId": "valve"}]}, "d"),
        ({"hasData": [CONTAINER, CONTAINER | {"externalId": "valve"}]}, ""),
        ({"containsAll": {"property": path("texts"), "values": ["x", "y"]}}, "a"),
        ({"containsAll": {"property": path("texts"), "values": ["x", "z"]}}, ""),
        ({"containsAny": {"property": path("texts"), "values": ["x", "z"]}}, "a"),
        ({"containsAny": {"property": path("int64s"), "values": [3, 4]}}, "c"),
        ({"and": [{"matchAll": {}}, {"range": {"property": path("int64"), "lt": 3}}]}, "ab"),
        (
            {
                "or": [
                    {"equals": {"property": path("int64"), "value": 1}},
                    {"equals": {"property": ["externalId"], "value": "d"}},
                ]
            },
            "ad",
        ),
        (
            {
                "and": [
                    {"equals": {"property": ["space"], "value": "plant"}},
                    {"in": {"property": ["externalId"], "values": ["d", "a", "c", "nope"]}},
                ]
            },
            "ad",
        ),
        (
            {
                "and": [
                    {"equals": {"property": ["space"], "value": "plant"}},
                    {"equals": {"property": ["space"], "value": "mine"}},
                    {"equals": {"property": ["externalId"], "value": "a"}},
                ]
            },
            "",
        ),
    ],
)
def test_a_filter_matches_what_it_says(world, definition, names):
    """Each filter finds exactly its records, in the order of their last change; its negation finds the others."""
    assert found(world, definition) == names
    assert found(world, {"not": definition}) == "".join(name for name in "abcd" if name not in names)


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        ({}, "exactly one"),
        ({"and": [], "or": []}, "exactly one"),
        ({"and": []}, "filter.and"),
        ({"and": [{"matchAll": {}}] * 100}, "filter.and"),
        ({"or": [{"and": [{"nothing": 1}]}]}, "filter.or[0].and[0].nothing"),
        ({"nested": {}}, "not a filter"),
        ({"matchAll": {"a": 1}}, "empty object"),
        ({"equals": {"value": 1}}, "property"),
        ({"equals": {"property": ["space"]}}, "`value` is required"),
        ({"equals": {"property": ["space"], "value": 1}}, "type text"),
        ({"equals": {"property": ["deletedTime"], "value": 1}}, "filter.equals.property"),
        ({"equals": {"property": "space", "value": "x"}}, "filter.equals.property: expected a list"),
        ({"equals": {"property": [], "value": "x"}}, "filter.equals.property"),
        ({"equals": {"property": [""], "value": "x"}}, "filter.equals.property: expected a list"),
        ({"equals": {"property": ["a" * 256], "value": "x"}}, "1 to 255 characters"),
        ({"equals": {"property": ["a", "b"], "value": 1}}, "filter.equals.property"),
        ({"equals": {"property": ["plant", "nope", "x"], "value": 1}}, "does not exist"),
        ({"equals": {"property": path("nope"), "value": 1}}, "no property"),
        ({"equals": {"property": path("texts"), "value": "x"}}, "single value"),
        ({"equals": {"property": path("int64"), "value": "x"}}, "type int64"),
        ({"equals": {"property": path("text"), "value": None}}, "type text"),
        ({"equals": {"property": path("timestamp"), "value": "yesterday"}}, "timestamp"),
        ({"equals": {"property": path("text"), "value": "x", "more": 1}}, "unknown field"),
        ({"in": {"property": ["externalId"], "values": []}}, "1 to 100"),
        ({"in": {"property": ["externalId"], "values": ["x"] * 101}}, "1 to 100"),
        ({"exists": {"property": ["space"]}}, "filter.exists.property"),
        ({"prefix": {"property": path("int64"), "value": "1"}}, "only supported for text"),
        ({"prefix": {"property": ["createdTime"], "value": "1"}}, "filter.prefix.property"),
        ({"prefix": {"property": ["space"], "value": ""}}, "1 to 500"),
        ({"range": {"property": path("int64")}}, "bound is required"),
        ({"range": {"property": path("int64"), "gt": 1, "gte": 1}}, "same side"),
        ({"range": {"property": path("int64"), "lt": 1, "lte": 1}}, "same side"),
        ({"range": {"property": path("boolean"), "gt": True}}, "not supported"),
        ({"range": {"property": ["space"], "gt": "a"}}, "filter.range.property"),
        ({"containsAll": {"property": path("text"), "values": ["x"]}}, "list properties"),
        ({"hasData": []}, "1 to 10"),
        ({"hasData": [CONTAINER] * 11}, "1 to 10"),
        (
            {"hasData": [{"type": "view", "space": "plant", "externalId": "pump", "version": "1"}]},
            "type: container",
        ),
        ({"hasData": [CONTAINER | {"externalId": "nope"}]}, "does not exist"),
        ({"and": [{"and": [{"matchAll": {}}] * 60}, {"and": [{"matchAll": {}}] * 60}]}, "at most 100 nodes"),
    ],
)
def test_a_filter_against_the_rules_is_refused(world, definition, told):
    """Each fault is a 400 that names the place in the filter."""
    with pytest.raises(Refusal) as caught:
        found(world, definition)
    assert caught.value.status == 400
    assert told in caught.value.message


def test_a_filter_may_be_ten_levels_deep(world):
    """Ten levels are taken, eleven refused."""
    definition = {"matchAll": {}}
    for _ in range(9):
        definition = {"not": definition}
    assert found(world, definition) == ""
    with pytest.raises(Refusal, match="10 levels"):
        found(world, {"not": definition})


_LEAVES = st.one_of(
    st.builds(lambda n: {"equals": {"property": path("int64"), "value": n}}, st.integers(0, 4)),
    st.builds(lambda n: {"range": {"property": path("int64"), "lte": n}}, st.integers(0, 4)),
    st.builds(
        lambda n: {"in": {"property": ["externalId"], "values": n}},
        st.lists(st.sampled_from("abcde"), min_size=1),
    ),
    st.builds(lambda n: {"equals": {"property": ["space"], "value": n}}, st.sampled_from(["plant", "mine"])),
)


def _joined(inner):
    return st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda part: {"not": part}, inner),
    )


_TREES = st.one_of(_LEAVES, _joined(_LEAVES), _joined(_joined(_LEAVES)))


@patient
@given(_TREES)
def test_a_short_way_finds_the_same_as_the_long_one(world, tree):
    """Filters that name keys are answered by key; the same filter hidden from that finds the same records."""
    assert found(world, tree) == found(world, {"not": {"not": tree}})

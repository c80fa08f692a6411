"""Reading back: pages, sorting, selected properties, types, times and the change feed."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdf_upsert.sandbox.world import Operation, Refusal
from tests.sandbox.builders import (
    CONTAINER,
    NOW,
    declared_world,
    done,
    encode,
    items,
    patient,
    record,
    upsert,
    write,
)

ALL = [{"source": CONTAINER, "properties": ["*"]}]
DAY = 86_400_000


def ask(world, *, stream="events", now=NOW, **body):
    return done(world.filter(stream, encode(body), now))


def names(page) -> list[str]:
    return [one["externalId"] for one in page["items"]]


def refused(world, **body) -> str:
    with pytest.raises(Refusal) as caught:
        ask(world, **body)
    assert caught.value.status == 400
    return caught.value.message


def test_a_page_has_ten_records_unless_told():
    """The limit is 10 by default, and from 1 to 1000."""
    world = declared_world()
    upsert(world, *(record(f"r{n:03}", int64=n) for n in range(30)))
    assert len(ask(world)["items"]) == 10
    assert len(ask(world, limit=1000)["items"]) == 30
    for wrong in (0, 1001, "5", 1.5):
        assert "limit" in refused(world, limit=wrong)


def test_only_selected_properties_are_shown():
    """Without sources no values are shown; with names only those; with a star all of the container."""
    world = declared_world()
    upsert(world, record("a", int64=1, text="x"))
    assert ask(world)["items"][0]["properties"] == {}
    some = [{"source": CONTAINER, "properties": ["int64", "boolean"]}]
    assert ask(world, sources=some)["items"][0]["properties"] == {"plant": {"pump": {"int64": 1}}}
    assert ask(world, sources=ALL)["items"][0]["properties"] == {"plant": {"pump": {"int64": 1, "text": "x"}}}
    assert "no property `nope`" in refused(world, sources=[{"source": CONTAINER, "properties": ["nope"]}])
    assert "does not exist" in refused(
        world, sources=[{"source": CONTAINER | {"externalId": "nope"}, "properties": ["*"]}]
    )
    assert "sources" in refused(world, sources=[])


def test_a_request_has_its_sizes():
    """Up to ten sources, with 1 to 1000 properties each; from one sort key on; bounds and cursors that are no novels."""
    world = declared_world()
    one = {"source": CONTAINER, "properties": ["*"]}
    ask(world, sources=[one] * 10)
    ask(world, sources=[{"source": CONTAINER, "properties": ["text"] * 1000}])
    for place, body in (
        ("sources", {"sources": [one] * 11}),
        ("sources[0].properties", {"sources": [one | {"properties": []}]}),
        ("sources[0].properties", {"sources": [one | {"properties": ["text"] * 1001}]}),
        ("sources[0].properties[0]: expected `str` of length", {"sources": [one | {"properties": [""]}]}),
        (
            "sources[0].properties[0]: expected `str` of length",
            {"sources": [one | {"properties": ["x" * 256]}]},
        ),
        ("sort", {"sort": []}),
        ("lastUpdatedTime.gt: expected `str` of length", {"lastUpdatedTime": {"gt": ""}}),
        ("lastUpdatedTime.gt: expected `str` of length", {"lastUpdatedTime": {"gt": "x" * 101}}),
    ):
        assert refused(world, **body).startswith(place)
    for place, body in (
        ("cursor: expected `str` of length", {"cursor": ""}),
        ("cursor: expected `str` of length", {"cursor": "x" * 100_001}),
        ("initializeCursor: expected `str` of length", {"initializeCursor": "1-ago"}),
        ("initializeCursor: expected `str` of length", {"initializeCursor": "0" * 96 + "1d-ago"}),
    ):
        with pytest.raises(Refusal) as caught:
            feed(world, **body)
        assert caught.value.message.startswith(place)


def test_types_are_told_when_asked_for():
    """`includeTyping` describes the properties of the reply and of the filter."""
    world = declared_world()
    definition = {"exists": {"property": ["plant", "pump", "enum"]}}
    some = [{"source": CONTAINER, "properties": ["int64"]}]
    typing = ask(world, sources=some, filter=definition, includeTyping=True)["typing"]["plant"]["pump"]
    assert set(typing) == {"int64", "enum"}
    assert typing["int64"] == {
        "nullable": True,
        "defaultValue": None,
        "type": {"type": "int64", "list": False},
    }
    assert typing["enum"]["type"]["unknownValue"] == "lost"


@patient
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"int64": st.integers(0, 3), "text": st.sampled_from("xyz")}),
        max_size=25,
    ),
    st.lists(
        st.tuples(st.sampled_from(["int64", "text"]), st.booleans()),
        min_size=1,
        max_size=2,
        unique_by=lambda k: k[0],
    ),
    st.integers(1, 30),
)
def test_sorting_is_that_of_the_values(values, orders, limit):
    """Several keys, each way, missing values last, equal ones in the order of their last change."""
    world = declared_world()
    rows = [(f"r{n:02}", one | {"boolean": True}) for n, one in enumerate(values)]
    if rows:
        upsert(world, *(record(name, **one) for name, one in rows))
    expected = rows
    for name, descending in reversed(orders):
        have = sorted(
            (row for row in expected if name in row[1]), key=lambda row: row[1][name], reverse=descending
        )
        if descending:  # Python's reverse keeps equal ones in order, as the sandbox does
            assert all(a[0] < b[0] for a, b in pairwise(have) if a[1] == b[1]) or len(orders) > 1
        expected = have + [row for row in expected if name not in row[1]]
    sort = [
        {"property": ["plant", "pump", name], "direction": "descending" if descending else "ascending"}
        for name, descending in orders
    ]
    assert names(ask(world, sort=sort, limit=limit)) == [name for name, _ in expected[:limit]]


def test_sorting_has_its_rules():
    """Up to five keys, of single values that have an order, top-level ones among them."""
    world = declared_world()
    upsert(world, record("b"), record("a"))
    assert names(ask(world, sort=[{"property": ["externalId"]}])) == ["a", "b"]
    assert "sort" in refused(world, sort=[{"property": ["externalId"]}] * 6)
    for name in ("texts", "json", "direct", "nope"):
        assert "sort[0].property" in refused(world, sort=[{"property": ["plant", "pump", name]}])


def test_times_are_bounded_as_the_api_asks():
    """A lower bound must stand, none twice, as text or milliseconds; an immutable stream needs one, and not too early."""
    world = declared_world()
    upsert(world, record("a"), now=NOW)
    upsert(world, record("b"), now=NOW + 1)
    assert names(ask(world, lastUpdatedTime={"gt": NOW})) == ["b"]
    assert names(ask(world, lastUpdatedTime={"gte": "2023-11-14T22:13:20Z", "lt": NOW + 1})) == ["a"]
    assert "lower bound" in refused(world, lastUpdatedTime={"lt": NOW})
    assert "same side" in refused(world, lastUpdatedTime={"gt": NOW, "gte": NOW})
    assert "lastUpdatedTime.gt" in refused(world, lastUpdatedTime={"gt": "soon"})
    assert "required for immutable" in refused(world, stream="log")
    assert "P7D" in refused(world, stream="log", now=NOW + 9 * DAY, lastUpdatedTime={"gt": NOW})
    assert ask(world, stream="log", now=NOW + 6 * DAY, lastUpdatedTime={"gt": NOW}) == {"items": []}


def test_a_reply_has_a_ceiling():
    """A reply of more than 20 MB, and a page of changes of more than 10 MB, is refused, not sent."""
    world = declared_world()
    for part in range(4):
        upsert(world, *(record(f"{part}.{n}", text="x" * 120_000) for n in range(50)))
    assert len(ask(world, sources=ALL, limit=100)["items"]) == 100
    assert "20,000,000" in refused(world, sources=ALL, limit=1000)
    assert len(feed(world, initializeCursor="1d-ago", sources=ALL, limit=80)["items"]) == 80
    with pytest.raises(Refusal, match="10,000,000"):
        feed(world, initializeCursor="1d-ago", sources=ALL, limit=90)


INT = ["plant", "pump", "int64"]
QUERIES = {
    "filter": lambda world: world.filter("events", encode({"limit": 1000}), NOW),
    "sort": lambda world: world.filter("events", encode({"limit": 1000, "sort": [{"property": INT}]}), NOW),
    "sync": lambda world: world.sync("events", encode({"initializeCursor": "9d-ago", "limit": 1000}), NOW),
    "sum": lambda world: world.aggregate(
        "events", encode({"aggregates": {"n": {"sum": {"property": INT}}}}), NOW
    ),
}
_CHANGES = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=3, unique_by=lambda one: one[0])


@settings(patient, max_examples=30)
@given(st.sampled_from(sorted(QUERIES)), st.integers(4, 8), st.lists(_CHANGES, max_size=3))
def test_a_query_sees_the_stream_as_it_was_when_it_began(kind, many, meanwhile):
    """Whatever is created, updated or deleted between its steps, the answer is that of its beginning."""
    world = declared_world()

    def put(number: int, value: int) -> None:
        upsert(world, record(f"r{number}", int64=value, text="x" * 100_000))  # a step reads three of them

    for number in range(many):
        put(number, number)
    query = QUERIES[kind](world)
    changes = iter(meanwhile)
    answer = None
    while answer is None:
        try:
            next(query)
        except StopIteration as end:
            answer = end.value
        for number, gone in next(changes, ()):
            if gone:
                write(world, Operation.DELETE, "events", {"space": "plant", "externalId": f"r{number}"})
            else:
                put(number, 100)
    if kind == "sum":
        assert answer["aggregates"]["n"]["sum"] == sum(range(many))
    else:
        assert names(answer) == [f"r{number}" for number in range(many)]


@pytest.mark.parametrize("kind", QUERIES)
def test_a_long_query_has_many_short_steps(kind):
    """A step reads about three hundred small records, however many there are; a page that is full reads no more."""
    world = declared_world()
    upsert(world, *(record(f"r{n}", int64=n) for n in range(1000)))
    assert 3 <= len(list(QUERIES[kind](world))) <= 5
    assert len(list(world.filter("events", encode({"limit": 5}), NOW))) == 0


@pytest.mark.parametrize("direction", ["ascending", "descending"])
def test_a_sorted_page_is_chosen_from_all(direction):
    """Over many steps the page holds the first of all records, wherever in the stream they stand."""
    world = declared_world()
    values = [(n * 611) % 1009 for n in range(1000)]
    upsert(world, *(record(f"r{value}", int64=value) for value in values))
    sort = [{"property": INT, "direction": direction}]
    expected = sorted(values, reverse=direction == "descending")[:50]
    assert names(ask(world, sort=sort, limit=50)) == [f"r{value}" for value in expected]


def test_a_query_ends_with_its_stream():
    """A stream that is deleted between two steps is not there any more: 404."""
    world = declared_world()
    upsert(world, *(record(f"r{n}") for n in range(1000)))
    query = QUERIES["sort"](world)
    next(query)
    world.streams.delete(items({"externalId": "events"}))
    with pytest.raises(Refusal) as caught:
        done(query)
    assert caught.value.status == 404


def test_keys_are_looked_up():
    """Filters that name external ids find them in one step, with a space or without, alone or as alternatives."""
    world = declared_world()
    world.models.apply_spaces(items(*({"space": space} for space in ("mine", "plant-b"))), NOW)
    upsert(world, *(record(f"r{n}") for n in range(1000)))
    upsert(world, *(record(f"r{n}", space=space) for n in (1, 2) for space in ("mine", "plant-b")))
    named = {"in": {"property": ["externalId"], "values": ["r2", "nope", "r1"]}}
    spaces = {"in": {"property": ["space"], "values": ["plant", "mine"]}}

    def found(definition: dict) -> list[tuple[str, str]]:
        query = world.filter("events", encode({"filter": definition, "limit": 1000}), NOW)
        next(query)
        return [(one["space"], one["externalId"]) for one in done(query)["items"]]

    both = [("plant", "r1"), ("plant", "r2"), ("mine", "r1"), ("mine", "r2")]
    assert found({"and": [spaces, named]}) == both
    assert sorted(found(named)) == sorted([*both, ("plant-b", "r1"), ("plant-b", "r2")])
    one = {"and": [{"equals": {"property": ["externalId"], "value": "r1"}}, spaces]}
    assert found({"or": [one, {"equals": {"property": ["externalId"], "value": "nope"}}]}) == both[::2]
    values = ["r2", *(f"x{n}" for n in range(99))]
    many = {"in": {"property": ["externalId"], "values": values}}
    spaces = {"in": {"property": ["space"], "values": ["plant", *(f"s{n}" for n in range(10))]}}
    both = {"and": [many, spaces]}
    assert found(both) == [("plant", "r2")]
    walked = list(world.filter("events", encode({"filter": both}), NOW))
    assert len(walked) > 1  # too many keys to be looked up in one step
    write(world, Operation.DELETE, "events", {"space": "plant", "externalId": "r1"})
    assert ("plant", "r1") not in found(named)


def feed(world, now=NOW, **body):
    return done(world.sync("events", encode(body), now))


def test_the_change_feed_tells_each_change_once():
    """Created, updated and deleted records come in their order, then nothing until the next change."""
    world = declared_world()
    upsert(world, *(record(f"r{n}") for n in range(11)))
    assert len(feed(world, initializeCursor="1d-ago")["items"]) == 10
    world = declared_world()
    upsert(world, record("a"), record("b"))
    page = feed(world, initializeCursor="1d-ago", limit=1, sources=ALL)
    assert [(one["externalId"], one["status"]) for one in page["items"]] == [("a", "created")]
    assert page["items"][0]["properties"] == {"plant": {"pump": {"text": "x"}}}
    assert page["hasNext"]
    page = feed(world, cursor=page["nextCursor"], limit=1)
    assert (names(page), page["hasNext"]) == (["b"], False)
    quiet = feed(world, cursor=page["nextCursor"])
    assert (quiet["items"], quiet["hasNext"]) == ([], False)
    upsert(world, record("a", int64=1), now=NOW + 1)
    write(world, Operation.DELETE, "events", {"space": "plant", "externalId": "b"}, now=NOW + 2)
    page = feed(world, cursor=quiet["nextCursor"])
    assert [(one["externalId"], one["status"], "properties" in one) for one in page["items"]] == [
        ("a", "updated", True),
        ("b", "deleted", False),
    ]


def test_the_change_feed_may_be_filtered():
    """Only matching records come, and the tombstones of keys that could match."""
    world = declared_world()
    world.models.apply_spaces(items({"space": "mine"}), NOW)
    upsert(
        world,
        record("a", int64=1),
        record("b", int64=2),
        record("c", space="mine", int64=1),
        record("d", int64=1),
    )
    gone = [{"space": "plant", "externalId": "d"}]
    write(world, Operation.DELETE, "events", *gone)
    one = {"equals": {"property": ["plant", "pump", "int64"], "value": 1}}
    plant = {"equals": {"property": ["space"], "value": "plant"}}
    assert names(feed(world, initializeCursor="1d-ago", filter=one)) == ["a", "c", "d"]
    assert names(feed(world, initializeCursor="1d-ago", filter={"and": [one, plant]})) == ["a", "d"]
    mine = {"equals": {"property": ["space"], "value": "mine"}}
    assert names(feed(world, initializeCursor="1d-ago", filter=mine)) == ["c"]


def test_the_change_feed_starts_where_it_is_told():
    """`initializeCursor` leaves out what changed longer ago; a cursor beats it; without either it is refused."""
    world = declared_world()
    upsert(world, record("old"), now=NOW - 2 * DAY)
    upsert(world, record("new"), now=NOW)
    assert names(feed(world, initializeCursor="1d-ago")) == ["new"]
    assert names(feed(world, initializeCursor="3d-ago")) == ["old", "new"]
    end = feed(world, initializeCursor="3d-ago")["nextCursor"]
    assert names(feed(world, cursor=end, initializeCursor="3d-ago")) == []
    for wrong in (
        {},
        {"initializeCursor": "yesterday"},
        {"initializeCursor": "0d-ago"},
        {"cursor": "nonsense"},
    ):
        with pytest.raises(Refusal) as caught:
            feed(world, **wrong)
        assert caught.value.status == 400
    with pytest.raises(Refusal, match="cursor"):
        done(world.sync("log", encode({"cursor": end}), NOW))

"""Junk in any place of any request: it is refused with 400 or taken, and never an error of the sandbox's own."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cdf_upsert.sandbox.world import Operation, Refusal, World
from tests.sandbox.builders import (
    CONTAINER,
    NOW,
    container,
    declared_world,
    done,
    encode,
    record,
    stream,
    upsert,
)

JUNK: list[Any] = [
    None, True, 0, -1, 1.5, 10**400, "", "x", "a.b", "[", "x" * 300, "\0", [], [0], ["x"], [[]], [None] * 3, {}, {"x": 1}, {"type": {}},
]  # fmt: skip

INT, TEXT, TIME, LIST = (["plant", "pump", name] for name in ("int64", "text", "timestamp", "texts"))
FILTER = {
    "and": [
        {"or": [{"equals": {"property": TEXT, "value": "x"}}, {"in": {"property": INT, "values": [1, 2]}}]},
        {"not": {"exists": {"property": TIME}}},
        {"prefix": {"property": ["externalId"], "value": "r"}},
        {"range": {"property": ["createdTime"], "gte": 0, "lt": "2099-01-01T00:00:00Z"}},
        {"containsAny": {"property": LIST, "values": ["x"]}},
        {"containsAll": {"property": LIST, "values": ["x"]}},
        {"equals": {"property": ["plant", "pump", "direct"], "value": {"space": "plant", "externalId": "x"}}},
        {"hasData": [CONTAINER]},
        {"matchAll": {}},
    ]
}
SOURCES = [{"source": CONTAINER, "properties": ["int64", "*"]}]
UNITS = {"properties": [{"property": ["plant", "gauge", "t"], "unit": {"externalId": "temperature:k"}}]}
MORE = {"sources": SOURCES, "targetUnits": UNITS, "includeTyping": True, "limit": 5}
MOVING = {"bucketsPath": "u[x]>_count", "window": 2, "function": "MovingFunctions.sum"}
AGGREGATES = {
    "n": {"count": {"property": INT}},
    "s": {"sum": {"property": INT}},
    "m": {"min": {"property": ["createdTime"]}},
    "h": {
        "numberHistogram": {
            "property": INT,
            "interval": 1,
            "hardBounds": {"min": 0, "max": 5},
            "aggregates": {
                "u": {"uniqueValues": {"property": TEXT, "size": 2}},
                "v": {"movingFunction": MOVING},
            },
        }
    },
    "f": {
        "filters": {
            "filters": [{"matchAll": {}}],
            "aggregates": {
                "t": {
                    "timeHistogram": {
                        "property": TIME,
                        "calendarInterval": "1d",
                        "hardBounds": {"min": "2020-01-01T00:00:00Z"},
                    }
                },
                "w": {"timeHistogram": {"property": TIME, "fixedInterval": "3m"}},
            },
        }
    },
}
REQUESTS: dict[str, tuple[dict[str, Any], Callable[[World, bytes], Any]]] = {
    "filter": (
        {
            "filter": FILTER,
            "lastUpdatedTime": {"gt": 0},
            "sort": [{"property": INT, "direction": "descending"}],
        }
        | MORE,
        lambda world, body: done(world.filter("events", body, NOW)),
    ),
    "sync": (
        {"filter": FILTER, "initializeCursor": "2d-ago"} | MORE,
        lambda world, body: done(world.sync("events", body, NOW)),
    ),
    "sync from": ({"cursor": "x"}, lambda world, body: done(world.sync("events", body, NOW))),
    "aggregate": (
        {"aggregates": AGGREGATES, "targetUnits": UNITS},
        lambda world, body: done(world.aggregate("events", body, NOW)),
    ),
    "upsert": (
        {
            "items": [
                record(
                    "a", int64=1, texts=["x"], json={"a": [1]}, direct={"space": "plant", "externalId": "x"}
                )
            ]
        },
        lambda world, body: world.prepare(Operation.UPSERT, "events", body, NOW),
    ),
    "delete": (
        {"items": [{"space": "plant", "externalId": "a"}]},
        lambda world, body: world.prepare(Operation.DELETE, "events", body, NOW),
    ),
    "spaces": (
        {"items": [{"space": "new", "name": "n", "description": "d"}]},
        lambda world, body: world.models.apply_spaces(body, NOW),
    ),
    "container": (
        {
            "items": [
                container(
                    "new",
                    name="n",
                    properties={
                        "e": {"type": {"type": "enum", "values": {"a": {"name": "n"}}, "unknownValue": "a"}},
                        "f": {
                            "type": {"type": "float64", "unit": {"externalId": "angle:rad"}},
                            "defaultValue": 1,
                        },
                        "t": {"type": {"type": "text", "list": True, "maxListSize": 2}, "nullable": False},
                    },
                )
            ]
        },
        lambda world, body: world.models.apply_containers(body, NOW),
    ),
    "container for nodes": (
        {
            "items": [
                container(
                    "nodes",
                    usedFor="node",
                    constraints={
                        "c": {"constraintType": "uniqueness", "properties": ["text"]},
                        "r": {"require": CONTAINER},
                    },
                    indexes={"i": {"indexType": "btree", "properties": ["text"]}},
                    properties={"text": {"type": {"type": "text"}}},
                )
            ]
        },
        lambda world, body: world.models.apply_containers(body, NOW),
    ),
    "ids": (
        {"items": [{"space": "plant", "externalId": "pump"}]},
        lambda world, body: world.models.containers_by_ids(body),
    ),
    "parts": (
        {"items": [{"space": "plant", "containerExternalId": "pump", "identifier": "i"}]},
        lambda world, body: world.models.delete_parts("indexes", body, NOW),
    ),
    "stream": ({"items": [stream("new")]}, lambda world, body: world.streams.create(body, NOW)),
    "no stream": ({"items": [{"externalId": "nothing"}]}, lambda world, body: world.streams.delete(body)),
}


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a request, the whole among them."""
    yield path
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def spoilt(request: Any) -> Iterator[Any]:
    """The request with each junk in each place, and with junk as a further or another key of each object."""
    for path in places(request):
        for junk in JUNK:
            yield replaced(request, path, junk)
        *_, last = path or (None,)
        if isinstance(last, str):
            for name in ("", "x" * 300, "a]b", "_count"):
                other = copy.deepcopy(request)
                parent = step(other, path[:-1])
                parent[name] = parent.pop(last)
                yield other


def step(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def replaced(request: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    other = copy.deepcopy(request)
    step(other, path[:-1])[path[-1]] = junk
    return other


def world_of_all() -> World:
    world = declared_world()
    gauge = {"t": {"type": {"type": "float64", "unit": {"externalId": "temperature:deg_c"}}}}
    world.models.apply_containers(encode({"items": [container("gauge", properties=gauge)]}), NOW)
    upsert(
        world, record("r1", int64=1, text="x", texts=["x"]), record("r2", timestamp="2024-01-01T00:00:00Z")
    )
    return world


@pytest.mark.parametrize("name", REQUESTS)
def test_junk_is_refused_in_its_own_words(name):
    """Every part of every request in turn gives way to every junk: a 400 with a message, or an answer."""
    request, ask = REQUESTS[name]
    world = world_of_all()
    refusals = []
    for one in spoilt(request):
        try:
            ask(world, json.dumps(one).encode())
        except Refusal as refusal:
            refusals.append(refusal)
    assert len(refusals) > 20
    assert {one.status for one in refusals} <= {400, 409, 422}
    assert all(one.message for one in refusals)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "sync from"])
def test_the_requests_themselves_are_good(name):
    """Without junk each request is answered, so that what is refused above is the junk."""
    request, ask = REQUESTS[name]
    ask(world_of_all(), encode(request))

"""Ingest, upsert and delete: what is refused before anything is stored, and what is stored."""

import pytest
from msgspec import UNSET

from cdf_upsert.sandbox.world import Operation, Refusal
from tests.sandbox.builders import (
    CONTAINER,
    NOW,
    container,
    declared_world,
    done,
    encode,
    items,
    record,
    stream,
    upsert,
    write,
)

DAY = 86_400_000


def refusal(body: bytes, operation: Operation = Operation.UPSERT, name: str = "events") -> Refusal:
    with pytest.raises(Refusal) as caught:
        declared_world().prepare(operation, name, body, NOW)
    return caught.value


def changed(**fields) -> dict:
    """A good record with fields replaced; UNSET takes one away."""
    return {name: value for name, value in (record("a") | fields).items() if value is not UNSET}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "expected `object`"),
        (b'{"items":' + b"[" * 100_000, "items[0]: expected `object`"),
        (items(record("a", json="X")).replace(b'"X"', b"[" * 100_000), "JSON"),
        (items(record("a", json="X")).replace(b'"X"', b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
        (b"{}", "items"),
        (items(), "items: expected `array` of length >= 1"),
        (items(*[record(str(n)) for n in range(1001)]), "items: expected `array` of length <= 1000"),
        (items(record("a"), changed(space=UNSET)), "items[1]: object missing required field `space`"),
        (items(changed(space=1)), "items[0].space"),
        (items(changed(space="a.b")), "items[0].space: `a.b` is not a valid space id"),
        (items(changed(space="a" * 44)), "is not a valid space id"),
        (items(changed(externalId=UNSET)), "externalId"),
        (items(changed(externalId="")), "items[0].externalId"),
        (items(changed(externalId="x" * 257)), "items[0].externalId"),
        (items(changed(externalId="a\0b")), "items[0].externalId: a text must not contain the NUL"),
        (
            items(record("a", text="a\0b")),
            "items[0].sources[0].properties.text: a text must not contain the NUL",
        ),
        (items(record("a", json={"k\0": 1})), "items[0].sources[0].properties.json"),
        (items(changed(more=1)), "items[0]: object contains unknown field `more`"),
        (items(changed(sources=[])), "items[0].sources"),
        (
            items(changed(sources=record("a")["sources"] * 101)),
            "items[0].sources: expected `array` of length <= 100",
        ),
        (items(changed(sources=record("a")["sources"] * 2)), "items[0].sources: names a container twice"),
        (items(changed(sources=[{"source": CONTAINER}])), "items[0].sources[0]"),
        (
            items(changed(sources=[{"source": {"type": "view"}, "properties": {}}])),
            "items[0].sources[0].source",
        ),
        (
            items(changed(sources=[{"source": CONTAINER | {"space": "a.b"}, "properties": {"int32": 1}}])),
            "items[0].sources[0].source.space",
        ),
        (
            items(
                changed(sources=[{"source": CONTAINER | {"externalId": "a-b"}, "properties": {"int32": 1}}])
            ),
            "items[0].sources[0].source.externalId",
        ),
        (items(record("a"), record("b", int32="x")), "items[1].sources[0].properties.int32: expected `int`"),
        (items(record("a", nope=1)), "items[0].sources[0].properties: the container has no property `nope`"),
    ],
)
def test_a_request_that_is_not_well_formed_is_refused_whole(body, told):
    """Each fault of form is a 400 that names the item and the field."""
    found = refusal(body)
    assert found.status == 400
    assert told in found.message


def test_an_escaped_backslash_before_u0000_is_no_nul():
    """The text backslash-u0000 is not the NUL character."""
    world = declared_world()
    upsert(world, record("a", text="\\u0000"))
    assert world.records("events")["plant", "a"]["plant", "pump"] == {"text": "\\u0000"}


@pytest.mark.parametrize("operation", [Operation.INGEST, Operation.UPSERT, Operation.DELETE])
def test_a_key_that_stands_twice_is_refused(operation):
    """Keys that stand twice are a 422 that names each once, space and external id joined by a dot."""
    found = [record(name) for name in ("a.b", "c", "a.b", "a.b")]
    if operation is Operation.DELETE:
        found = [{"space": one["space"], "externalId": one["externalId"]} for one in found]
    told = refusal(items(*found), operation)
    assert told.status == 422
    assert told.duplicated == ({"externalId": "plant.a.b"},)


@pytest.mark.parametrize("operation", [Operation.UPSERT, Operation.DELETE])
def test_an_immutable_stream_is_not_changed(operation):
    """Upsert and delete are a 422 on an immutable stream."""
    assert refusal(items(record("a")), operation, "log").status == 422


def test_an_upsert_replaces_the_whole_record():
    """Properties that a later upsert leaves out are gone; the time of creation stays."""
    world = declared_world()
    upsert(world, record("a", text="x", int32=1))
    upsert(world, record("a", int64=2), now=NOW + 5)
    assert world.records("events") == {("plant", "a"): {("plant", "pump"): {"int64": 2}}}
    found = done(world.filter("events", encode({}), NOW + 9))["items"]
    assert [(one["createdTime"], one["lastUpdatedTime"]) for one in found] == [(NOW, NOW + 5)]


def test_a_delete_has_its_form():
    """From 1 to 1000 ids, each whole and with nothing more; the fault names the item."""
    one = {"space": "plant", "externalId": "a"}
    for content, told in (
        ([], "items: expected `array` of length >= 1"),
        ([one | {"externalId": str(n)} for n in range(1001)], "items: expected `array` of length <= 1000"),
        ([one, {"space": "plant"}], "items[1]"),
        ([one | {"space": "a.b"}], "items[0].space"),
        ([one | {"externalId": ""}], "items[0].externalId"),
        ([one | {"externalId": "x" * 257}], "items[0].externalId"),
        ([one | {"externalId": "a\0"}], "NUL"),
        ([one | {"sources": []}], "items[0]: object contains unknown field `sources`"),
    ):
        found = refusal(items(*content), Operation.DELETE)
        assert (found.status, told in found.message) == (400, True)


def test_a_record_may_have_several_sources():
    """Properties of several containers are stored and read apart."""
    world = declared_world()
    world.models.apply_containers(items(container("valve")), NOW)
    valve = CONTAINER | {"externalId": "valve"}
    both = changed(
        sources=[
            {"source": CONTAINER, "properties": {"int32": 1}},
            {"source": valve, "properties": {"int32": 2}},
        ]
    )
    upsert(world, both, record("b", int32=3))
    assert world.records("events")["plant", "a"] == {
        ("plant", "pump"): {"int32": 1},
        ("plant", "valve"): {"int32": 2},
    }
    with pytest.raises(Refusal, match=r"items\[1\].sources\[1\].properties.int32"):
        upsert(
            world,
            record("c"),
            both | {"sources": [both["sources"][0], {"source": valve, "properties": {"int32": ""}}]},
        )


def test_numbers_come_back_as_they_were():
    """64-bit integers are exact and a float keeps its value."""
    world = declared_world()
    upsert(world, record("a", int64=2**63 - 1, float64=0.1))
    assert world.records("events")["plant", "a"]["plant", "pump"] == {"int64": 2**63 - 1, "float64": 0.1}


def test_ingest_refuses_what_exists_in_a_mutable_stream():
    """Ingest creates: records that exist are conflicts, the others are written; a deleted one may be created again."""
    world = declared_world()
    upsert(world, record("a", int32=1))
    assert write(world, Operation.INGEST, "events", record("a", int32=2), record("b")) == {"plant.a"}
    assert world.records("events")["plant", "a"]["plant", "pump"] == {"int32": 1}
    assert ("plant", "b") in world.records("events")
    write(world, Operation.DELETE, "events", {"space": "plant", "externalId": "a"})
    assert write(world, Operation.INGEST, "events", record("a", int32=3)) == frozenset()
    assert world.records("events")["plant", "a"]["plant", "pump"] == {"int32": 3}


def test_an_immutable_stream_discards_duplicates_only():
    """The same content again is discarded; another content under the same key is kept beside it."""
    world = declared_world()
    write(world, Operation.INGEST, "log", record("a", int32=1), record("a", int32=1), record("a", int32=2))
    write(world, Operation.INGEST, "log", record("a", int32=2), record("b", int32=1))
    statistics = world.retrieve_stream("log", NOW, statistics=True)
    assert statistics["settings"]["limits"]["maxRecordsTotal"]["consumed"] == 3
    found = done(
        world.filter(
            "log",
            encode(
                {
                    "lastUpdatedTime": {"gte": NOW},
                    "filter": {
                        "and": [
                            {"equals": {"property": ["space"], "value": "plant"}},
                            {"equals": {"property": ["externalId"], "value": "a"}},
                        ]
                    },
                }
            ),
            NOW,
        )
    )
    assert len(found["items"]) == 2


def test_a_duplicate_is_told_by_its_content():
    """In an immutable stream the order of properties and of sources makes no other record."""
    world = declared_world()
    world.models.apply_containers(items(container("valve")), NOW)
    sources = [
        {"source": CONTAINER, "properties": {"int32": 1, "text": "x"}},
        {"source": CONTAINER | {"externalId": "valve"}, "properties": {"int32": 2}},
    ]
    write(world, Operation.INGEST, "log", changed(sources=sources))
    sources = [sources[1], {"source": CONTAINER, "properties": {"text": "x", "int32": 1}}]
    write(world, Operation.INGEST, "log", changed(sources=sources))
    write(world, Operation.INGEST, "log", changed(sources=sources[:1]), changed(sources=sources[1:]))
    statistics = world.retrieve_stream("log", NOW, statistics=True)["settings"]["limits"]
    assert statistics["maxRecordsTotal"]["consumed"] == 3


def test_a_delete_ignores_what_is_not_there():
    """Unknown ids are no error, and deleting twice changes nothing more."""
    world = declared_world()
    upsert(world, record("a"), record("b"))
    ids = [{"space": "plant", "externalId": name} for name in ("a", "nope")]
    write(world, Operation.DELETE, "events", *ids)
    write(world, Operation.DELETE, "events", *ids)
    assert list(world.records("events")) == [("plant", "b")]


def test_a_full_stream_takes_no_more():
    """Past the template's number of records a write is a 429, while updates still pass."""
    world = declared_world()
    upsert(world, record("a", int32=1))
    kept = world.streams.get("events", NOW)
    kept.records = kept.template.max_records
    upsert(world, record("a", int32=2))
    with pytest.raises(Refusal) as caught:
        upsert(world, record("b"))
    assert caught.value.status == 429
    assert len(world.records("events")) == 1


def test_a_stream_full_of_bytes_takes_no_more():
    """Past the template's gigabytes a record that grows is a 429, while one that shrinks passes."""
    world = declared_world()
    upsert(world, record("a", text="x" * 100))
    kept = world.streams.get("events", NOW)
    kept.bytes = kept.template.max_gigabytes * 10**9
    with pytest.raises(Refusal) as caught:
        upsert(world, record("a", text="x" * 101))
    assert caught.value.status == 429
    upsert(world, record("a", text="x" * 99))


def test_readers_see_a_write_a_while_later():
    """With `visible_after` a reader sees the old state until then, while writers already meet the new one."""
    world = declared_world(visible_after=2000)

    def count(now: int) -> int:
        body = encode({"aggregates": {"n": {"count": {}}}})
        return done(world.aggregate("events", body, now))["aggregates"]["n"]["count"]

    upsert(world, record("a", int32=1), now=NOW)
    assert done(world.filter("events", encode({}), NOW + 1999))["items"] == []
    assert count(NOW + 1999) == 0
    assert write(world, Operation.INGEST, "events", record("a"), now=NOW + 10) == {"plant.a"}
    assert count(NOW + 2000) == 1
    assert len(done(world.filter("events", encode({}), NOW + 2000))["items"]) == 1
    upsert(world, record("a", int32=2), now=NOW + 3000)
    write(world, Operation.DELETE, "events", {"space": "plant", "externalId": "a"}, now=NOW + 3001)
    assert len(done(world.filter("events", encode({}), NOW + 4000))["items"]) == 1
    assert count(NOW + 4000) == 1
    assert world.streams.get("events", NOW).ahead.keys() == {"plant.a"}
    assert done(world.filter("events", encode({}), NOW + 5001))["items"] == []
    assert world.streams.get("events", NOW).ahead == {}
    assert (
        world.retrieve_stream("events", NOW, statistics=True)["settings"]["limits"]["maxRecordsTotal"][
            "consumed"
        ]
        == 0
    )


def test_records_of_a_template_with_a_lifetime_expire():
    """An ImmutableTestStream forgets its records after a week, a mutable stream does not; tombstones stay three days."""
    world = declared_world()
    upsert(world, record("old"), record("gone"), now=NOW)
    write(world, Operation.DELETE, "events", {"space": "plant", "externalId": "gone"}, now=NOW + 1)
    upsert(world, record("new"), now=NOW + 2)

    def changes(now: int) -> list[str]:
        page = done(world.sync("events", encode({"initializeCursor": "365d-ago"}), now))
        return [one["externalId"] for one in page["items"]]

    assert changes(NOW + 2 * DAY) == ["old", "gone", "new"]
    assert changes(NOW + 3 * DAY) == ["old", "gone", "new"]
    assert changes(NOW + 4 * DAY) == ["old", "new"]
    write(world, Operation.INGEST, "log", record("a"), now=NOW + 4 * DAY)
    write(world, Operation.INGEST, "log", record("b"), now=NOW + 10 * DAY)
    limits = world.retrieve_stream("log", NOW + 12 * DAY, statistics=True)["settings"]["limits"]
    assert limits["maxRecordsTotal"]["consumed"] == 1


def test_the_state_survives_in_its_directory(tmp_path):
    """A world opened again over its directory holds what was accepted, also what readers had not seen yet."""
    world = declared_world(directory=tmp_path, visible_after=5000)
    upsert(world, record("a", int32=1))
    write(world, Operation.INGEST, "log", record("a"))
    statistics = [world.retrieve_stream(name, NOW, statistics=True) for name in ("events", "log")]
    world.close()
    again = declared_world_again(tmp_path)
    assert again.records("events") == {("plant", "a"): {("plant", "pump"): {"int32": 1}}}
    assert [again.retrieve_stream(name, NOW, statistics=True) for name in ("events", "log")] == statistics
    upsert(again, record("a", int32=2), record("b"))
    again.close()


def declared_world_again(directory):
    from cdf_upsert.sandbox.world import World

    return World(directory, strict=True)


def test_a_directory_has_one_sandbox_at_a_time(tmp_path):
    """A second sandbox over the same directory is refused in a whole sentence."""
    from cdf_upsert.sandbox.problem import SandboxBusyError

    world = declared_world(directory=tmp_path)
    with pytest.raises(SandboxBusyError, match="Another sandbox"):
        declared_world_again(tmp_path)
    world.close()
    declared_world_again(tmp_path).close()


_TEMPLATES = {
    "BasicLiveData": ("Mutable", 5_000_000, 15, {"retainedAfterSoftDelete": "P42D"}, {}),
    "BasicArchive": (
        "Immutable",
        50_000_000,
        50,
        {"retainedAfterSoftDelete": "P42D"},
        {"maxFilteringInterval": "P365D"},
    ),
    "ImmutableTestStream": (
        "Immutable",
        50_000_000,
        50,
        {"retainedAfterSoftDelete": "P1D", "dataDeletedAfter": "P7D"},
        {"maxFilteringInterval": "P7D"},
    ),
}


@pytest.mark.parametrize("template", _TEMPLATES)
def test_a_stream_tells_its_template(template):
    """Type, limits and lifetimes are the template's; what is consumed is told only where it is asked for."""
    kind, records, gigabytes, lifecycle, interval = _TEMPLATES[template]
    world = declared_world()
    made = world.streams.create(items(stream("fresh", template)), NOW)["items"][0]
    limits = {"maxRecordsTotal": {"provisioned": records}, "maxGigaBytesTotal": {"provisioned": gigabytes}}
    assert made == {
        "externalId": "fresh",
        "createdTime": NOW,
        "createdFromTemplate": template,
        "type": kind,
        "settings": {"lifecycle": lifecycle, "limits": limits | interval},
    }
    assert world.retrieve_stream("fresh", NOW) == made
    told = world.retrieve_stream("fresh", NOW, statistics=True)["settings"]["limits"]
    assert told["maxRecordsTotal"] == {"provisioned": records, "consumed": 0}
    assert told["maxGigaBytesTotal"] == {"provisioned": gigabytes, "consumed": 0}


def test_streams_follow_their_rules():
    """One stream at a time, a known template, a free and permitted id; deleting is idempotent and takes the records."""
    world = declared_world()
    for bad in (
        items(stream("a"), stream("b")),
        items(stream("a", "NoTemplate")),
        items(stream("logs")),
        items(stream("records")),
        items(stream("cdf_x")),
        items(stream("cognite_x")),
        items(stream("A")),
        items(stream("a" * 101)),
        items({"externalId": "a"}),
    ):
        with pytest.raises(Refusal) as caught:
            world.streams.create(bad, NOW)
        assert caught.value.status == 400
    with pytest.raises(Refusal) as conflict:
        world.streams.create(items(stream("events")), NOW)
    assert (conflict.value.status, conflict.value.duplicated) == (409, ({"externalId": "events"},))
    for bad in (items(), items({"externalId": "events"}, {"externalId": "log"}), items({"externalId": "A"})):
        with pytest.raises(Refusal):
            world.streams.delete(bad)
    with pytest.raises(Refusal, match="length >= 1"):
        world.streams.create(items(), NOW)
    upsert(world, record("a"))
    assert world.streams.delete(items({"externalId": "events"})) == "events"
    assert world.streams.delete(items({"externalId": "events"})) == "events"
    world.streams.create(items(stream("events")), NOW)
    assert world.records("events") == {}

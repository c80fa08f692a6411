"""Spaces and containers: create or update, by ids, list, delete, and the rules of their definitions."""

import pytest

from cdf_upsert.sandbox.world import Refusal, World
from tests.sandbox.builders import NOW, PROPERTIES, container, declared_world, items, record, upsert

_REF = {"type": "container", "space": "plant", "externalId": "pump"}


def refused(world: World, **changes) -> str:
    with pytest.raises(Refusal) as caught:
        world.models.apply_containers(items(container("other", **changes)), NOW)
    assert caught.value.status == 400
    return caught.value.message


def test_what_stays_the_same_keeps_its_time():
    """Applying the same again changes nothing; a change sets the time of update and keeps that of creation."""
    world = declared_world()
    again = world.models.apply_containers(items(container()), NOW + 5)["items"][0]
    assert (again["createdTime"], again["lastUpdatedTime"]) == (NOW, NOW)
    changed = world.models.apply_containers(items(container(name="Pump")), NOW + 5)["items"][0]
    assert (changed["createdTime"], changed["lastUpdatedTime"], changed["name"]) == (NOW, NOW + 5, "Pump")
    space = world.models.apply_spaces(items({"space": "plant"}), NOW + 6)["items"][0]
    assert (space["createdTime"], space["lastUpdatedTime"]) == (NOW, NOW)
    space = world.models.apply_spaces(items({"space": "plant", "name": "Plant"}), NOW + 7)["items"][0]
    assert (space["createdTime"], space["lastUpdatedTime"]) == (NOW, NOW + 7)


def test_a_container_is_read_as_it_was_written():
    """All that was declared comes back, with the defaults and the state of constraints."""
    read = declared_world().models.containers_by_ids(items({"space": "plant", "externalId": "pump"}))[
        "items"
    ][0]
    assert read["usedFor"] == "record"
    assert set(read["properties"]) == set(PROPERTIES)
    assert read["properties"]["enum"]["type"]["values"] == {"on": {}, "off": {}, "lost": {}}
    assert read["properties"]["texts"]["type"] == {"type": "text", "list": True}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": "1plant"}, "items[0].space"),
        ({"space": "nowhere"}, "does not exist"),
        ({"externalId": "a-b"}, "items[0].externalId"),
        ({"externalId": "String"}, "reserved"),
        ({"properties": {}}, "items[0].properties"),
        ({"properties": {"createdTime": PROPERTIES["text"]}}, "properties.createdTime"),
        ({"properties": {"a b": PROPERTIES["text"]}}, "properties.a b"),
        ({"properties": {"p": {"type": {"type": "strange"}}}}, "strange"),
        ({"properties": {"p": {}}}, "type"),
        ({"properties": {"p": {"type": {"type": "timeseries"}}}}, "not allowed"),
        ({"properties": {"p": {"type": {"type": "int32", "maxTextSize": 5}}}}, "maxTextSize"),
        ({"properties": {"p": {"type": {"type": "text", "unit": {"externalId": "u"}}}}}, "unit"),
        (
            {"properties": {"p": {"type": {"type": "float64", "unit": {"externalId": "celsius"}}}}},
            "`celsius`",
        ),
        ({"properties": {"p": {"type": {"type": "text", "maxListSize": 5}}}}, "only allowed for lists"),
        (
            {"properties": {"p": {"type": {"type": "text", "list": True, "maxListSize": 1001}}}},
            "at most 1000",
        ),
        (
            {"properties": {"p": {"type": {"type": "direct", "list": True, "maxListSize": 101}}}},
            "at most 100",
        ),
        ({"properties": {"p": {"type": {"type": "enum"}}}}, "values"),
        ({"properties": {"p": {"type": {"type": "enum", "values": {"true": {}}}}}}, "`true`"),
        ({"properties": {"p": {"type": {"type": "enum", "values": {"1a": {}}}}}}, "`1a`"),
        (
            {"properties": {"p": {"type": {"type": "enum", "values": {"a": {}}, "unknownValue": "b"}}}},
            "unknownValue",
        ),
        ({"properties": {"p": {"type": {"type": "int32"}, "defaultValue": "x"}}}, "defaultValue"),
        ({"properties": {"p": {"type": {"type": "timestamp"}, "defaultValue": "x"}}}, "defaultValue"),
        ({"properties": {"p": {"type": {"type": "date"}, "defaultValue": "2023-02-29"}}}, "defaultValue"),
        (
            {"properties": {"p": {"type": {"type": "text", "maxTextSize": 3}, "defaultValue": "long"}}},
            "defaultValue",
        ),
        ({"properties": {"p": {"type": {"type": "json"}, "defaultValue": "x"}}}, "defaultValue"),
        (
            {"properties": {"p": {"type": {"type": "text", "list": True}, "defaultValue": "x"}}},
            "defaultValue: is not supported for lists",
        ),
        ({"properties": {"p": {"type": {"type": "int32"}, "autoIncrement": True}}}, "autoIncrement"),
        ({"constraints": {"c": {"constraintType": "uniqueness", "properties": ["text"]}}}, "constraints"),
        ({"properties": {f"p{n}": PROPERTIES["text"] for n in range(1001)}}, "at most 1000"),
        ({"usedFor": "node", "properties": {f"p{n}": PROPERTIES["text"] for n in range(101)}}, "at most 100"),
        ({"usedFor": "node", "indexes": {"i": {"properties": ["nope"]}}}, "nope"),
        ({"usedFor": "node", "indexes": {"i": {"properties": ["text"], "indexType": "hash"}}}, "indexType"),
        ({"usedFor": "node", "indexes": {"i" * 44: {"properties": ["text"]}}}, "1 to 43"),
        (
            {"usedFor": "node", "indexes": {f"i{n}": {"properties": ["text"]} for n in range(11)}},
            "at most 10",
        ),
        ({"usedFor": "node", "constraints": {"c": {"constraintType": "other"}}}, "constraintType"),
        ({"usedFor": "node", "constraints": {"c": {}}}, "constraints.c: expected either"),
        (
            {"usedFor": "node", "constraints": {"c": {"require": _REF, "properties": ["text"]}}},
            "expected either",
        ),
        (
            {"usedFor": "node", "constraints": {"c": {"require": _REF, "constraintType": "uniqueness"}}},
            "expected either",
        ),
        (
            {"usedFor": "node", "constraints": {f"c{n}": {"properties": ["text"]} for n in range(11)}},
            "at most 10 of the type `uniqueness`",
        ),
        (
            {"usedFor": "node", "constraints": {f"c{n}": {"require": _REF} for n in range(26)}},
            "at most 25 of the type `requires`",
        ),
        (
            {"usedFor": "node", "properties": {"p": {"type": {"type": "text"}, "autoIncrement": True}}},
            "only supported for int32 and int64",
        ),
        ({"usedFor": "tree"}, "usedFor"),
        ({"name": "x" * 256}, "name"),
        ({"description": "x" * 1025}, "description"),
        ({"properties": {"p": {"type": {"type": "text"}, "name": "x" * 256}}}, "properties[...].name"),
        ({"properties": {"p": {"type": {"type": "text", "list": True, "maxListSize": 0}}}}, "maxListSize"),
        ({"properties": {"p": {"type": {"type": "text", "maxTextSize": 0}}}}, "maxTextSize"),
        ({"properties": {"p": {"type": {"type": "text", "maxTextSize": 128_001}}}}, "maxTextSize"),
        ({"properties": {"p": {"type": {"type": "enum", "values": {}}}}}, "values"),
        (
            {"properties": {"p": {"type": {"type": "enum", "values": {f"v{n}": {} for n in range(33)}}}}},
            "values",
        ),
    ],
)
def test_a_definition_against_the_rules_is_refused(changes, told):
    """Each rule of a container's definition is held, and the message names the place."""
    assert told in refused(declared_world(), **changes)


def test_definitions_at_the_edge_of_the_rules_are_taken():
    """What is refused for records may stand in a container for nodes, and sizes up to their limits in both."""
    world = declared_world()
    both = {
        "few": {"type": {"type": "text", "list": True, "maxListSize": 1000}, "defaultValue": None},
        "near": {"type": {"type": "direct", "list": True, "maxListSize": 100}},
        "long": {"type": {"type": "text", "maxTextSize": 128_000}, "defaultValue": "x"},
        "many": {"type": {"type": "enum", "values": {f"v{n}": {} for n in range(32)}}},
        "warm": {"type": {"type": "float32", "unit": {"externalId": "temperature:deg_c"}}},
    }
    nodes = both | {
        "file": {"type": {"type": "file"}},
        "number": {"type": {"type": "int64"}, "autoIncrement": True, "immutable": True},
    }
    uniqueness = {f"u{n}": {"properties": ["long"]} for n in range(10)}
    requires = {f"r{n}": {"constraintType": "requires", "require": _REF} for n in range(25)}
    indexes = {f"i{n}": {"properties": ["long"], "indexType": "inverted"} for n in range(9)} | {
        "i" * 43: {"properties": ["long"]}
    }
    more = {"constraints": uniqueness | requires, "indexes": indexes}
    world.models.apply_containers(
        items(
            container("both", properties=both), container("nodes", usedFor="node", properties=nodes, **more)
        ),
        NOW,
    )
    many = {f"p{n}": PROPERTIES["text"] for n in range(1000)}
    world.models.apply_containers(items(container("many", properties=many)), NOW)


@pytest.mark.parametrize("space", ["cdf", "node", "", "a" * 44, "a.b", "-a", "a\n", "plant-"])
def test_space_ids_have_their_pattern(space):
    """Reserved and malformed space ids are refused; a trailing hyphen is within the published pattern."""
    world = World()
    if space == "plant-":
        world.models.apply_spaces(items({"space": space}), NOW)
        return
    with pytest.raises(Refusal) as caught:
        world.models.apply_spaces(items({"space": space}), NOW)
    assert caught.value.status == 400


def test_a_container_cannot_change_what_records_rely_on():
    """Types, the use and existing properties of a declared container stay; new properties may come."""
    world = declared_world()
    for changes in (
        {"properties": {"text": PROPERTIES["text"]}},
        {"properties": PROPERTIES | {"text": PROPERTIES["int32"]}},
        {"usedFor": "node"},
    ):
        with pytest.raises(Refusal):
            world.models.apply_containers(items(container(**changes)), NOW)
    world.models.apply_containers(
        items(container(properties=PROPERTIES | {"more": PROPERTIES["int32"]})), NOW
    )
    upsert(world, record("a", more=1))


def test_a_container_for_nodes_takes_no_records():
    """A single container cannot serve both instances and records."""
    world = declared_world()
    world.models.apply_containers(items(container("nodes", usedFor="node")), NOW)
    one = record("a")
    one["sources"][0]["source"] = {"type": "container", "space": "plant", "externalId": "nodes"}
    with pytest.raises(Refusal, match="usedFor"):
        upsert(world, one)


def test_lists_are_paged_by_a_cursor():
    """Pages of any size give every item once, in order; an unknown cursor is refused."""
    world = World()
    world.models.apply_spaces(items(*({"space": f"s{n:02}"} for n in range(25))), NOW)
    for size in (1, 7, 25, 1000):
        found, cursor = [], None
        while True:
            page = world.models.list_spaces(size, cursor)
            assert len(page["items"]) <= size
            found += [space["space"] for space in page["items"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                break
        assert found == [f"s{n:02}" for n in range(25)]
    with pytest.raises(Refusal):
        world.models.list_spaces(10, "***")


def test_containers_are_listed_by_space_and_use():
    """By default a list leaves the containers for records out, as the API does."""
    world = declared_world()
    world.models.apply_containers(items(container("nodes", usedFor="node")), NOW)

    def listed(**asked) -> list[str]:
        asked = {"space": None, "used_for": ()} | asked
        return [one["externalId"] for one in world.models.list_containers(10, None, **asked)["items"]]

    assert listed() == ["nodes"]
    assert listed(used_for=["record"]) == ["pump"]
    assert listed(used_for=["record", "node"]) == ["nodes", "pump"]
    assert listed(used_for=["record"], space="elsewhere") == []


def test_ids_that_are_not_there_are_left_out():
    """By ids and delete give what is there, once each, and no error for the rest."""
    world = declared_world()
    ids = items(*({"space": "plant", "externalId": name} for name in ("pump", "nope", "pump")))
    assert len(world.models.containers_by_ids(ids)["items"]) == 1
    assert world.models.spaces_by_ids(items({"space": "nope"})) == {"items": []}
    with pytest.raises(Refusal, match="still holds"):
        world.models.delete_spaces(items({"space": "plant"}))
    assert world.models.delete_containers(ids) == {"items": [{"space": "plant", "externalId": "pump"}]}
    assert world.models.delete_spaces(items({"space": "plant"})) == {"items": [{"space": "plant"}]}


def test_ids_have_their_patterns():
    """By ids and delete refuse ids that cannot be, with their place."""
    models = declared_world().models
    for call, one, told in (
        (models.spaces_by_ids, {"space": "a.b"}, "items[0].space"),
        (models.delete_spaces, {"space": "1"}, "items[0].space"),
        (models.containers_by_ids, {"space": "-", "externalId": "pump"}, "items[0].space"),
        (models.delete_containers, {"space": "plant", "externalId": "a-b"}, "items[0].externalId"),
    ):
        with pytest.raises(Refusal) as caught:
            call(items(one))
        assert (caught.value.status, caught.value.message.partition(":")[0]) == (400, told)


def test_requests_have_their_sizes():
    """From 1 to 100 spaces or containers in a request, from 1 to 10 constraints or indexes to delete."""
    models = declared_world().models
    part = {"space": "plant", "containerExternalId": "pump", "identifier": "c"}
    for call, most, make in (
        (lambda body: models.apply_spaces(body, NOW), 100, lambda n: {"space": f"s{n}"}),
        (models.spaces_by_ids, 100, lambda n: {"space": f"s{n}"}),
        (models.delete_spaces, 100, lambda n: {"space": f"s{n}"}),
        (lambda body: models.apply_containers(body, NOW), 100, lambda n: container(f"c{n}")),
        (models.containers_by_ids, 100, lambda n: {"space": "plant", "externalId": f"c{n}"}),
        (models.delete_containers, 100, lambda n: {"space": "plant", "externalId": f"c{n}"}),
        (lambda body: models.delete_parts("indexes", body, NOW), 10, lambda _: part),
    ):
        call(items(*(make(n) for n in range(most))))
        for wrong in (0, most + 1):
            with pytest.raises(Refusal, match="items"):
                call(items(*(make(n) for n in range(wrong))))


def test_a_key_that_stands_twice_in_a_request_is_refused():
    """One request cannot say two things about one space or container."""
    world = declared_world()
    with pytest.raises(Refusal) as caught:
        world.models.apply_spaces(items({"space": "a"}, {"space": "a"}), NOW)
    assert caught.value.duplicated == ({"space": "a"},)


def test_constraints_and_indexes_are_deleted_by_name():
    """The constraints and indexes of a container for nodes can be taken away; unknown ones are no error."""
    world = declared_world()
    definition = container(
        "nodes",
        usedFor="node",
        constraints={"one": {"constraintType": "uniqueness", "properties": ["text"]}},
        indexes={"two": {"indexType": "btree", "properties": ["text"]}},
    )
    world.models.apply_containers(items(definition), NOW)
    for word, name in (("constraints", "one"), ("indexes", "two")):
        ids = [
            {"space": "plant", "containerExternalId": "nodes", "identifier": one} for one in (name, "nope")
        ]
        assert world.models.delete_parts(word, items(*ids), NOW) == {"items": ids[:1]}
    read = world.models.containers_by_ids(items({"space": "plant", "externalId": "nodes"}))["items"][0]
    assert read["constraints"] == read["indexes"] == {}

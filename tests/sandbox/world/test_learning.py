"""Learning a container from records, when the sandbox is not strict."""

import pytest

from cdf_upsert.sandbox.world import Operation, Refusal, World
from cdf_upsert.sandbox.world.definitions import PropertyType
from cdf_upsert.sandbox.world.learning import infer, widen
from tests.sandbox.builders import NOW, TYPES, declared_world, items, record, upsert


def learnt(world: World) -> dict[str, str]:
    properties = world.models.containers["plant", "pump"].definition.properties
    return {name: f"{prop.type.type}{'[]' if prop.type.list else ''}" for name, prop in properties.items()}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "boolean"),
        (1, "int64"),
        (2**63, "float64"),
        (1.0, "float64"),
        ("x", "text"),
        ("2024-01-01", "date"),
        ("2024-01-01T00:00:00Z", "timestamp"),
        ("2023-02-29", "text"),
        ({"a": 1}, "json"),
        ({"space": "s", "externalId": "x"}, "direct"),
        ([1, 2.5], "float64[]"),
        (["2024-01-01", "x"], "text[]"),
    ],
)
def test_a_type_is_inferred_from_the_value(value, kind):
    """The narrowest type that holds the value is taken."""
    world = World(strict=False)
    upsert(world, record("a", p=value))
    assert learnt(world) == {"p": kind}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (1, 1.5, "float64"),
        (1.5, 1, "float64"),
        ("2024-01-01", "x", "text"),
        ("2024-01-01T00:00:00Z", "2024-01-01", "text"),
        ({"space": "s", "externalId": "x"}, {"a": 1}, "json"),
        ([1], [1.5], "float64[]"),
    ],
)
def test_a_type_is_widened_when_records_disagree_reasonably(first, second, kind):
    """What holds both values becomes the type, within one request and across two."""
    together, apart = World(strict=False), World(strict=False)
    upsert(together, record("a", p=first), record("b", p=second))
    upsert(apart, record("a", p=first))
    upsert(apart, record("b", p=second))
    assert learnt(together) == learnt(apart) == {"p": kind}
    assert len(apart.records("events")) == 2


@pytest.mark.parametrize(
    ("first", "second"), [(1, "x"), ("x", 1), (True, 1), (1, [1]), ([1], 1), ({"a": 1}, "x")]
)
def test_what_no_type_holds_is_refused(first, second):
    """Text where numbers stood is a 400 that names the place, and nothing of the request is stored or learnt."""
    world = World(strict=False)
    upsert(world, record("a", p=first))
    before = learnt(world)
    with pytest.raises(Refusal) as caught:
        upsert(world, record("b", p=first, q=1), record("c", p=second))
    assert caught.value.status == 400
    assert caught.value.message.startswith("items[1].sources[0].properties.p: expected ")
    assert learnt(world) == before
    assert len(world.records("events")) == 1


def test_nulls_are_left_out_when_learning():
    """People's own files hold nulls: where the sandbox learns, a null is a property that is not there."""
    world = World(strict=False)
    upsert(world, record("a", p=None, q=1))
    assert learnt(world) == {"q": "int64"}
    assert world.records("events")["plant", "a"] == {("plant", "pump"): {"q": 1}}
    with pytest.raises(Refusal):
        upsert(world, record("b", p=None))


def test_new_properties_are_learnt_later():
    """A property that turns up later is added, and earlier records stay as they are."""
    world = World(strict=False)
    upsert(world, record("a", p=1))
    upsert(world, record("b", q="x"))
    assert learnt(world) == {"p": "int64", "q": "text"}


def test_a_declared_container_is_not_widened():
    """What a client has declared stays as declared, strict or not."""
    world = declared_world(strict=False)
    for wrong in ({"int64": "x"}, {"nope": 1}, {"text": None}):
        with pytest.raises(Refusal):
            upsert(world, record("a", **wrong))


def test_a_space_with_declared_containers_learns_no_other():
    """A mistyped name is refused as CDF does, where somebody has declared what there is; other spaces still learn."""
    world = declared_world(strict=False)
    other = record("a")
    other["sources"][0]["source"] = {"type": "container", "space": "plant", "externalId": "pumpp"}
    with pytest.raises(Refusal) as unknown:
        upsert(world, other)
    assert unknown.value.missing == ({"space": "plant", "externalId": "pumpp"},)
    other["sources"][0]["source"]["space"] = "elsewhere"
    upsert(world, other)
    assert ("elsewhere", "pumpp") in world.models.containers


def test_a_strict_world_learns_nothing():
    """Spaces, containers and streams that are not declared are refused, and named as missing."""
    world = declared_world()
    with pytest.raises(Refusal) as space:
        upsert(world, record("a", space="elsewhere"))
    assert space.value.missing == ({"space": "elsewhere"},)
    other = record("a")
    other["sources"][0]["source"] = {"type": "container", "space": "plant", "externalId": "other"}
    with pytest.raises(Refusal) as unknown:
        upsert(world, other)
    assert unknown.value.missing == ({"space": "plant", "externalId": "other"},)
    with pytest.raises(Refusal) as gone:
        world.retrieve_stream("nothing", NOW)
    assert gone.value.status == 404


def test_an_unknown_stream_is_made_when_not_strict():
    """The first use makes a mutable stream; an id that cannot be one is refused."""
    world = World(strict=False)
    assert world.retrieve_stream("fresh", NOW)["type"] == "Mutable"
    assert world.streams.all() == [], "a look makes nothing"
    upsert(world, record("a"))
    assert [stream.external_id for stream in world.streams.all()] == ["events"]
    with pytest.raises(Refusal) as caught:
        world.retrieve_stream("Not-Valid", NOW)
    assert caught.value.status == 400


def test_property_names_are_checked_when_learning():
    """A reserved or malformed name is refused with its place."""
    world = World(strict=False)
    for name in ("externalId", "a b", "é"):
        with pytest.raises(Refusal, match="property id"):
            upsert(world, record("a", **{name: 1}))


@pytest.mark.parametrize("one", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_widening_does_not_depend_on_the_order(one, other):
    """Two types widen to the same, whichever comes first, and a type widens to itself."""
    first, second = PropertyType(type=one), PropertyType(type=other)
    assert widen(first, second) == widen(second, first)
    assert widen(first, first) == first
    assert widen(first, PropertyType(type=other, list=True)) is None


def test_mixed_lists_are_json_and_refused():
    """A list of lists or of unlike values fits no list type."""
    world = World(strict=False)
    for value in ([[1]], [1, "x"], []):
        with pytest.raises(Refusal):
            upsert(world, record("a", p=value))
    assert infer([1, "x"]).type == "json"


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({}, "at least one property"),
        ({"p": None}, "at least one property"),
        (5, "expected an object"),
        ({f"p{n}": 1 for n in range(1001)}, "at most 1000 properties"),
        ("broken", "not valid JSON"),
    ],
)
def test_what_cannot_be_learnt_is_refused(properties, told):
    """Nothing to learn from, too much, and what is no object: a 400 with its place, and nothing is made."""
    world = World(strict=False)
    one = record("a")
    one["sources"][0]["properties"] = properties
    body = items(one).replace(b'"broken"', b'{"p":"\xff"}')
    with pytest.raises(Refusal) as caught:
        world.prepare(Operation.UPSERT, "events", body, NOW)
    assert caught.value.status == 400
    assert caught.value.message.startswith("items[0].sources[0].properties")
    assert told in caught.value.message
    assert (world.models.spaces, world.models.containers) == ({}, {})


def test_a_relation_names_a_space_that_could_be():
    """What is learnt may relate to any space, but for a malformed one."""
    world = World(strict=False)
    upsert(world, record("a", p={"space": "elsewhere", "externalId": "x"}))
    with pytest.raises(Refusal, match=r"the space `a\.b` of the relation"):
        upsert(world, record("b", p={"space": "a.b", "externalId": "x"}))


def test_spaces_are_checked_when_learning():
    """A malformed or reserved space is refused, and not made."""
    world = World(strict=False)
    for space in ("a.b", "cdf"):
        with pytest.raises(Refusal) as caught:
            upsert(world, record("a", space=space, p=1))
        assert caught.value.message.startswith("items[0].space: ")
    assert world.models.spaces == {}


def test_a_strict_world_keeps_to_what_was_learnt(tmp_path):
    """A container that was learnt is not widened once the sandbox is strict."""
    lenient = World(tmp_path, strict=False)
    upsert(lenient, record("a", p=1))
    lenient.close()
    strict = World(tmp_path)
    for wrong in ({"p": 1.5}, {"q": 1}):
        with pytest.raises(Refusal):
            upsert(strict, record("b", **wrong))
    upsert(strict, record("b", p=2))
    strict.close()

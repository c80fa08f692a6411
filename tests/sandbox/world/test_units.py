"""Target units: what is converted, in replies and requests alike, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.sandbox.world import Refusal, World
from cdf_upsert.sandbox.world.catalogue import SYSTEMS, UNITS
from cdf_upsert.sandbox.world.units import _conversion
from tests.sandbox.builders import (
    CONTAINER,
    NOW,
    container,
    done,
    encode,
    items,
    patient,
    record,
    upsert,
)

ALL = [{"source": CONTAINER, "properties": ["*"]}]
KELVIN = {
    "properties": [{"property": ["plant", "pump", "temperature"], "unit": {"externalId": "temperature:k"}}]
}


def path(name: str) -> list[str]:
    return ["plant", "pump", name]


def unit(external_id: str, **more) -> dict:
    return {"type": {"type": "float64", "unit": {"externalId": external_id}} | more}


@pytest.fixture(scope="module")
def world() -> World:
    """Records at 0, 10 and 20 degrees Celsius, with pressures in bar and properties that cannot be converted."""
    made = World()
    made.models.apply_spaces(items({"space": "plant"}), NOW)
    properties = {
        "temperature": unit("temperature:deg_c"),
        "pressures": unit("pressure:bar", list=True),
        "odd": unit("cheese:smell"),
        "period": unit("time:sec"),
        "plain": {"type": {"type": "float64"}},
    }
    made.models.apply_containers(items(container(properties=properties)), NOW)
    made.streams.create(
        items({"externalId": "events", "settings": {"template": {"name": "BasicLiveData"}}}), NOW
    )
    values = {"pressures": [1.0, 2.5], "odd": 7.0, "plain": 3.0, "period": 60}
    upsert(made, *(record(f"r{n}", temperature=10 * n, **values) for n in range(3)))
    return made


def ask(world: World, units: dict, **more) -> dict:
    return done(world.filter("events", encode({"targetUnits": units, **more}), NOW))


def shown(page: dict) -> list[dict]:
    return [one["properties"]["plant"]["pump"] for one in page["items"]]


def test_one_property_is_converted_in_the_reply(world):
    """The property that is named, and no other, comes in its target unit."""
    found = shown(ask(world, KELVIN, sources=ALL))
    assert [one["temperature"] for one in found] == [273.15, 283.15, 293.15]
    assert {"pressures": [1.0, 2.5], "odd": 7.0, "plain": 3.0, "period": 60}.items() <= found[0].items()
    half = [{"source": CONTAINER, "properties": ["plain"]}]
    assert shown(ask(world, KELVIN, sources=half))[0] == {"plain": 3.0}


@pytest.mark.parametrize(
    ("system", "temperature", "pressures"),
    [
        ("SI", 283.15, [1e5, 2.5e5]),
        ("Default", 10, [1.0, 2.5]),
        ("Imperial", 50.0, [14.5037737730, 36.2594344326]),
    ],
)
def test_a_system_converts_all_that_can_be_converted(world, system, temperature, pressures):
    """Every property whose unit the system knows, values of lists too; the others stay as they are."""
    found = shown(ask(world, {"unitSystemName": system}, sources=ALL))[1]
    assert found["temperature"] == pytest.approx(temperature)
    assert found["pressures"] == pytest.approx(pressures)
    assert (found["odd"], found["plain"], found["period"]) == (7.0, 3.0, 60)


def test_one_property_may_be_converted_to_a_system(world):
    """A system named for one property leaves the others alone."""
    units = {"properties": [{"property": path("temperature"), "unit": {"unitSystemName": "Imperial"}}]}
    found = shown(ask(world, units, sources=ALL))[1]
    assert (found["temperature"], found["pressures"]) == (50.0, [1.0, 2.5])


def test_the_values_of_the_request_are_in_the_target_unit_too(world):
    """Filters, orders and aggregates see what the reply shows."""
    for definition in (
        {"range": {"property": path("temperature"), "gt": 280, "lt": 290}},
        {"equals": {"property": path("temperature"), "value": 283.15}},
        {"and": [{"in": {"property": path("temperature"), "values": [283.15, 10]}}]},
    ):
        assert [one["externalId"] for one in ask(world, KELVIN, filter=definition)["items"]] == ["r1"]
    pascal = {"properties": [{"property": path("pressures"), "unit": {"externalId": "pressure:pa"}}]}
    definition = {"containsAny": {"property": path("pressures"), "values": [250_000]}}
    assert len(ask(world, pascal, filter=definition)["items"]) == 3
    sort = [{"property": path("temperature"), "direction": "descending"}]
    assert ask(world, KELVIN, sort=sort)["items"][0]["externalId"] == "r2"
    body = {
        "targetUnits": KELVIN,
        "filter": {"range": {"property": path("temperature"), "gt": 280}},
        "aggregates": {
            "most": {"max": {"property": path("temperature")}},
            "h": {"numberHistogram": {"property": path("temperature"), "interval": 10}},
            "f": {"filters": {"filters": [{"range": {"property": path("temperature"), "lt": 290}}]}},
        },
    }
    found = done(world.aggregate("events", encode(body), NOW))["aggregates"]
    assert found["most"] == {"max": 293.15}
    assert found["h"]["numberHistogramBuckets"][0] == {"count": 1, "intervalStart": 280}
    assert found["f"]["filterBuckets"] == [{"count": 1}]


def test_the_change_feed_converts_too(world):
    """Changes come in the target unit, and are filtered by it."""
    body = {"initializeCursor": "1d-ago", "targetUnits": KELVIN, "sources": ALL}
    body |= {"filter": {"range": {"property": path("temperature"), "gte": 293.15}}}
    assert [one["temperature"] for one in shown(done(world.sync("events", encode(body), NOW)))] == [293.15]


def test_the_types_tell_the_unit_of_the_values(world):
    """With `includeTyping` a property that is converted is told, in its target unit."""
    typing = ask(world, KELVIN, includeTyping=True)["typing"]["plant"]["pump"]
    assert {name: told["type"]["unit"] for name, told in typing.items()} == {
        "temperature": {"externalId": "temperature:k"}
    }
    typing = ask(world, {"unitSystemName": "SI"}, includeTyping=True, sources=ALL)["typing"]["plant"]["pump"]
    units = {name: told["type"].get("unit", {}).get("externalId") for name, told in typing.items()}
    assert units == {
        "temperature": "temperature:k",
        "pressures": "pressure:pa",
        "period": "time:sec",
        "odd": "cheese:smell",
        "plain": None,
    }


def to(name: str, **named: str) -> dict:
    return {"properties": [{"property": path(name), "unit": named}]}


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ({}, "exactly one"),
        ({"unitSystemName": "SI", **KELVIN}, "exactly one"),
        (
            {"unitSystemName": "si"},
            "unitSystemName: `si` is not a unit system; there are SI, Default, Imperial",
        ),
        ({"properties": []}, "length >= 1"),
        ({"properties": KELVIN["properties"] * 1001}, "length <= 1000"),
        ({"properties": KELVIN["properties"] * 2}, "properties[1].property: stands twice"),
        (to("temperature"), "properties[0].unit: exactly one"),
        (to("temperature", externalId="temperature:k", unitSystemName="SI"), "exactly one"),
        (to("temperature", externalId="temperature:celsius"), "the unit `temperature:celsius` is not in"),
        (to("temperature", externalId="pressure:bar"), "measures another quantity than `temperature:deg_c`"),
        (to("temperature", unitSystemName="Nautical"), "unit.unitSystemName: `Nautical` is not"),
        (to("period", unitSystemName="Imperial"), "`Imperial` has no unit of time"),
        (to("plain", externalId="temperature:k"), "gives `plain` no unit"),
        (to("odd", externalId="temperature:k"), "the unit `cheese:smell` is not in"),
        (to("nope", externalId="temperature:k"), "no property `nope`"),
        (
            {"properties": [{"property": ["space"], "unit": {"externalId": "temperature:k"}}]},
            "expected `[space,",
        ),
    ],
)
def test_units_against_the_rules_are_refused(world, units, told):
    """Each fault is a 400 that names the place, in all three queries."""
    for query, more in (
        (world.filter, {}),
        (world.sync, {"initializeCursor": "1d-ago"}),
        (world.aggregate, {"aggregates": {"n": {"count": {}}}}),
    ):
        with pytest.raises(Refusal) as caught:
            done(query("events", encode({"targetUnits": units, **more}), NOW))
        assert caught.value.status == 400
        assert caught.value.message.startswith("targetUnits")
        assert told in caught.value.message


_QUANTITIES = st.sampled_from(sorted(UNITS))


@patient
@given(_QUANTITIES, st.data(), st.floats(-1e6, 1e6))
def test_there_and_back_is_the_same(quantity, data, value):
    """A value converted to any unit of its quantity and back is what it was, to the digits that are kept."""
    one, other = (f"{quantity}:{data.draw(st.sampled_from(sorted(UNITS[quantity])))}" for _ in range(2))
    there = _conversion(one, other)(value)
    size = abs(_conversion(other, one)(max(abs(there), 1.0))) + 1000
    assert _conversion(other, one)(there) == pytest.approx(value, rel=1e-9, abs=size * 1e-9)


def test_the_catalogue_is_whole():
    """Each system names units of the catalogue, and each quantity has its base unit."""
    for system in SYSTEMS.values():
        assert all(unit in UNITS[quantity] for quantity, unit in system.items())
    assert all((1,) in units.values() for units in UNITS.values())
    assert _conversion("length:mi", "length:kilom")(1) == 1.609344
    assert _conversion("temperature:deg_f", "temperature:deg_c")(212) == 100
    assert _conversion("pressure:psi", "pressure:bar")(1) == pytest.approx(0.0689475729)
    assert _conversion("velocity:kilom-per-hr", "velocity:m-per-sec")(36) == 10
    assert _conversion("pressure:barg", "pressure:bar")(0) == 1.01325

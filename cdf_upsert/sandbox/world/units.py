"""`targetUnits`: the properties of a request in other units than they are stored in.

Values are converted where they are read, so that a reply, a filter, an order and an aggregate all see the same
numbers. As in the service, a converted number has twelve significant digits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from cdf_upsert.sandbox.world.catalogue import SYSTEMS, UNITS
from cdf_upsert.sandbox.world.definitions import PropertyType
from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.refusal import at

Convert = Callable[[float], float]
Path = tuple[str, str, str]


class _Unit(Struct, rename="camel"):
    external_id: str | UnsetType = UNSET
    unit_system_name: str | UnsetType = UNSET


class _Wanted(Struct):
    property: list[str]
    unit: _Unit


class TargetUnits(Struct, rename="camel"):
    """What a request wants converted: all properties to a system, or some to a unit or a system each."""

    unit_system_name: str | UnsetType = UNSET
    properties: Annotated[list[_Wanted], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Lens:
    """Spaces and containers as one request looks at them: `system` and `wanted` say which units it sees."""

    models: Models
    system: str | None = None
    wanted: dict[Path, str] = field(default_factory=dict)

    def unit(self, path: Path, kind: PropertyType) -> str | None:
        """The unit that a property is converted to; None where it stays as it is stored."""
        if path in self.wanted:
            return self.wanted[path]
        if self.system is None or kind.unit is UNSET:
            return None
        return _of_system(self.system, kind.unit.external_id)

    def conversion(self, path: Path, kind: PropertyType) -> Convert | None:
        """How a value of a property is converted; None where it stays as it is."""
        target = self.unit(path, kind)
        if target is None or kind.unit is UNSET or target == kind.unit.external_id:
            return None
        return _conversion(kind.unit.external_id, target)

    def typing(self, paths: Iterable[Path]) -> dict[str, Any]:
        """Type information of properties, with the units that the request sees, and those it asks for."""
        out = self.models.typing(dict.fromkeys([*paths, *self.wanted]))
        for space, containers in out.items():
            for container, properties in containers.items():
                for name, told in properties.items():
                    kind = self.models.containers[space, container].definition.properties[name].type
                    target = self.unit((space, container, name), kind)
                    if target is not None:
                        told["type"]["unit"] = {"externalId": target}
        return out


def look(models: Models, asked: TargetUnits | None) -> Lens:
    """The lens that a request asks for.

    Raises:
        Refusal: 400 for a property without a unit, and for a unit or a system that is not known or does not fit.
    """
    where = "targetUnits"
    if asked is None:
        return Lens(models)
    if (asked.unit_system_name is UNSET) == (asked.properties is UNSET):
        raise at(where, "exactly one of `unitSystemName` and `properties` is required")
    if asked.unit_system_name is not UNSET:
        return Lens(models, _system(asked.unit_system_name, f"{where}.unitSystemName"))
    wanted: dict[Path, str] = {}
    for index, one in enumerate(asked.properties or ()):
        place = f"{where}.properties[{index}]"
        path, target = _target(models, one, place)
        if path in wanted:
            raise at(f"{place}.property", "stands twice")
        wanted[path] = target
    return Lens(models, None, wanted)


def _target(models: Models, one: _Wanted, where: str) -> tuple[Path, str]:
    """The property and the unit that one entry names."""
    if len(one.property) != 3:
        raise at(f"{where}.property", "expected `[space, container, property]`")
    space, container, name = one.property
    kind = models.property(one.property, f"{where}.property")[2]
    if kind.unit is UNSET:
        raise at(f"{where}.property", f"the container `{space}.{container}` gives `{name}` no unit")
    stored, unit = kind.unit.external_id, one.unit
    _known(stored, f"{where}.property")
    if (unit.external_id is UNSET) == (unit.unit_system_name is UNSET):
        raise at(f"{where}.unit", "exactly one of `externalId` and `unitSystemName` is required")
    if unit.external_id is not UNSET:
        place = f"{where}.unit.externalId"
        quantity = _known(unit.external_id, place)
        if quantity != _quantity(stored):
            raise at(place, f"`{unit.external_id}` measures another quantity than `{stored}`")
        return (space, container, name), unit.external_id
    assert unit.unit_system_name is not UNSET  # one of the two is there
    place = f"{where}.unit.unitSystemName"
    target = _of_system(_system(unit.unit_system_name, place), stored)
    if target is None:
        raise at(place, f"the unit system `{unit.unit_system_name}` has no unit of {_quantity(stored)}")
    return (space, container, name), target


def _system(name: str, where: str) -> str:
    if name not in SYSTEMS:
        raise at(where, f"`{name[:60]}` is not a unit system; there are {', '.join(SYSTEMS)}")
    return name


def _known(unit: str, where: str) -> str:
    """The quantity of a unit of the catalogue."""
    quantity, _, name = unit.partition(":")
    if name not in UNITS.get(quantity, {}):
        raise at(where, f"the unit `{unit[:60]}` is not in the sandbox's catalogue")
    return quantity


def _quantity(unit: str) -> str:
    return unit.partition(":")[0]


def _of_system(system: str, stored: str) -> str | None:
    """The unit that a system has for what a stored unit measures; None where either is not known."""
    quantity, _, name = stored.partition(":")
    target = SYSTEMS[system].get(quantity)
    return None if target is None or name not in UNITS[quantity] else f"{quantity}:{target}"


def _conversion(stored: str, target: str) -> Convert:
    factor, offset = _factors(stored)
    into, out_of = _factors(target)

    def convert(value: float) -> float:
        return float(f"{(value + offset) * factor / into - out_of:.12g}")

    return convert


def _factors(unit: str) -> tuple[float, float]:
    quantity, _, name = unit.partition(":")
    factor, *offset = UNITS[quantity][name]
    return factor, offset[0] if offset else 0.0

"""How the sandbox learns a container from the records that name it, when it is not strict.

A type is inferred from each value and widened when a later value disagrees reasonably (an integer property
that meets 1.5 becomes a float); where no type holds both, the record is refused, as CDF would.
"""

import re
from typing import Any

import msgspec

from cdf_upsert.sandbox.world.checker import DATE, TIME, Fault
from cdf_upsert.sandbox.world.definitions import Property, PropertyType

_DATE = re.compile(DATE, re.ASCII)
_TIMESTAMP = re.compile(DATE + TIME, re.ASCII)
_MAX_PROPERTIES = 1000

# What holds both of two types, where anything does; the order within a pair does not matter.
_WIDER = {
    frozenset({"int64", "float64"}): "float64",
    frozenset({"date", "timestamp"}): "text",
    frozenset({"date", "text"}): "text",
    frozenset({"timestamp", "text"}): "text",
    frozenset({"direct", "json"}): "json",
}


def learn(known: dict[str, Property], objects: list[bytes]) -> tuple[dict[str, Property], list[bytes]]:
    """The properties that hold what was known and every object, and the objects without their nulls.

    Raises:
        Fault: an object holds a value that no type holds together with what is known.
    """
    learnt = dict(known)
    cleaned: list[bytes] = []
    for index, one in enumerate(objects):
        try:
            values = msgspec.json.decode(one)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Fault(index, "", f"is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise Fault(index, "", "expected an object")
        nulls = [name for name, value in values.items() if value is None]
        for name in nulls:
            del values[name]
        for name, value in values.items():
            before = learnt.get(name)
            found = infer(value)
            after = found if before is None else widen(before.type, found)
            if after is None:
                assert before is not None
                raise Fault(index, name, f"expected {spell(before.type)}, got {spell(found)}")
            if before is None or after != before.type:
                learnt[name] = Property(type=after)
        cleaned.append(msgspec.json.encode(values) if nulls else one)
        if len(learnt) > _MAX_PROPERTIES:
            raise Fault(index, "", f"a container has at most {_MAX_PROPERTIES} properties")
    return learnt, cleaned


def infer(value: Any) -> PropertyType:
    """The narrowest type that holds a value; an empty list is a list of texts, and refused later."""
    if isinstance(value, list):
        found: PropertyType | None = infer(value[0]) if value else PropertyType(type="text")
        for one in value[1:]:
            found = widen(found, infer(one)) if found is not None else None
        return PropertyType(type=found.type if found is not None and not found.list else "json", list=True)
    match value:
        case bool():
            return PropertyType(type="boolean")
        case int():
            return PropertyType(type="int64" if -(2**63) <= value < 2**63 else "float64")
        case float():
            return PropertyType(type="float64")
        case str():
            if _TIMESTAMP.fullmatch(value):
                return PropertyType(type="timestamp")
            return PropertyType(type="date" if _DATE.fullmatch(value) else "text")
        case {"space": str(), "externalId": str()} if len(value) == 2:
            return PropertyType(type="direct")
        case _:
            return PropertyType(type="json")


def widen(one: PropertyType, other: PropertyType) -> PropertyType | None:
    """The narrowest type that holds both, or None."""
    if one.list != other.list:
        return None
    if one.type == other.type:
        return one
    wider = _WIDER.get(frozenset({one.type, other.type}))
    return None if wider is None else msgspec.convert({"type": wider, "list": one.list}, PropertyType)


def spell(kind: PropertyType) -> str:
    """A type in words."""
    return f"a list of {kind.type}" if kind.list else kind.type

"""The filter language, compiled into one predicate over rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.refusal import Refusal, at
from cdf_upsert.sandbox.world.units import Lens
from cdf_upsert.sandbox.world.values import TOP_LEVEL, Read, Source, operand, source

Predicate = Callable[[Read], bool]

_MAX_NODES = 100
_MAX_DEPTH = 10
_MAX_CHILDREN = 99
_MAX_VALUES = 100
_MAX_CONTAINERS = 10
_MAX_PREFIX = 500
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "gte": lambda value, bound: value >= bound,
    "gt": lambda value, bound: value > bound,
    "lte": lambda value, bound: value <= bound,
    "lt": lambda value, bound: value < bound,
}
_ORDERED = frozenset(["text", "enum", "int32", "int64", "float32", "float64", "timestamp", "date"])


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter, and what it needs a record's key to be in; None where that is open."""

    matches: Predicate
    spaces: frozenset[str] | None = None
    external_ids: frozenset[str] | None = None
    properties: tuple[tuple[str, str, str], ...] = ()

    def may_hold(self, space: str, external_id: str) -> bool:
        """Whether a record of this key could match."""
        return (self.spaces is None or space in self.spaces) and (
            self.external_ids is None or external_id in self.external_ids
        )


EVERYTHING = Filter(lambda _: True)


def compile_filter(definition: Any, lens: Lens, where: str = "filter") -> Filter:
    """Compile a filter as the request has it; None is no filter.

    Raises:
        Refusal: 400 that names the place in the filter.
    """
    if definition is None:
        return EVERYTHING
    compiler = _Compiler(lens)
    matches = compiler.compile(definition, where, 1)
    spaces = _needed(definition, "space")
    external_ids = _needed(definition, "externalId")
    return Filter(matches, spaces, external_ids, tuple(dict.fromkeys(compiler.properties)))


def _needed(definition: dict[str, Any], name: str) -> frozenset[str] | None:
    """What a top-level property must be one of for the filter to match; None when it may be anything."""
    match definition:
        case {"and": parts}:
            sets = [found for part in parts if (found := _needed(part, name)) is not None]
            return frozenset.intersection(*sets) if sets else None
        case {"or": parts}:
            sets = [found for part in parts if (found := _needed(part, name)) is not None]
            return frozenset.union(*sets) if len(sets) == len(parts) else None
        case {"equals": {"property": [one], "value": value}} if one == name:
            return frozenset({value})
        case {"in": {"property": [one], "values": values}} if one == name:
            return frozenset(values)
        case _:
            return None


class _Compiler:
    def __init__(self, lens: Lens) -> None:
        self._lens = lens
        self._nodes = 0
        self.properties: list[tuple[str, str, str]] = []

    def compile(self, node: Any, where: str, depth: int) -> Predicate:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise Refusal(400, f"A filter has at most {_MAX_NODES} nodes.")
        if depth > _MAX_DEPTH:
            raise Refusal(400, f"A filter is at most {_MAX_DEPTH} levels deep.")
        if not isinstance(node, dict) or len(node) != 1:
            raise at(
                where, "expected an object with exactly one of " + ", ".join(f"`{word}`" for word in _WORDS)
            )
        word, content = next(iter(node.items()))
        where = f"{where}.{word}"
        match word:
            case "and" | "or":
                parts = self._parts(content, where, depth)
                if word == "and":
                    return lambda row: all(part(row) for part in parts)
                return lambda row: any(part(row) for part in parts)
            case "not":
                part = self.compile(content, where, depth + 1)
                return lambda row: not part(row)
            case "matchAll":
                if content != {}:
                    raise at(where, "expected an empty object")
                return lambda _: True
            case "hasData":
                return self._has_data(content, where)
            case "exists":
                get = self._source(content, where, set(), top=()).get
                return lambda row: get(row) is not None
            case "equals":
                return self._in(content, where, "value")
            case "in":
                return self._in(content, where, "values")
            case "prefix":
                return self._prefix(content, where)
            case "range":
                return self._range(content, where)
            case "containsAll" | "containsAny":
                return self._contains(content, where, every=word == "containsAll")
            case _:
                raise at(where, f"`{word[:60]}` is not a filter; there are {', '.join(_WORDS)}")

    def _parts(self, content: Any, where: str, depth: int) -> list[Predicate]:
        if not isinstance(content, list) or not 1 <= len(content) <= _MAX_CHILDREN:
            raise at(where, f"expected a list of 1 to {_MAX_CHILDREN} filters")
        return [self.compile(part, f"{where}[{index}]", depth + 1) for index, part in enumerate(content)]

    def _source(self, content: Any, where: str, fields: set[str], *, top: tuple[str, ...]) -> Source:
        if not isinstance(content, dict) or "property" not in content:
            raise at(where, "expected an object with `property`")
        unknown = content.keys() - fields - {"property"}
        if unknown:
            raise at(where, f"unknown field `{min(unknown)[:60]}`")
        found = source(self._lens, content["property"], f"{where}.property", top=top)
        if found.property is not None:
            self.properties.append(found.property)
        return found

    def _values(self, content: dict[str, Any], found: Source, where: str) -> list[Any]:
        values = content.get("values")
        if not isinstance(values, list) or not 1 <= len(values) <= _MAX_VALUES:
            raise at(f"{where}.values", f"expected a list of 1 to {_MAX_VALUES} values")
        return [operand(value, found, f"{where}.values[{index}]") for index, value in enumerate(values)]

    def _in(self, content: Any, where: str, field: str) -> Predicate:
        found = self._source(content, where, {field}, top=TOP_LEVEL)
        _need_single(found, where)
        if field == "value":
            if "value" not in content:
                raise at(where, "`value` is required")
            wanted = frozenset({operand(content["value"], found, f"{where}.value")})
        else:
            wanted = frozenset(self._values(content, found, where))
        get = found.get
        return lambda row: get(row) in wanted

    def _prefix(self, content: Any, where: str) -> Predicate:
        found = self._source(content, where, {"value"}, top=("space", "externalId"))
        _need_single(found, where)
        if found.type.type != "text":
            raise at(where, f"is only supported for text, not for {found.type.type}")
        prefix = content.get("value")
        if not isinstance(prefix, str) or not 1 <= len(prefix) <= _MAX_PREFIX:
            raise at(f"{where}.value", f"expected a text of 1 to {_MAX_PREFIX} characters")
        get = found.get
        return lambda row: (get(row) or "").startswith(prefix)

    def _range(self, content: Any, where: str) -> Predicate:
        found = self._source(content, where, set(_BOUNDS), top=("createdTime", "lastUpdatedTime"))
        _need_single(found, where)
        if found.type.type not in _ORDERED:
            raise at(where, f"is not supported for {found.type.type}")
        bounds = {
            word: operand(content[word], found, f"{where}.{word}") for word in _BOUNDS if word in content
        }
        check_bounds(bounds, where)
        return in_range(found.get, bounds)

    def _contains(self, content: Any, where: str, *, every: bool) -> Predicate:
        found = self._source(content, where, {"values"}, top=())
        if not found.type.list:
            raise at(where, "is only supported for list properties")
        wanted = frozenset(self._values(content, found, where))
        get = found.get
        if every:
            return lambda row: wanted.issubset(get(row) or ())
        return lambda row: not wanted.isdisjoint(get(row) or ())

    def _has_data(self, content: Any, where: str) -> Predicate:
        if not isinstance(content, list) or not 1 <= len(content) <= _MAX_CONTAINERS:
            raise at(where, f"expected a list of 1 to {_MAX_CONTAINERS} containers")
        numbers = [
            container_of(self._lens.models, one, f"{where}[{index}]") for index, one in enumerate(content)
        ]
        return lambda row: all(row.body.get(number) for number in numbers)


_WORDS = (
    "and",
    "or",
    "not",
    "matchAll",
    "exists",
    "equals",
    "hasData",
    "prefix",
    "range",
    "in",
    "containsAll",
    "containsAny",
)


def check_bounds(bounds: dict[str, Any], where: str, *, lower: bool = False) -> None:
    """Refuse two bounds of one side, none at all, and where `lower` is asked for a missing lower one."""
    if {"gte", "gt"} <= bounds.keys() or {"lte", "lt"} <= bounds.keys():
        raise at(where, "two bounds of the same side are not allowed")
    if not bounds or (lower and not bounds.keys() & {"gte", "gt"}):
        raise at(where, "a lower bound (`gt` or `gte`) is required" if lower else "a bound is required")


def in_range(get: Callable[[Read], Any], bounds: dict[str, Any]) -> Predicate:
    """Whether what is read lies within the bounds; what is missing does not."""
    tests = [(_BOUNDS[word], bound) for word, bound in bounds.items()]
    if len(tests) == 1:
        (test, bound), *_ = tests
        return lambda row: (value := get(row)) is not None and test(value, bound)

    def matches(row: Read) -> bool:
        value = get(row)
        return value is not None and all(test(value, bound) for test, bound in tests)

    return matches


def container_of(models: Models, reference: Any, where: str) -> str:
    """The number, as the rows have it, of a container that a request refers to.

    Raises:
        Refusal: 400 when it is no reference, or there is no such container.
    """
    match reference:
        case {"type": "container", "space": str(space), "externalId": str(external_id)}:
            pass
        case _:
            raise at(where, "expected `{type: container, space, externalId}`")
    container = models.containers.get((space, external_id))
    if container is None:
        raise Refusal(
            400,
            f"{where}: the container `{space[:60]}.{external_id[:60]}` does not exist",
            missing=[{"space": space, "externalId": external_id}],
        )
    return str(container.id)


def _need_single(found: Source, where: str) -> None:
    if found.type.list:
        raise at(where, "is only supported for properties with a single value")

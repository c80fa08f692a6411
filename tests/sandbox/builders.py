"""What the sandbox's tests build again and again: records, request bodies, worlds with a declared container."""

from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings

from cdf_upsert.sandbox.world import Operation, Steps, World

T = TypeVar("T")

# For laws: on a busy machine a slow example is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = 1_700_000_000_000
CONTAINER = {"type": "container", "space": "plant", "externalId": "pump"}

# One property of every type, and the same as lists.
TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "text"},
    "boolean": {"type": "boolean"},
    "int32": {"type": "int32"},
    "int64": {"type": "int64"},
    "float32": {"type": "float32"},
    "float64": {"type": "float64"},
    "timestamp": {"type": "timestamp"},
    "date": {"type": "date"},
    "json": {"type": "json"},
    "direct": {"type": "direct"},
    "enum": {"type": "enum", "values": {"on": {}, "off": {}, "lost": {}}, "unknownValue": "lost"},
}
PROPERTIES = {name: {"type": kind} for name, kind in TYPES.items()} | {
    f"{name}s": {"type": kind | {"list": True}} for name, kind in TYPES.items()
}


def encode(content: Any) -> bytes:
    return msgspec.json.encode(content)


def items(*content: Any) -> bytes:
    return encode({"items": list(content)})


def record(external_id: str, /, space: str = "plant", **properties: Any) -> dict[str, Any]:
    """A record with one source, the declared container."""
    source = {"source": CONTAINER, "properties": properties or {"text": "x"}}
    return {"space": space, "externalId": external_id, "sources": [source]}


def container(external_id: str = "pump", /, **changes: Any) -> dict[str, Any]:
    return {
        "space": "plant",
        "externalId": external_id,
        "usedFor": "record",
        "properties": PROPERTIES,
    } | changes


def stream(external_id: str, template: str = "BasicLiveData") -> dict[str, Any]:
    return {"externalId": external_id, "settings": {"template": {"name": template}}}


def declared_world(**options: Any) -> World:
    """A strict world in memory with a space, a container of every type, a mutable and an immutable stream."""
    world = World(**({"strict": True} | options))
    world.models.apply_spaces(items({"space": "plant"}), NOW)
    world.models.apply_containers(items(container()), NOW)
    world.streams.create(items(stream("events")), NOW)
    world.streams.create(items(stream("log", "ImmutableTestStream")), NOW)
    return world


def write(world: World, operation: Operation, name: str, *content: Any, now: int = NOW) -> frozenset[str]:
    """Write as the server does; returns the keys that were refused because they exist."""
    prepared = world.prepare(operation, name, items(*content), now)
    change = world.measure(prepared)
    world.apply(prepared, change, now)
    return change.conflicts


def upsert(world: World, *content: Any, now: int = NOW) -> None:
    write(world, Operation.UPSERT, "events", *content, now=now)


def done(steps: Steps[T]) -> T:
    """The answer of a query, gone through without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value

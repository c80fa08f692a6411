"""Spaces and containers that exist, and how they come to be."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from cdf_upsert.sandbox.world import definitions, names
from cdf_upsert.sandbox.world.checker import Checker, Fault
from cdf_upsert.sandbox.world.definitions import Container, Property, PropertyType, Space
from cdf_upsert.sandbox.world.refusal import Refusal, at, decode
from cdf_upsert.sandbox.world.store import Store


class _Spaces(Struct):
    items: Annotated[list[Space], Meta(min_length=1, max_length=100)]


class _Containers(Struct):
    items: Annotated[list[Container], Meta(min_length=1, max_length=100)]


class _SpaceId(Struct, frozen=True):
    space: str


class _ContainerId(Struct, frozen=True, rename="camel"):
    space: str
    external_id: str


class _PartId(Struct, frozen=True, rename="camel"):
    space: str
    container_external_id: str
    identifier: str


class _PartIds(Struct):
    items: Annotated[list[_PartId], Meta(min_length=1, max_length=10)]


class _SpaceIds(Struct):
    items: Annotated[list[_SpaceId], Meta(min_length=1, max_length=100)]


class _ContainerIds(Struct):
    items: Annotated[list[_ContainerId], Meta(min_length=1, max_length=100)]


_SPACES = msgspec.json.Decoder(_Spaces)
_CONTAINERS = msgspec.json.Decoder(_Containers)
_SPACE_IDS = msgspec.json.Decoder(_SpaceIds)
_CONTAINER_IDS = msgspec.json.Decoder(_ContainerIds)
_PART_IDS = msgspec.json.Decoder(_PartIds)


@dataclass(slots=True)
class KeptSpace:
    """A space that exists; times in milliseconds."""

    definition: Space
    created: int
    updated: int

    def read(self) -> dict[str, Any]:
        """The space as the API returns it."""
        out: dict[str, Any] = msgspec.to_builtins(self.definition)
        return out | {"createdTime": self.created, "lastUpdatedTime": self.updated, "isGlobal": False}


@dataclass
class KeptContainer:
    """A container that exists; `learnt` says that records made it, not a client."""

    id: int
    definition: Container
    created: int
    updated: int
    learnt: bool
    spaces: dict[str, KeptSpace] = field(repr=False)

    @cached_property
    def checker(self) -> Checker:
        """The compiled check of this container's property objects; what is learnt may relate to any space."""
        return Checker(self.definition.properties, None if self.learnt else self.spaces)

    @property
    def key(self) -> tuple[str, str]:
        """Space and external id."""
        return self.definition.space, self.definition.external_id

    def read(self) -> dict[str, Any]:
        """The container as the API returns it."""
        return definitions.as_read(self.definition, self.created, self.updated)


class Models:
    """All spaces and containers; every change is written through to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.spaces: dict[str, KeptSpace] = {}
        self.containers: dict[tuple[str, str], KeptContainer] = {}
        self.by_id: dict[str, KeptContainer] = {}
        for text, created, updated in store.spaces():
            space = msgspec.json.decode(text, type=Space)
            self.spaces[space.space] = KeptSpace(space, created, updated)
        for number, text, created, updated, learnt in store.containers():
            definition = msgspec.json.decode(text, type=Container)
            self._keep(KeptContainer(number, definition, created, updated, bool(learnt), self.spaces))

    def apply_spaces(self, body: bytes, now: int) -> dict[str, Any]:
        """Create or update spaces; those that stay the same keep their times."""
        items = decode(body, _SPACES).items
        for index, space in enumerate(items):
            definitions.check_space(space, f"items[{index}]")
        _refuse_twice([{"space": space.space} for space in items])
        for space in items:
            self.put_space(space, now)
        return {"items": [self.spaces[space.space].read() for space in items]}

    def put_space(self, space: Space, now: int) -> None:
        """Keep a space that has been checked."""
        kept = self.spaces.get(space.space)
        if kept is not None and kept.definition == space:
            return
        created = kept.created if kept else now
        self._store.put_space(space.space, msgspec.json.encode(space), created, now)
        self.spaces[space.space] = KeptSpace(space, created, now)

    def list_spaces(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """One page of spaces, by name."""
        return _page(sorted(self.spaces), lambda name: self.spaces[name].read(), limit, cursor)

    def spaces_by_ids(self, body: bytes) -> dict[str, Any]:
        """The spaces of a list of ids that exist."""
        items = decode(body, _SPACE_IDS).items
        _check_ids(items)
        return {
            "items": [
                self.spaces[one.space].read() for one in dict.fromkeys(items) if one.space in self.spaces
            ]
        }

    def delete_spaces(self, body: bytes) -> dict[str, Any]:
        """Delete spaces that hold no containers, and name those that were there."""
        items = decode(body, _SPACE_IDS).items
        _check_ids(items)
        gone = [one for one in dict.fromkeys(items) if one.space in self.spaces]
        for one in gone:
            if any(space == one.space for space, _ in self.containers):
                raise Refusal(400, f"The space `{one.space}` still holds containers.")
        for one in gone:
            self._store.delete_space(one.space)
            del self.spaces[one.space]
        return {"items": [{"space": one.space} for one in gone]}

    def apply_containers(self, body: bytes, now: int) -> dict[str, Any]:
        """Create or update containers; those that stay the same keep their times."""
        items = decode(body, _CONTAINERS).items
        for index, container in enumerate(items):
            path = f"items[{index}]"
            definitions.check_container(container, path)
            _check_defaults(container, path)
            self._check_change(container, path)
        _refuse_twice([{"space": one.space, "externalId": one.external_id} for one in items])
        missing = [one.space for one in items if one.space not in self.spaces]
        if missing:
            raise Refusal(
                400,
                f"The space `{missing[0]}` does not exist.",
                missing=[{"space": space} for space in dict.fromkeys(missing)],
            )
        for container in items:
            self.put_container(container, now, learnt=False)
        return {"items": [self.containers[one.space, one.external_id].read() for one in items]}

    def _check_change(self, container: Container, path: str) -> None:
        before = self.containers.get((container.space, container.external_id))
        if before is None or before.learnt:
            return
        if (before.definition.used_for == "record") != (container.used_for == "record"):
            raise at(f"{path}.usedFor", "cannot be changed between records and instances")
        for name, prop in before.definition.properties.items():
            now = container.properties.get(name)
            if now is None:
                raise at(f"{path}.properties", f"the property `{name}` cannot be removed")
            if (now.type.type, now.type.list) != (prop.type.type, prop.type.list):
                raise at(f"{path}.properties.{name}.type", "the type of a property cannot be changed")

    def put_container(self, container: Container, now: int, *, learnt: bool) -> KeptContainer:
        """Keep a container that has been checked."""
        key = (container.space, container.external_id)
        before = self.containers.get(key)
        if before is not None and before.definition == container and before.learnt == learnt:
            return before
        created = before.created if before else now
        number = self._store.put_container(
            before.id if before else None, key, msgspec.json.encode(container), created, now, learnt=learnt
        )
        return self._keep(KeptContainer(number, container, created, now, learnt, self.spaces))

    def declares(self, space: str) -> bool:
        """Whether a client has declared a container in `space`: then those that are not declared there do not exist."""
        return any(kept.key[0] == space and not kept.learnt for kept in self.containers.values())

    def _keep(self, kept: KeptContainer) -> KeptContainer:
        self.containers[kept.key] = kept
        self.by_id[str(kept.id)] = kept
        return kept

    def list_containers(
        self, limit: int, cursor: str | None, space: str | None, used_for: Iterable[str]
    ) -> dict[str, Any]:
        """One page of containers, by space and external id; by default, as in CDF, not those for records."""
        wanted = set(used_for) or {"node", "edge", "all"}
        keys = sorted(
            f"{key[0]}.{key[1]}"
            for key, kept in self.containers.items()
            if kept.definition.used_for in wanted and space in (None, key[0])
        )
        return _page(keys, lambda name: self.containers[_split(name)].read(), limit, cursor)

    def containers_by_ids(self, body: bytes) -> dict[str, Any]:
        """The containers of a list of ids that exist."""
        found = self._find(body)
        return {"items": [kept.read() for kept in found]}

    def delete_containers(self, body: bytes) -> dict[str, Any]:
        """Delete containers, and name those that were there."""
        found = self._find(body)
        for kept in found:
            self._store.delete_container(kept.id)
            del self.containers[kept.key]
        return {"items": [{"space": kept.key[0], "externalId": kept.key[1]} for kept in found]}

    def delete_parts(self, word: Literal["constraints", "indexes"], body: bytes, now: int) -> dict[str, Any]:
        """Delete constraints or indexes of containers, and name those that were there."""
        gone = []
        for one in decode(body, _PART_IDS).items:
            kept = self.containers.get((one.space, one.container_external_id))
            parts = getattr(kept.definition, word) if kept is not None else None
            if kept is None or not parts or one.identifier not in parts:
                continue
            left = {name: part for name, part in parts.items() if name != one.identifier}
            definition = msgspec.structs.replace(kept.definition, **{word: left})
            self.put_container(definition, now, learnt=kept.learnt)
            gone.append(msgspec.to_builtins(one))
        return {"items": gone}

    def _find(self, body: bytes) -> list[KeptContainer]:
        items = decode(body, _CONTAINER_IDS).items
        _check_ids(items)
        keys = dict.fromkeys((one.space, one.external_id) for one in items)
        return [self.containers[key] for key in keys if key in self.containers]

    def property(self, path: list[str], where: str) -> tuple[KeptContainer, str, PropertyType]:
        """The container, the name and the type of a property `[space, container, property]`.

        Raises:
            Refusal: 400 when there is none.
        """
        container = self.containers.get((path[0], path[1]))
        if container is None:
            raise Refusal(
                400,
                f"{where}: the container `{path[0]}.{path[1]}` does not exist",
                missing=[{"space": path[0], "externalId": path[1]}],
            )
        prop = container.definition.properties.get(path[2])
        if prop is None:
            raise at(where, f"the container `{path[0]}.{path[1]}` has no property `{path[2]}`")
        return container, path[2], prop.type

    def typing(self, names_of: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
        """Type information of properties, nested by space, container and property."""
        out: dict[str, Any] = {}
        for space, external_id, name in names_of:
            prop = self.containers[space, external_id].definition.properties[name]
            out.setdefault(space, {}).setdefault(external_id, {})[name] = _typing(prop)
        return out


def _typing(prop: Property) -> dict[str, Any]:
    default = None if prop.default_value is UNSET else prop.default_value
    kind: dict[str, Any] = {"list": False} | msgspec.to_builtins(prop.type)
    for word in ("collation", "container"):
        kind.pop(word, None)
    if "unit" in kind:
        kind["unit"] = {"externalId": kind["unit"]["externalId"]}
    out: dict[str, Any] = {"nullable": prop.nullable, "defaultValue": default, "type": kind}
    out |= {word: text for word in ("name", "description") if (text := getattr(prop, word)) is not UNSET}
    return out


def _check_defaults(container: Container, path: str) -> None:
    for name, prop in container.properties.items():
        if prop.default_value is UNSET or prop.default_value is None:
            continue
        checker = Checker({name: Property(prop.type)}, None)
        try:
            checker.check([Raw(msgspec.json.encode({name: prop.default_value}))])
        except Fault as fault:
            raise at(f"{path}.properties.{name}.defaultValue", fault.fault) from None


def _check_ids(items: Iterable[_SpaceId | _ContainerId]) -> None:
    for index, one in enumerate(items):
        if not names.is_space(one.space):
            raise at(f"items[{index}].space", f"`{one.space[:60]}` is not a valid space id")
        if isinstance(one, _ContainerId) and not names.is_container(one.external_id):
            raise at(
                f"items[{index}].externalId", f"`{one.external_id[:60]}` is not a valid container external id"
            )


def _refuse_twice(ids: list[dict[str, str]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for one in ids:
        if tuple(one.values()) in seen:
            raise Refusal(400, f"`{'.'.join(one.values())}` stands twice in the request.", duplicated=[one])
        seen.add(tuple(one.values()))


def _split(name: str) -> tuple[str, str]:
    space, _, external_id = name.partition(".")
    return space, external_id


def _page(
    keys: list[str], read: Callable[[str], dict[str, Any]], limit: int, cursor: str | None
) -> dict[str, Any]:
    after = ""
    if cursor is not None:
        try:
            after = base64.b64decode(cursor.encode(), b"-_", validate=True).decode()
        except ValueError:
            raise Refusal(400, "The cursor is not one of this service.") from None
    rest = [key for key in keys if key > after]
    page: dict[str, Any] = {"items": [read(key) for key in rest[:limit]]}
    if len(rest) > limit:
        page["nextCursor"] = base64.urlsafe_b64encode(rest[limit - 1].encode()).decode()
    return page

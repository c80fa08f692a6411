"""A request's records, decoded and checked: everything that can be said before looking at what is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from cdf_upsert.sandbox.world import names
from cdf_upsert.sandbox.world.checker import Fault
from cdf_upsert.sandbox.world.definitions import Container, ContainerRef, Space
from cdf_upsert.sandbox.world.learning import learn
from cdf_upsert.sandbox.world.models import KeptContainer, Models
from cdf_upsert.sandbox.world.refusal import Refusal, at, decode

_ExternalId = Annotated[str, Meta(min_length=1, max_length=256)]


class _Source(Struct, forbid_unknown_fields=True, gc=False):
    source: Raw
    properties: Raw


class _Item(Struct, forbid_unknown_fields=True, rename="camel"):
    space: str
    external_id: _ExternalId
    sources: Annotated[list[_Source], Meta(min_length=1, max_length=100)]


class _Items(Struct):
    items: Annotated[list[_Item], Meta(min_length=1, max_length=1000)]


class _Id(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    space: str
    external_id: _ExternalId


class _Ids(Struct):
    items: Annotated[list[_Id], Meta(min_length=1, max_length=1000)]


_ITEMS = msgspec.json.Decoder(_Items)
_IDS = msgspec.json.Decoder(_Ids)
_REFERENCE = msgspec.json.Decoder(ContainerRef)


@dataclass(slots=True)
class _Group:
    """The property objects of one request that belong to one container, and where each stands.

    Without places each record has one source, in the order of the objects.
    """

    container: KeptContainer | None
    reference: ContainerRef
    objects: list[Raw] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)


def read_ids(body: bytes) -> list[str]:
    """The keys `space.externalId` that a delete request names.

    Raises:
        Refusal: 400 that names the item and the field.
    """
    items = decode(body, _IDS).items
    _refuse_nul(body)
    for index, item in enumerate(items):
        _check_space(item.space, index)
    return [f"{item.space}.{item.external_id}" for item in items]


def read_records(body: bytes, models: Models, *, strict: bool, now: int) -> tuple[list[str], list[bytes]]:
    """The keys and the bodies `{container id: properties}` of an ingest or upsert request, in its order.

    Where `strict` is false, spaces and containers that are not known are learnt, but only from a request that
    is good as a whole.

    Raises:
        Refusal: 400 that names the item and the field.
    """
    items = decode(body, _ITEMS).items
    _refuse_nul(body)
    new_spaces = _spaces(items, models, strict=strict)
    groups = _group(items, models, strict=strict)
    checked = [_check(group, models, strict=strict, new_spaces=new_spaces) for group in groups]
    for space in new_spaces:
        models.put_space(Space(space=space), now)
    parts: list[tuple[bytes, Sequence[Raw | bytes]]] = []
    for group, (definition, objects) in zip(groups, checked, strict=True):
        kept = group.container
        if definition is not None:
            kept = models.put_container(definition, now, learnt=True)
        assert kept is not None  # a group without a container has just been given one
        parts.append((b'"%d":' % kept.id, objects))
    keys = [f"{item.space}.{item.external_id}" for item in items]
    return keys, _bodies(len(items), groups, parts)


def _bodies(
    count: int, groups: Sequence[_Group], parts: Sequence[tuple[bytes, Sequence[Raw | bytes]]]
) -> list[bytes]:
    if len(parts) == 1:  # then each record has one source: no container stands twice in a record
        prefix, objects = parts[0]
        prefix = b"{" + prefix
        return [prefix + one + b"}" for one in objects]
    pieces: list[list[bytes]] = [[] for _ in range(count)]
    for group, (prefix, objects) in zip(groups, parts, strict=True):
        for (index, _), one in zip(group.places, objects, strict=True):
            pieces[index].append(prefix + one)
    return [b"{" + b",".join(piece) + b"}" for piece in pieces]


def _spaces(items: Sequence[_Item], models: Models, *, strict: bool) -> list[str]:
    """Check the records' spaces; returns those that are to be made."""
    unknown = {item.space for item in items} - models.spaces.keys()
    if not unknown:
        return []
    for index, item in enumerate(items):
        if item.space in unknown:
            _check_space(item.space, index)
            if strict or item.space in names.RESERVED_SPACES:
                raise Refusal(
                    400,
                    f"items[{index}].space: the space `{item.space}` does not exist",
                    missing=[{"space": space} for space in sorted(unknown)],
                )
    return sorted(unknown)


def _check_space(space: str, index: int) -> None:
    if not names.is_space(space):
        raise at(f"items[{index}].space", f"`{space[:60]}` is not a valid space id")


def _group(items: Sequence[_Item], models: Models, *, strict: bool) -> list[_Group]:
    if all(len(item.sources) == 1 for item in items):
        alike = {bytes(item.sources[0].source) for item in items}
        if len(alike) == 1:  # by far the most common request: one container
            path = "items[0].sources[0].source"
            group = _resolve(alike.pop(), path, models, {}, strict=strict)
            group.objects = [item.sources[0].properties for item in items]
            return [group]
    by_bytes: dict[bytes, _Group] = {}
    by_key: dict[tuple[str, str], _Group] = {}
    for index, item in enumerate(items):
        for number, source in enumerate(item.sources):
            raw = bytes(source.source)
            if raw not in by_bytes:
                path = f"items[{index}].sources[{number}].source"
                by_bytes[raw] = _resolve(raw, path, models, by_key, strict=strict)
            group = by_bytes[raw]
            group.objects.append(source.properties)
            group.places.append((index, number))
        if len(item.sources) > 1:
            refs = [by_bytes[bytes(source.source)] for source in item.sources]
            if len({id(group) for group in refs}) < len(refs):
                raise at(f"items[{index}].sources", "names a container twice")
    return list(by_key.values())


def _resolve(
    raw: bytes, path: str, models: Models, groups: dict[tuple[str, str], _Group], *, strict: bool
) -> _Group:
    try:
        reference = decode(raw, _REFERENCE)
    except Refusal as refusal:
        raise at(
            path, f"expected a container, {{type: container, space, externalId}}: {refusal.message}"
        ) from None
    if not names.is_space(reference.space):
        raise at(f"{path}.space", f"`{reference.space[:60]}` is not a valid space id")
    if not names.is_container(reference.external_id):
        raise at(f"{path}.externalId", f"`{reference.external_id[:60]}` is not a valid container external id")
    key = (reference.space, reference.external_id)
    container = models.containers.get(key)
    if container is None and (strict or models.declares(key[0])):
        raise Refusal(
            400,
            f"{path}: the container `{key[0]}.{key[1]}` does not exist",
            missing=[{"space": key[0], "externalId": key[1]}],
        )
    if container is not None and container.definition.used_for != "record":
        raise at(
            path, f"the container `{key[0]}.{key[1]}` is not used for records (`usedFor` is not `record`)"
        )
    return groups.setdefault(key, _Group(container, reference))


def _check(
    group: _Group, models: Models, *, strict: bool, new_spaces: list[str]
) -> tuple[Container | None, Sequence[Raw | bytes]]:
    """The group's objects, checked, and what its container has become when that is new."""
    kept = group.container
    try:
        if kept is not None:
            try:
                return None, kept.checker.check(group.objects)
            except Fault:
                if strict or not kept.learnt:
                    raise
        return _learn(group, models, new_spaces)
    except Fault as fault:
        index, number = group.places[fault.index] if group.places else (fault.index, 0)
        path = f"items[{index}].sources[{number}].properties"
        raise at(f"{path}.{fault.path}" if fault.path else path, fault.fault) from None


def _learn(group: _Group, models: Models, new_spaces: list[str]) -> tuple[Container, Sequence[Raw | bytes]]:
    reference = group.reference
    if reference.space not in models.spaces and reference.space not in new_spaces:
        new_spaces.append(reference.space)
    known = group.container.definition.properties if group.container is not None else {}
    properties, objects = learn(known, [bytes(one) for one in group.objects])
    for name in properties:
        if not names.is_property(name):
            index = next(i for i, one in enumerate(objects) if name in msgspec.json.decode(one))
            raise Fault(index, name, "is not a valid property id, or a reserved one")
    container = Container(reference.space, reference.external_id, properties, used_for="record")
    checker = KeptContainer(0, container, 0, 0, True, models.spaces).checker
    return container, checker.check([Raw(one) for one in objects])


def _refuse_nul(body: bytes) -> None:
    if b"\\u0000" not in body:
        return
    path = _find_nul(msgspec.json.decode(body), "")
    if path is not None:
        raise at(path.lstrip("."), "a text must not contain the NUL character")


def _find_nul(value: Any, path: str) -> str | None:
    todo: list[tuple[Any, str]] = [(value, path)]
    while todo:
        one, place = todo.pop()
        if isinstance(one, str) and "\0" in one:
            return place
        if isinstance(one, dict):
            if any("\0" in key for key in one):
                return place
            todo += [(inner, f"{place}.{key}") for key, inner in one.items()]
        elif isinstance(one, list):
            todo += [(inner, f"{place}[{index}]") for index, inner in enumerate(one)]
    return None

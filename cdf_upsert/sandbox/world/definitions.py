"""Spaces and containers as they are written: decoded by msgspec, then held against the rules of the API."""

from collections import Counter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from cdf_upsert.sandbox.world import names
from cdf_upsert.sandbox.world.refusal import at

TypeName = Literal[
    "text",
    "boolean",
    "float32",
    "float64",
    "int32",
    "int64",
    "timestamp",
    "date",
    "json",
    "timeseries",
    "file",
    "sequence",
    "direct",
    "enum",
]
UsedFor = Literal["node", "edge", "record", "all"]
_Name = Annotated[str, Meta(max_length=255)]
_Description = Annotated[str, Meta(max_length=1024)]

MAX_TEXT = 128_000
MAX_LIST = 1000
MAX_RELATIONS = 100
_REFERENCES = frozenset({"timeseries", "file", "sequence"})


class ContainerRef(Struct, tag="container", tag_field="type", frozen=True, rename="camel"):
    """A container named by space and external id."""

    space: str
    external_id: str


class UnitRef(Struct, omit_defaults=True, rename="camel"):
    """The unit of a float property."""

    external_id: str
    source_unit: str | UnsetType = UNSET


class EnumValue(Struct, omit_defaults=True):
    """Metadata of one enum value."""

    name: _Name | UnsetType = UNSET
    description: _Description | UnsetType = UNSET


class PropertyType(Struct, omit_defaults=True, rename="camel"):
    """The type of a property; which of the optional fields may stand depends on `type`."""

    type: TypeName
    list: bool = False
    max_list_size: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    max_text_size: Annotated[int, Meta(ge=1, le=MAX_TEXT)] | UnsetType = UNSET
    collation: str | UnsetType = UNSET
    unit: UnitRef | UnsetType = UNSET
    container: ContainerRef | UnsetType = UNSET
    values: Annotated[dict[str, EnumValue], Meta(max_length=32)] | UnsetType = UNSET
    unknown_value: str | UnsetType = UNSET


class Property(Struct, omit_defaults=True, rename="camel"):
    """One property of a container."""

    type: PropertyType
    nullable: bool = True
    immutable: bool = False
    auto_increment: bool = False
    default_value: str | float | int | bool | dict[str, Any] | UnsetType | None = UNSET
    description: _Description | UnsetType = UNSET
    name: _Name | UnsetType = UNSET


class Constraint(Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A constraint of a container for instances; `require` and `properties` tell the two kinds apart."""

    constraint_type: Literal["requires", "uniqueness"] | UnsetType = UNSET
    require: ContainerRef | UnsetType = UNSET
    properties: list[str] | UnsetType = UNSET
    by_space: bool | UnsetType = UNSET


class Index(Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """An index of a container for instances."""

    properties: list[str]
    index_type: Literal["btree", "inverted"] | UnsetType = UNSET
    cursorable: bool | UnsetType = UNSET
    by_space: bool | UnsetType = UNSET


class Container(Struct, omit_defaults=True, rename="camel"):
    """A container as a client writes it."""

    space: str
    external_id: str
    properties: Annotated[dict[str, Property], Meta(min_length=1)]
    name: _Name | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    used_for: UsedFor = "node"
    constraints: dict[str, Constraint] | UnsetType = UNSET
    indexes: dict[str, Index] | UnsetType = UNSET


class Space(Struct, omit_defaults=True):
    """A space as a client writes it."""

    space: str
    name: _Name | UnsetType = UNSET
    description: _Description | UnsetType = UNSET


def check_space(space: Space, path: str) -> None:
    """Hold a space against the API's rules.

    Raises:
        Refusal: 400 that names the item and the field.
    """
    if not names.is_space(space.space):
        raise at(f"{path}.space", f"`{space.space[:60]}` is not a valid space id")
    if space.space in names.RESERVED_SPACES:
        raise at(f"{path}.space", f"`{space.space}` is a reserved space id")


def check_container(container: Container, path: str) -> None:
    """Hold a container against the API's rules, other than those that need other containers.

    Raises:
        Refusal: 400 that names the item and the field.
    """
    if not names.is_space(container.space):
        raise at(f"{path}.space", f"`{container.space[:60]}` is not a valid space id")
    if not names.is_container(container.external_id):
        raise at(f"{path}.externalId", f"`{container.external_id[:60]}` is not a valid container external id")
    if container.external_id in names.RESERVED_CONTAINERS:
        raise at(f"{path}.externalId", f"`{container.external_id}` is a reserved container external id")
    record = container.used_for == "record"
    most = 1000 if record else 100
    if len(container.properties) > most:
        raise at(f"{path}.properties", f"at most {most} properties, got {len(container.properties)}")
    if record and (container.constraints or container.indexes):
        raise at(path, "constraints and indexes are not supported for containers with `usedFor` `record`")
    for name, prop in container.properties.items():
        _check_property(name, prop, f"{path}.properties.{name}", record=record)
    _check_constraints(container, path)


def _check_property(name: str, prop: Property, path: str, *, record: bool) -> None:
    kind = prop.type
    if not names.is_property(name):
        raise at(path, "is not a valid property id, or a reserved one")
    if record and kind.type in _REFERENCES:
        raise at(f"{path}.type", f"`{kind.type}` is not allowed in containers with `usedFor` `record`")
    if record and (prop.immutable or prop.auto_increment):
        raise at(path, "`immutable` and `autoIncrement` are not supported for records")
    if prop.auto_increment and kind.type not in ("int32", "int64"):
        raise at(f"{path}.autoIncrement", f"is only supported for int32 and int64, not for {kind.type}")
    most = MAX_RELATIONS if kind.type == "direct" else MAX_LIST
    if kind.max_list_size and not kind.list:
        raise at(f"{path}.type.maxListSize", "is only allowed for lists")
    if kind.max_list_size and kind.max_list_size > most:
        raise at(f"{path}.type.maxListSize", f"is at most {most}")
    for field, owners in _OWNERS.items():
        if getattr(kind, field) is not UNSET and kind.type not in owners:
            raise at(f"{path}.type", f"`{_camel(field)}` is not allowed for `{kind.type}`")
    if kind.unit is not UNSET and names.UNIT.fullmatch(kind.unit.external_id) is None:
        raise at(
            f"{path}.type.unit", f"`{kind.unit.external_id[:60]}` is not a unit such as `temperature:deg_c`"
        )
    if kind.type == "enum":
        _check_enum(kind, path)
    if prop.default_value is not UNSET and prop.default_value is not None and kind.list:
        raise at(f"{path}.defaultValue", "is not supported for lists")


_OWNERS = {
    "max_text_size": {"text"},
    "collation": {"text"},
    "unit": {"float32", "float64"},
    "container": {"direct"},
    "values": {"enum"},
    "unknown_value": {"enum"},
}


def _camel(field: str) -> str:
    head, *tail = field.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _check_enum(kind: PropertyType, path: str) -> None:
    if not kind.values:
        raise at(f"{path}.type.values", "is required for `enum`")
    for value in kind.values:
        if names.ENUM_VALUE.fullmatch(value) is None or value in names.RESERVED_ENUM_VALUES:
            raise at(f"{path}.type.values", f"`{value[:60]}` is not a valid enum value")
    if kind.unknown_value is not UNSET and kind.unknown_value not in kind.values:
        raise at(f"{path}.type.unknownValue", "must be one of `values`")


def _check_constraints(container: Container, path: str) -> None:
    kinds = Counter(
        _check_constraint(one, f"{path}.constraints.{name}")
        for name, one in (container.constraints or {}).items()
    )
    for kind, most in _MAX_CONSTRAINTS.items():
        if kinds[kind] > most:
            raise at(f"{path}.constraints", f"at most {most} of the type `{kind}`")
    if len(container.indexes or ()) > _MAX_INDEXES:
        raise at(f"{path}.indexes", f"at most {_MAX_INDEXES}")
    for word in ("constraints", "indexes"):
        entries: dict[str, Constraint | Index] = getattr(container, word) or {}
        for name, entry in entries.items():
            place = f"{path}.{word}.{name}"
            if not 1 <= len(name) <= 43:
                raise at(place, "identifiers have 1 to 43 characters")
            for prop in entry.properties or ():
                if prop not in container.properties:
                    raise at(place, f"names the unknown property `{prop}`")


_MAX_CONSTRAINTS = {"uniqueness": 10, "requires": 25}
_MAX_INDEXES = 10


def _check_constraint(one: Constraint, path: str) -> str:
    """Hold a constraint against its kind; returns the kind."""
    kind = "uniqueness" if one.require is UNSET else "requires"
    if (one.require is UNSET) == (one.properties is UNSET) or one.constraint_type not in (UNSET, kind):
        raise at(
            path, "expected either `require` of the type `requires` or `properties` of the type `uniqueness`"
        )
    return kind


def as_read(container: Container, created: int, updated: int) -> dict[str, Any]:
    """A container as the API returns it, with the state of constraints and indexes."""
    out: dict[str, Any] = msgspec.to_builtins(container)
    out["usedFor"] = container.used_for
    for prop in out["properties"].values():
        prop.setdefault("nullable", True)
        if container.used_for != "record":
            prop.setdefault("immutable", False)
            prop.setdefault("autoIncrement", False)
        kind = prop["type"]
        kind.setdefault("list", False)
        state = {}
        if not prop["nullable"]:
            state["nullability"] = "current"
        state |= {size: "current" for size in ("maxListSize", "maxTextSize") if size in kind}
        prop["constraintState"] = state
    for word in ("constraints", "indexes"):
        if word in out:
            out[word] = {name: entry | {"state": "current"} for name, entry in out[word].items()}
    return out | {"createdTime": created, "lastUpdatedTime": updated, "isGlobal": False}

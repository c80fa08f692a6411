"""What is stored against what was sent, value by value as the service stores them.

    type of the property            same are
    int32, int64                    equal numbers: 1 and 1.0, and every digit of a long one counts
    float64, float32                numbers that round to the same float of that width
    timestamp                       the same instant, whatever the offset and the digits of its fraction
    json                            objects with equal members in any order
    text, date, enum, boolean, …    equal values
    list of these                   lists of the same length whose values are the same, in order
    not told                        values that are the same by one of these rules

An upsert replaces the whole record: a stored property that was not sent differs, unless it holds the default
that the container gives it. A null that was sent explicitly stands for a property that is not there.

Types are those of the published reference of the records API (20230101); a timestamp without an offset is
taken as UTC.
"""

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
from msgspec import Struct

from cdf_upsert.core.wording import count


class Same(Struct, frozen=True):
    """The stored record has exactly the state that was sent."""


class Missing(Struct, frozen=True):
    """Nothing is stored under the key."""


class Different(Struct, frozen=True):
    """Another state is stored; `properties` are the names that differ, as `container.property`.

    `values` are what is stored under each of them and what was sent, None where there is none.
    """

    properties: Sequence[str]
    values: Sequence[tuple[Any, Any]] = ()


Comparison = Same | Missing | Different


class Unreadable(Struct, frozen=True):
    """The service refuses to say what is stored: it does not know what the record names."""


Found = Comparison | Unreadable


class _Source(msgspec.Struct, gc=False):
    """A container, or a view, which has a version."""

    space: str = ""
    externalId: str = ""  # noqa: N815  the API's own name
    version: str | None = None


class _Held(msgspec.Struct, gc=False):
    source: _Source
    properties: dict[str, Any]


class _Record(msgspec.Struct, gc=False):
    sources: list[_Held]


_decode_record = msgspec.json.Decoder(_Record).decode

_Container = tuple[str, str]
"""(space, externalId)."""

_NOTHING: Mapping[str, Any] = {}


def compare(
    record_text: bytes, stored: Mapping[str, Any], typing: Mapping[str, Any] = _NOTHING
) -> Same | Different:
    """Compare a record's text, which has passed its checks, with the stored record of the same key.

    Args:
        record_text: The record as it is sent.
        stored: The record as `records/filter` gives it: `{properties: {space: {container: {property:
            value}}}}`.
        typing: What `records/filter` tells of types, when it was asked: `{space: {container: {property:
            {defaultValue, type: {type, list}}}}}`.
    """
    ours = _ours(record_text)
    theirs: dict[_Container, Mapping[str, Any]] = {
        (space, name): properties
        for space, containers in stored["properties"].items()
        for name, properties in containers.items()
    }
    different: list[tuple[_Container, str]] = []
    for container, properties in ours.items():
        held = theirs.get(container, _NOTHING)
        types = _member(_member(typing, container[0]), container[1])
        for name, value in properties.items():
            other = held.get(name)
            kind = type(value)
            if kind is type(other) and kind not in _NESTED and value == other:
                continue  # What nearly every property is; the rules below would say the same.
            if not _same_property(value, other, _member(types, name)):
                different.append((container, name))
    for container, held in theirs.items():
        known = ours.get(container, _NOTHING)
        if held.keys() <= known.keys():
            continue
        types = _member(_member(typing, container[0]), container[1])
        different += [
            (container, name)
            for name, other in held.items()
            if name not in known and not _same_property(None, other, _member(types, name))
        ]
    if not different:
        return Same()
    values = [
        (theirs.get(where, _NOTHING).get(name), ours.get(where, _NOTHING).get(name))
        for where, name in different
    ]
    return Different(tuple(_names(different, [*ours, *theirs])), values)


def difference_told(found: Missing | Different) -> str:
    """What was found, by the names of properties alone: their values are nobody else's business."""
    if isinstance(found, Missing):
        return "nothing is stored under this key"
    return f"what is stored differs in {', '.join(found.properties)}"


MOST_TOLD, LONGEST_TOLD = 10, 60
"""Properties whose values are told, and characters of each value."""


def values_told(found: Comparison) -> str:
    """The values that differ, as `c.a: stored 1, ours 2; c.b: stored nothing, ours "x"`; empty without any.

    For eyes only, when they were asked for: no file has them.
    """
    if not isinstance(found, Different):
        return ""
    pairs = list(zip(found.properties, found.values, strict=False))
    parts = [
        f"{name}: stored {_value_told(stored)}, ours {_value_told(our)}"
        for name, (stored, our) in pairs[:MOST_TOLD]
    ]
    if rest := len(pairs) - len(parts):
        parts.append(f"and {count(rest, 'other property', 'other properties')}")
    return "; ".join(parts)


def _value_told(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        value = value[: LONGEST_TOLD + 1]
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "a value too deep to be told"
    return text if len(text) <= LONGEST_TOLD else f"{text[: LONGEST_TOLD - 3]}..."


def _ours(text: bytes) -> dict[_Container, dict[str, Any]]:
    try:
        record = _decode_record(text)
    except msgspec.DecodeError:
        # Numbers that no float holds, such as 1e400: an error to msgspec, infinite to Python.
        record = msgspec.convert(json.loads(text), _Record)
    ours: dict[_Container, dict[str, Any]] = {}
    for held in record.sources:
        source = held.source
        name = f"{source.externalId}/{source.version}" if source.version else source.externalId
        ours.setdefault((source.space, name), {}).update(held.properties)
    return ours


def _names(different: Sequence[tuple[_Container, str]], containers: Sequence[_Container]) -> Iterator[str]:
    """`container.property`, with the container's space before it where two spaces have such a container."""
    spaces: dict[str, set[str]] = {}
    for space, container in containers:
        spaces.setdefault(container, set()).add(space)
    for (space, container), name in different:
        yield f"{space}/{container}.{name}" if len(spaces[container]) > 1 else f"{container}.{name}"


def _member(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that should be an object, but comes from outside."""
    member = of.get(name)
    return member if isinstance(member, dict) else _NOTHING


def _same_property(ours: Any, stored: Any, definition: Mapping[str, Any]) -> bool:
    same = _RULES.get(str(_member(definition, "type").get("type")), _same_untold)
    if ours is None:
        default = definition.get("defaultValue")
        return stored is None or (default is not None and same(default, stored))
    try:
        if isinstance(ours, list) and isinstance(stored, list):
            return len(ours) == len(stored) and all(map(same, ours, stored))
        return same(ours, stored)
    except RecursionError:  # Too deep to be looked through: then nobody may say that it is the same.
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_json(ours: Any, stored: Any) -> bool:
    """Equal as JSON, where true is not 1 but 1 is 1.0."""
    match stored:
        case dict():
            return (
                isinstance(ours, dict)
                and ours.keys() == stored.keys()
                and all(_same_json(value, stored[name]) for name, value in ours.items())
            )
        case list():
            return isinstance(ours, list) and len(ours) == len(stored) and all(map(_same_json, ours, stored))
        case bool() | None:
            return ours is stored
        case int() | float():
            return _is_number(ours) and bool(ours == stored)
        case _:
            return bool(ours == stored)


def _same_float64(ours: Any, stored: Any) -> bool:
    return _is_number(ours) and _is_number(stored) and _float64(ours) == _float64(stored)


def _same_float32(ours: Any, stored: Any) -> bool:
    return _is_number(ours) and _is_number(stored) and _float32(ours) == _float32(stored)


def _same_timestamp(ours: Any, stored: Any) -> bool:
    if not (isinstance(ours, str) and isinstance(stored, str)):
        return False
    return ours == stored or ((instant := _instant(ours)) is not None and instant == _instant(stored))


def _same_untold(ours: Any, stored: Any) -> bool:
    """The same by the rule of some type that both values can be of."""
    match stored:
        case str():
            return _same_timestamp(ours, stored)
        case float():
            return _is_number(ours) and (_float64(ours) == stored or stored in _shown_float32(ours))
        case _:
            return _same_json(ours, stored)


_NESTED = (list, dict)

_RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "boolean": _same_json,
    "int32": _same_json,
    "int64": _same_json,
    "float32": _same_float32,
    "float64": _same_float64,
    "timestamp": _same_timestamp,
    "date": _same_json,
    "json": _same_json,
    "text": _same_json,
    "enum": _same_json,
    "direct": _same_json,
}
"""By the name of the type; a name that is not here is one that came later."""


def _float64(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


_FLOAT32 = struct.Struct("<f")


def _float32(number: float) -> float:
    """The nearest float of 32 bits."""
    try:
        rounded: float = _FLOAT32.unpack(_FLOAT32.pack(number))[0]
    except (OverflowError, struct.error):
        return float("inf")
    return rounded


def _shown_float32(number: float) -> tuple[float, float]:
    """What may be read where a number is stored in 32 bits: that float, or the fewest digits that tell it."""
    rounded = _float32(number)
    for digits in range(1, 10):
        shortest = float(f"{rounded:.{digits}g}")
        if _float32(shortest) == rounded:
            return rounded, shortest
    return rounded, rounded


_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?", re.ASCII
)


def _instant(text: str) -> tuple[int, int] | None:
    """Seconds and nanoseconds since the year 0, UTC; None when the text is no timestamp."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return None
    seconds = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    offset = int(hours or 0) * 3600 + int(minutes or 0) * 60
    return seconds - (-offset if sign == "-" else offset), int((fraction or "").ljust(9, "0"))

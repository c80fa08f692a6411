"""Values made comparable: timestamps as milliseconds, relations as pairs; and the shape of a row."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from cdf_upsert.sandbox.world.checker import DATE, TIME
from cdf_upsert.sandbox.world.definitions import PropertyType
from cdf_upsert.sandbox.world.refusal import at
from cdf_upsert.sandbox.world.store import Row
from cdf_upsert.sandbox.world.streams import key_of
from cdf_upsert.sandbox.world.units import Lens

_TIMESTAMP = re.compile(rf"({DATE})({TIME})?", re.ASCII)
_ZONE = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE = 146_097 * 86_400_000
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)", re.ASCII)
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

_NUMBERS = frozenset({"int32", "int64", "float32", "float64"})
_TEXTS = frozenset({"text", "enum", "timeseries", "file", "sequence"})

TOP_LEVEL = ("space", "externalId", "createdTime", "lastUpdatedTime")

Get = Callable[["Read"], Any]


class Read(NamedTuple):
    """A row as queries see it; `body` is container id -> property -> value."""

    seq: int
    space: str
    external_id: str
    created: int
    updated: int
    state: int
    body: dict[str, dict[str, Any]]


def read(row: Row) -> Read:
    """A stored row, decoded."""
    space, external_id = key_of(row.identity)
    return Read(row.seq, space, external_id, row.created, row.updated, row.state, orjson.loads(row.body))


class Source(NamedTuple):
    """Something that a query may ask for: how it is read, its type, and where it was declared."""

    get: Get
    type: PropertyType
    property: tuple[str, str, str] | None


def source(lens: Lens, path: Any, where: str, *, top: tuple[str, ...]) -> Source:
    """What a property path `[name]` or `[space, container, property]` stands for.

    Raises:
        Refusal: 400 for a path that names nothing that may be asked for here.
    """
    if not isinstance(path, list) or not all(isinstance(part, str) and 0 < len(part) <= 255 for part in path):
        raise at(where, "expected a list of texts of 1 to 255 characters")
    if len(path) == 1 and path[0] in top:
        return _TOP[path[0]]
    if len(path) != 3:
        names = "".join(f'`["{name}"]`, ' for name in top)
        raise at(where, f"expected {names}or `[space, container, property]`")
    container, name, kind = lens.models.property(path, where)
    number = str(container.id)
    full = (path[0], path[1], path[2])
    bring = comparable(kind) or lens.conversion(full, kind)

    def get(row: Read) -> Any:
        values = row.body.get(number)
        if values is None:
            return None
        value = values.get(name)
        if value is None or bring is None:
            return value
        return [bring(one) for one in value] if kind.list else bring(value)

    return Source(get, kind, full)


_TOP = {
    "space": Source(lambda row: row.space, PropertyType(type="text"), None),
    "externalId": Source(lambda row: row.external_id, PropertyType(type="text"), None),
    "createdTime": Source(lambda row: row.created, PropertyType(type="timestamp"), None),
    "lastUpdatedTime": Source(lambda row: row.updated, PropertyType(type="timestamp"), None),
}


def comparable(kind: PropertyType) -> Callable[[Any], Any] | None:
    """How a stored value of a type is made comparable; None where it is so already."""
    if kind.type == "timestamp":
        return milliseconds
    if kind.type == "direct":
        return _pair
    return None


def operand(value: Any, found: Source, where: str) -> Any:
    """A value of a request, made comparable with what a source gives.

    Raises:
        Refusal: 400 for a value of another type.
    """
    kind = found.type.type
    fits = False
    match value:
        case bool():
            fits = kind == "boolean"
        case int() | float():
            fits = kind in _NUMBERS or (found.property is None and kind == "timestamp")
        case str() if kind == "timestamp":
            time = milliseconds(value)
            if time is None:
                raise at(where, "expected a timestamp `YYYY-MM-DDTHH:MM:SS[.millis][Z|time zone]`")
            return time
        case str() if kind == "date":
            fits = re.fullmatch(DATE, value) is not None
        case str():
            fits = kind in _TEXTS
        case {"space": str(space), "externalId": str(external_id)} if kind == "direct" and len(value) == 2:
            return (space, external_id)
        case _:
            pass
    if not fits:
        raise at(where, f"expected a value of type {kind}")
    return value


@lru_cache(maxsize=65_536)
def milliseconds(text: str) -> int | None:
    """A timestamp text as milliseconds since 1970; without a zone it is UTC. None when it is none."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    day, time = match[1], match[2]
    if time is None:
        return (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400_000
    zone = UTC
    clock = time[1:]
    if clock.endswith("Z"):
        clock = clock[:-1]
    elif (offset := _ZONE.search(clock)) is not None:
        span = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        zone = timezone(span if offset["sign"] == "+" else -span)
        clock = clock[: offset.start()]
    whole, _, fraction = clock.partition(".")
    moment = datetime.fromisoformat(f"{day}T{whole}").replace(tzinfo=UTC)
    shift = zone.utcoffset(None)
    return (
        (moment - _EPOCH) // timedelta(milliseconds=1)
        + int(fraction.ljust(3, "0") or 0)
        - shift // timedelta(milliseconds=1)
    )


def iso(time: int) -> str:
    """Milliseconds since 1970 as a timestamp text in UTC; a time zone may lead out of the years of four digits."""
    moment, year = _moment(time)
    text = moment.isoformat(timespec="milliseconds" if time % 1000 else "seconds")
    sign = "+" if year > 9999 else "-" if year < 0 else ""
    return f"{sign}{abs(year):04}{text[4:].replace('+00:00', 'Z')}"


def month(time: int) -> int:
    """The number of the month that a time lies in, counted from the year 0."""
    moment, year = _moment(time)
    return year * 12 + moment.month - 1


def month_start(number: int) -> int:
    """When a month begins, in milliseconds since 1970."""
    cycles, year = divmod(number // 12 - 1970, 400)
    moment = datetime(year + 1970, number % 12 + 1, 1, tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1) + cycles * _CYCLE


def _moment(time: int) -> tuple[datetime, int]:
    """The moment within the 400 years from 1970, in which the calendar repeats itself, and the true year."""
    cycles, rest = divmod(time, _CYCLE)
    moment = _EPOCH + timedelta(milliseconds=rest)
    return moment, moment.year + 400 * cycles


def duration(text: str) -> int | None:
    """`3m`, `400h`, `25d` as milliseconds; None when it is none, or nought."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] or None if match is not None else None


def _pair(value: dict[str, str]) -> tuple[str, str]:
    return value["space"], value["externalId"]

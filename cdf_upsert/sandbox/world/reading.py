"""Reading records back: filter (one page, sorted) and sync (changes since a cursor)."""

import base64
import binascii
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from cdf_upsert.sandbox.world.filters import (
    Filter,
    Predicate,
    check_bounds,
    compile_filter,
    container_of,
    in_range,
)
from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.refusal import Refusal, at, decode
from cdf_upsert.sandbox.world.store import Row, State, Store
from cdf_upsert.sandbox.world.streams import Stream
from cdf_upsert.sandbox.world.templates import DAY_MS
from cdf_upsert.sandbox.world.units import Convert, Lens, TargetUnits, look
from cdf_upsert.sandbox.world.values import TOP_LEVEL, Get, Read, duration, milliseconds, read, source

_MAX_FILTER_REPLY = 20_000_000
_MAX_SYNC_REPLY = 10_000_000
_MAX_KEYS = 1000

_Bound = Annotated[str, Meta(min_length=1, max_length=100)] | int
_Limit = Annotated[int, Meta(ge=1, le=1000)]


class Times(Struct, omit_defaults=True):
    """The bounds of `lastUpdatedTime` in a request."""

    gte: _Bound | None = None
    gt: _Bound | None = None
    lte: _Bound | None = None
    lt: _Bound | None = None


class _Selected(Struct):
    source: dict[str, Any]
    properties: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(min_length=1, max_length=1000)
    ]


_Sources = Annotated[list[_Selected], Meta(min_length=1, max_length=10)]


class _Sort(Struct):
    property: list[str]
    direction: Literal["ascending", "descending"] = "ascending"


class _FilterBody(Struct, rename="camel"):
    last_updated_time: Times | None = None
    filter: dict[str, Any] | None = None
    sources: _Sources | None = None
    target_units: TargetUnits | None = None
    include_typing: bool = False
    limit: _Limit = 10
    sort: Annotated[list[_Sort], Meta(min_length=1, max_length=5)] | None = None


class _SyncBody(Struct, rename="camel"):
    filter: dict[str, Any] | None = None
    sources: _Sources | None = None
    cursor: Annotated[str, Meta(min_length=1, max_length=100_000)] | None = None
    initialize_cursor: Annotated[str, Meta(min_length=6, max_length=100)] | None = None
    target_units: TargetUnits | None = None
    include_typing: bool = False
    limit: _Limit = 10


_FILTER = msgspec.json.Decoder(_FilterBody)
_SYNC = msgspec.json.Decoder(_SyncBody)

T = TypeVar("T")

# A query on its way: each step is short, however much there is to read, and the last one gives the answer.
Steps = Generator[None, None, T]


class Shown(NamedTuple):
    """What a reply shows of one container: the names of properties, None for all, and how some are converted."""

    space: str
    external_id: str
    names: frozenset[str] | None
    conversions: dict[str, Convert]


# By the containers' numbers, as the rows have them.
Selection = dict[str, Shown]


def filter_records(
    store: Store, models: Models, stream: Stream, body: bytes, now: int
) -> Steps[dict[str, Any]]:
    """One page of the records that match, sorted, or in the order of their last change."""
    request = decode(body, _FILTER)
    lens = look(models, request.target_units)
    compiled = compile_filter(request.filter, lens)
    times = time_bounds(request.last_updated_time, stream, now)
    chosen = _selection(lens, request.sources)
    page = (
        _First(request.limit) if request.sort is None else _Best(request.limit, _orders(lens, request.sort))
    )
    out: dict[str, Any] = {}
    if request.include_typing:
        out["typing"] = _typing(lens, chosen, compiled)
    for found in matching(store, stream, compiled, times):
        page.take(found)
        if page.full:
            break
        yield
    items = [_record(row, chosen) for row in page.rows()]
    _refuse_long(items, _MAX_FILTER_REPLY)
    return {"items": items} | out


def sync_records(
    store: Store, models: Models, stream: Stream, body: bytes, now: int
) -> Steps[dict[str, Any]]:
    """The next page of changes. A tombstone has no values: only the filter's word on its key counts."""
    request = decode(body, _SYNC)
    lens = look(models, request.target_units)
    compiled = compile_filter(request.filter, lens)
    chosen = _selection(lens, request.sources)
    after, since = _start(request, stream, now)
    out: dict[str, Any] = {}
    if request.include_typing:
        out["typing"] = _typing(lens, chosen, compiled)
    items: list[dict[str, Any]] = []
    has_next = False
    for rows in _slices(store, stream, after):
        for row in rows:
            if row.updated < since:
                after = row.seq
                continue
            if len(items) == request.limit:
                has_next = True
                break
            after = row.seq
            one = read(row)
            if row.state == State.DELETED:
                if compiled.may_hold(one.space, one.external_id):
                    items.append(_head(one) | {"status": "deleted"})
            elif compiled.matches(one):
                status = "created" if row.state == State.CREATED else "updated"
                items.append(_record(one, chosen) | {"status": status})
        if has_next:
            break
        yield
    _refuse_long(items, _MAX_SYNC_REPLY)
    return {"items": items, "nextCursor": _cursor(stream, after, since), "hasNext": has_next} | out


def matching(
    store: Store, stream: Stream, compiled: Filter, times: dict[str, int]
) -> Iterator[Iterator[Read]]:
    """The records that match, slice by slice in the order of their last change; by key where the filter names keys."""
    keys = _keys(store, stream, compiled)
    slices = [store.rows_of(stream.id, keys)] if keys is not None else _slices(store, stream)
    since = max(times.get("gte", 0), times.get("gt", 0))
    matches: Predicate = compiled.matches
    within: Predicate = in_range(lambda row: row.updated, times) if times else lambda _: True
    for rows in slices:
        alive = (read(row) for row in rows if row.updated >= since and row.state != State.DELETED)
        yield (one for one in alive if within(one) and matches(one))


def _keys(store: Store, stream: Stream, compiled: Filter) -> list[str] | None:
    """All keys that could match, where the filter names them and they are not too many to be looked up at once."""
    names = compiled.external_ids
    if names is None:
        return None
    spaces = store.spaces_in(stream.id) if compiled.spaces is None else compiled.spaces
    if len(spaces) * len(names) > _MAX_KEYS:
        return None
    return [f"{space}.{name}" for space in spaces for name in names]


def _slices(store: Store, stream: Stream, after: int = 0) -> Iterator[list[Row]]:
    """All rows from a change on, in slices.

    Raises:
        Refusal: 404 when the stream is deleted between two slices.
    """
    for rows in store.slices(stream.id, after=after):
        yield rows
        if stream.gone:
            raise Refusal(404, f"The stream `{stream.external_id}` does not exist.")


def time_bounds(times: Times | None, stream: Stream, now: int) -> dict[str, int]:
    """The bounds of `lastUpdatedTime` in milliseconds; an immutable stream needs a lower one.

    Raises:
        Refusal: 400 for bounds that are missing, doubled, too far apart or no times.
    """
    where = "lastUpdatedTime"
    mutable = stream.template.mutable
    if times is None:
        if mutable:
            return {}
        raise at(where, "is required for immutable streams")
    bounds: dict[str, int] = {}
    for word in ("gte", "gt", "lte", "lt"):
        bound = getattr(times, word)
        if bound is not None:
            time = milliseconds(bound) if isinstance(bound, str) else bound
            if time is None:
                raise at(f"{where}.{word}", "expected a timestamp or milliseconds since 1970")
            bounds[word] = time
    check_bounds(bounds, where, lower=True)
    days = stream.template.interval_days
    if days is not None:
        lower = bounds.get("gte", bounds.get("gt", 0))
        upper = min(now, bounds.get("lte", bounds.get("lt", now)))
        if upper - lower > days * DAY_MS:
            raise at(where, f"the stream allows an interval of at most P{days}D")
    return bounds


# How to read each sort key, and whether it descends.
_Orders = Sequence[tuple[Get, bool]]


def _orders(lens: Lens, sort: Sequence[_Sort]) -> _Orders:
    orders = []
    for index, one in enumerate(sort):
        where = f"sort[{index}].property"
        found = source(lens, one.property, where, top=TOP_LEVEL)
        if found.type.list or found.type.type in ("json", "direct"):
            raise at(where, "only properties with a single value that has an order can be sorted on")
        orders.append((found.get, one.direction == "descending"))
    return orders


class _First:
    """A page in the order of the records' last change: it is full with the first that come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: list[Read] = []

    @property
    def full(self) -> bool:
        """Whether no later record can come into the page."""
        return len(self._rows) == self._limit

    def take(self, found: Iterator[Read]) -> None:
        """Take in what belongs on the page."""
        self._rows += islice(found, self._limit - len(self._rows))

    def rows(self) -> list[Read]:
        """The page."""
        return self._rows


class _Best:
    """A page in an order of values: missing ones come last, equal ones by their last change."""

    full = False  # any later record may come before all others

    def __init__(self, limit: int, orders: _Orders) -> None:
        self._limit = limit
        self._orders = orders
        self._kept: list[tuple[tuple[Any, ...], Read]] = []
        self._worst: tuple[Any, ...] | None = None

    def take(self, found: Iterator[Read]) -> None:
        """Take in what belongs on the page so far."""
        for row in found:
            key = (*(_SortKey(get(row), descending) for get, descending in self._orders), row.seq)
            if self._worst is None or key < self._worst:
                self._kept.append((key, row))
        if len(self._kept) > self._limit:
            self._kept.sort(key=itemgetter(0))
            del self._kept[self._limit :]
            self._worst = self._kept[-1][0]

    def rows(self) -> list[Read]:
        """The page."""
        return [row for _, row in sorted(self._kept, key=itemgetter(0))]


class _SortKey:
    """One value in an order, ascending or descending."""

    __slots__ = ("descending", "value")

    def __init__(self, value: Any, descending: bool) -> None:  # noqa: FBT001 - made per record and key
        self.value = value
        self.descending = descending

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SortKey) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: "_SortKey") -> bool:
        if self.value is None or other.value is None:
            return self.value is not None
        return bool(other.value < self.value) if self.descending else bool(self.value < other.value)


def _selection(lens: Lens, sources: Sequence[_Selected] | None) -> Selection:
    chosen: Selection = {}
    for index, one in enumerate(sources or ()):
        number = container_of(lens.models, one.source, f"sources[{index}].source")
        container = lens.models.by_id[number]
        properties = container.definition.properties
        every = "*" in one.properties
        for position, name in enumerate(one.properties):
            if name != "*" and name not in properties:
                raise at(
                    f"sources[{index}].properties[{position}]",
                    f"the container `{'.'.join(container.key)}` has no property `{name}`",
                )
        conversions = {
            name: convert
            for name, prop in properties.items()
            if (convert := lens.conversion((*container.key, name), prop.type)) is not None
        }
        names = None if every else frozenset(one.properties)
        chosen[number] = Shown(*container.key, names, conversions)
    return chosen


def _head(row: Read) -> dict[str, Any]:
    return {
        "space": row.space,
        "externalId": row.external_id,
        "createdTime": row.created,
        "lastUpdatedTime": row.updated,
    }


def _record(row: Read, chosen: Selection) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for number, (space, external_id, names, conversions) in chosen.items():
        values = row.body.get(number)
        if values is not None and names is not None:
            values = {name: value for name, value in values.items() if name in names}
        if values and conversions:
            values = {name: _convert(value, conversions.get(name)) for name, value in values.items()}
        if values:
            properties.setdefault(space, {})[external_id] = values
    return _head(row) | {"properties": properties}


def _convert(value: Any, convert: Convert | None) -> Any:
    if convert is None:
        return value
    return [convert(one) for one in value] if isinstance(value, list) else convert(value)


def _typing(lens: Lens, chosen: Selection, compiled: Filter) -> dict[str, Any]:
    wanted = dict.fromkeys(compiled.properties)
    for number, (space, external_id, names, _) in chosen.items():
        for name in lens.models.by_id[number].definition.properties:
            if names is None or name in names:
                wanted[space, external_id, name] = None
    return lens.typing(wanted)


def _refuse_long(items: list[dict[str, Any]], most: int) -> None:
    if len(orjson.dumps(items)) > most:
        raise Refusal(
            400, f"The reply would be longer than {most:,} bytes: ask for fewer records or properties."
        )


def _start(request: _SyncBody, stream: Stream, now: int) -> tuple[int, int]:
    """After which change, and since which time, the next page starts."""
    if request.cursor is not None:
        try:
            name, after, since = base64.urlsafe_b64decode(request.cursor.encode()).decode().split(":")
            if name == str(stream.id):
                return int(after), int(since)
        except (ValueError, binascii.Error):
            pass
        raise at("cursor", "is not a cursor of this stream")
    if request.initialize_cursor is None:
        raise Refusal(400, "Either `cursor` or `initializeCursor` is required.")
    span, dash, ago = request.initialize_cursor.partition("-")
    length = duration(span) if dash and ago == "ago" else None
    if length is None:
        raise at("initializeCursor", "expected a duration as in `2d-ago`")
    return 0, max(0, now - length)


def _cursor(stream: Stream, after: int, since: int) -> str:
    return base64.urlsafe_b64encode(f"{stream.id}:{after}:{since}".encode()).decode()

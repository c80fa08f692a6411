"""Aggregates: metrics, buckets and moving functions over the records that match a filter."""

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from cdf_upsert.sandbox.world.buckets import (
    FUNCTIONS,
    Bucket,
    Count,
    Extreme,
    Filters,
    Histogram,
    Level,
    Make,
    MakeLevel,
    Moving,
    NewBucket,
    Room,
    Total,
    Unique,
    each,
)
from cdf_upsert.sandbox.world.filters import compile_filter
from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.reading import Steps, Times, matching, time_bounds
from cdf_upsert.sandbox.world.refusal import at, decode
from cdf_upsert.sandbox.world.store import Store
from cdf_upsert.sandbox.world.streams import Stream
from cdf_upsert.sandbox.world.units import Lens, TargetUnits, look
from cdf_upsert.sandbox.world.values import (
    Get,
    Read,
    Source,
    duration,
    iso,
    milliseconds,
    month,
    month_start,
    source,
)

_MAX_PER_LEVEL = 5
_MAX_DEPTH = 5
_MAX_AGGREGATES = 16
_MAX_FILTERS = 10
_MAX_ALL_FILTERS = 30
_MAX_UNIQUE = 2000
_MAX_RATIO = 2**53  # beyond it a float does not tell neighbours apart
_RESERVED = frozenset({"_count", "_bucket_count"})
_NUMBERS = frozenset({"int32", "int64", "float32", "float64"})
_TIMES = frozenset({"timestamp", "date"})


class _Body(Struct, rename="camel"):
    aggregates: dict[str, Any]
    last_updated_time: Times | None = None
    filter: dict[str, Any] | None = None
    target_units: TargetUnits | None = None
    include_typing: bool = False


_BODY = msgspec.json.Decoder(_Body)


def aggregate(store: Store, models: Models, stream: Stream, body: bytes, now: int) -> Steps[dict[str, Any]]:
    """The aggregates of one request."""
    request = decode(body, _BODY)
    lens = look(models, request.target_units)
    compiled = compile_filter(request.filter, lens)
    times = time_bounds(request.last_updated_time, stream, now)
    compiler = _Compiler(lens)
    make = compiler.level(request.aggregates, "aggregates", 1, in_histogram=False)
    out: dict[str, Any] = {}
    if request.include_typing:
        out["typing"] = lens.typing([*compiled.properties, *compiler.properties])
    if (
        request.filter is None
        and not times
        and all(one == {"count": {}} for one in request.aggregates.values())
    ):
        # What people ask most is answered without reading every record.
        count = stream.visible_records
        return {"aggregates": {name: {"count": count} for name in request.aggregates}} | out
    level = make()
    for found in matching(store, stream, compiled, times):
        for row in found:
            level.add(row)
        yield
    return {"aggregates": level.result()} | out


class _Compiler:
    def __init__(self, lens: Lens) -> None:
        self._lens = lens
        self._count = 0
        self._filters = 0
        self._names: set[str] = set()
        self._room = Room()
        self.properties: list[tuple[str, str, str]] = []

    def level(self, definition: Any, where: str, depth: int, *, in_histogram: bool) -> MakeLevel:
        """What makes the aggregates of one level; moving functions are left to their histogram."""
        if not isinstance(definition, dict) or not 1 <= len(definition) <= _MAX_PER_LEVEL:
            raise at(where, f"expected an object of 1 to {_MAX_PER_LEVEL} aggregates")
        if depth > _MAX_DEPTH:
            raise at(where, f"aggregates are at most {_MAX_DEPTH} levels deep")
        makers: dict[str, Make] = {}
        for name, one in definition.items():
            self._check_name(name, where)
            place = f"{where}.{name}"
            if not isinstance(one, dict) or len(one) != 1:
                raise at(place, "expected an object with exactly one aggregate")
            word, content = next(iter(one.items()))
            if word == "movingFunction":
                if not in_histogram:
                    raise at(place, "`movingFunction` must stand inside a numberHistogram or timeHistogram")
                continue
            makers[name] = self._one(word, content, f"{place}.{word}", depth)
        return lambda: Level({name: make() for name, make in makers.items()})

    def _check_name(self, name: str, where: str) -> None:
        self._count += 1
        if self._count > _MAX_AGGREGATES:
            raise at(where, f"at most {_MAX_AGGREGATES} aggregates in a request")
        if not 1 <= len(name) <= 255 or name in _RESERVED or set(name) & set("[]>."):
            raise at(where, f"`{name[:60]}` is not a valid aggregate identifier")
        if name in self._names:
            raise at(where, f"the aggregate identifier `{name[:60]}` stands twice")
        self._names.add(name)

    def _one(self, word: str, content: dict[str, Any], where: str, depth: int) -> Make:
        match word:
            case "count":
                _only(content, where, {"property"})
                get = self._source(content, where).get if "property" in content else None
                return lambda: Count(get)
            case "min" | "max":
                _only(content, where, {"property"})
                reader = self._numeric(content, where, times=True, top=("createdTime", "lastUpdatedTime"))
                return lambda: Extreme(reader, word)
            case "sum" | "avg":
                _only(content, where, {"property"})
                reader = self._numeric(content, where)
                return lambda: Total(reader, word)
            case "uniqueValues":
                return self._unique(content, where, depth)
            case "numberHistogram":
                return self._number_histogram(content, where, depth)
            case "timeHistogram":
                return self._time_histogram(content, where, depth)
            case "filters":
                return self._filter_buckets(content, where, depth)
            case _:
                raise at(where, f"`{word[:60]}` is not an aggregate")

    def _source(self, content: dict[str, Any], where: str, top: tuple[str, ...] = ()) -> Source:
        if "property" not in content:
            raise at(where, "`property` is required")
        found = source(self._lens, content["property"], f"{where}.property", top=top)
        if found.property is not None:
            self.properties.append(found.property)
        return found

    def _numeric(
        self, content: dict[str, Any], where: str, *, times: bool = False, top: tuple[str, ...] = ()
    ) -> Get:
        found = self._source(content, where, top)
        if found.type.type in _NUMBERS or (times and found.type.type == "timestamp"):
            return found.get
        if times and found.type.type == "date":
            return _day_milliseconds(found.get)
        raise at(where, f"is not supported for {found.type.type}")

    def _inner(self, content: dict[str, Any], where: str, depth: int, *, histogram: bool) -> NewBucket:
        if "aggregates" not in content:
            return lambda: Bucket(None, self._room)
        make = self.level(content["aggregates"], f"{where}.aggregates", depth + 1, in_histogram=histogram)
        return lambda: Bucket(make, self._room)

    def _unique(self, content: dict[str, Any], where: str, depth: int) -> Make:
        _only(content, where, {"property", "aggregates", "size"})
        found = self._source(content, where, ("space",))
        if found.type.type in ("json", "direct"):
            raise at(where, f"is not supported for {found.type.type}")
        size: Any = content.get("size", 10)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _MAX_UNIQUE:
            raise at(f"{where}.size", f"expected a number from 1 to {_MAX_UNIQUE}")
        new = self._inner(content, where, depth, histogram=False)
        get = found.get
        if found.type.type == "timestamp":
            return lambda: Unique(
                lambda row: [iso(value) for value in dict.fromkeys(each(get(row)))], new, size
            )
        return lambda: Unique(lambda row: dict.fromkeys(each(get(row))), new, size)

    def _number_histogram(self, content: dict[str, Any], where: str, depth: int) -> Make:
        _only(content, where, {"property", "interval", "hardBounds", "aggregates"})
        get = self._numeric(content, where)
        interval: Any = content.get("interval")
        if not _is_number(interval) or interval <= 0:
            raise at(f"{where}.interval", "expected a number above 0")
        least, most = _hard_bounds(content, where, _is_number, "expected a number")
        new, moving = self._inner(content, where, depth, histogram=True), self._moving(content, where)

        def keys(row: Read) -> Iterable[int]:
            ratios = [value / interval for value in each(get(row))]
            if any(abs(ratio) > _MAX_RATIO for ratio in ratios):
                raise at(f"{where}.interval", "is too narrow for the values that there are")
            numbers = dict.fromkeys(math.floor(ratio) for ratio in ratios)
            return (
                number
                for number in numbers
                if (least is None or number * interval >= least)
                and (most is None or number * interval <= most)
            )

        return lambda: Histogram(
            keys,
            new,
            word="numberHistogramBuckets",
            step=lambda key: key + 1,
            spell=lambda key: key * interval,
            moving=moving,
        )

    def _time_histogram(self, content: dict[str, Any], where: str, depth: int) -> Make:
        _only(content, where, {"property", "calendarInterval", "fixedInterval", "hardBounds", "aggregates"})
        found = self._source(content, where, ("createdTime", "lastUpdatedTime"))
        if found.type.type not in _TIMES:
            raise at(where, f"is not supported for {found.type.type}")
        get = found.get if found.type.type == "timestamp" else _day_milliseconds(found.get)
        floor, step = _intervals(content, where)
        least, most = _hard_bounds(
            content, where, _is_time, "expected an ISO 8601 date-time with a time zone"
        )
        lower = milliseconds(least) if least is not None else None
        upper = milliseconds(most) if most is not None else None
        new, moving = self._inner(content, where, depth, histogram=True), self._moving(content, where)

        def keys(row: Read) -> Iterable[int]:
            starts = dict.fromkeys(floor(value) for value in each(get(row)))
            return (
                start
                for start in starts
                if (lower is None or start >= lower) and (upper is None or start < upper)
            )

        return lambda: Histogram(keys, new, word="timeHistogramBuckets", step=step, spell=iso, moving=moving)

    def _moving(self, content: dict[str, Any], where: str) -> dict[str, Moving]:
        found: dict[str, Moving] = {}
        for name, one in content.get("aggregates", {}).items():
            if "movingFunction" not in one:
                continue
            place = f"{where}.aggregates.{name}.movingFunction"
            inner = one["movingFunction"]
            _only(inner, place, {"bucketsPath", "window", "function"})
            path, function = inner.get("bucketsPath"), inner.get("function")
            window: Any = inner.get("window")
            if not isinstance(path, str) or not 1 <= len(path) <= 1280:
                raise at(f"{place}.bucketsPath", "expected a text of 1 to 1280 characters")
            if not isinstance(window, int) or isinstance(window, bool) or window < 1:
                raise at(f"{place}.window", "expected a number from 1 on")
            if not isinstance(function, str) or function not in FUNCTIONS:
                raise at(f"{place}.function", f"expected one of {', '.join(FUNCTIONS)}")
            found[name] = Moving(path, window, function, f"{place}.bucketsPath", self._names)
        return found

    def _filter_buckets(self, content: dict[str, Any], where: str, depth: int) -> Make:
        _only(content, where, {"filters", "aggregates"})
        listed = content.get("filters")
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MAX_FILTERS:
            raise at(f"{where}.filters", f"expected a list of 1 to {_MAX_FILTERS} filters")
        self._filters += len(listed)
        if self._filters > _MAX_ALL_FILTERS:
            raise at(where, f"at most {_MAX_ALL_FILTERS} filter buckets in a request")
        predicates = []
        for index, one in enumerate(listed):
            if not isinstance(one, dict):
                raise at(f"{where}.filters[{index}]", "expected an object")
            compiled = compile_filter(one, self._lens, f"{where}.filters[{index}]")
            self.properties.extend(compiled.properties)
            predicates.append(compiled.matches)
        new = self._inner(content, where, depth, histogram=False)
        return lambda: Filters(predicates, new)


def _only(content: Any, where: str, fields: set[str]) -> None:
    if not isinstance(content, dict):
        raise at(where, "expected an object")
    unknown = content.keys() - fields
    if unknown:
        raise at(where, f"unknown field `{min(unknown)[:60]}`")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and "T" in value and milliseconds(value) is not None


def _hard_bounds(
    content: dict[str, Any], where: str, fits: Callable[[Any], bool], fault: str
) -> tuple[Any, Any]:
    bounds = content.get("hardBounds", {})
    _only(bounds, f"{where}.hardBounds", {"min", "max"})
    if "hardBounds" in content and not bounds:
        raise at(f"{where}.hardBounds", "one or both of `min` and `max` must be given")
    for word, bound in bounds.items():
        if not fits(bound):
            raise at(f"{where}.hardBounds.{word}", fault)
    return bounds.get("min"), bounds.get("max")


def _day_milliseconds(get: Get) -> Get:
    def inner(row: Read) -> Any:
        value = get(row)
        if isinstance(value, list):
            return [milliseconds(one) for one in value]
        return None if value is None else milliseconds(value)

    return inner


_FIXED = {"1s": 1000, "1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
_MONTHS = {"1M": 1, "1q": 3, "1y": 12}
_WEEK = 604_800_000
_MONDAY = 4 * 86_400_000  # 1970-01-05, the first Monday of the epoch


def _intervals(content: dict[str, Any], where: str) -> tuple[Callable[[int], int], Callable[[int], int]]:
    """How a time is brought to the start of its bucket, and how one start leads to the next."""
    calendar, fixed = content.get("calendarInterval"), content.get("fixedInterval")
    if (calendar is None) == (fixed is None):
        raise at(where, "exactly one of `calendarInterval` and `fixedInterval` is required")
    if isinstance(calendar, str) and calendar in _MONTHS:
        months = _MONTHS[calendar]
        return (
            lambda time: month_start(month(time) // months * months),
            lambda start: month_start(month(start) + months),
        )
    offset = 0
    if calendar is not None:
        width: int | None = (
            _WEEK if calendar == "1w" else _FIXED.get(calendar) if isinstance(calendar, str) else None
        )
        offset = _MONDAY if calendar == "1w" else 0
        if width is None:
            raise at(f"{where}.calendarInterval", "expected one of 1s, 1m, 1h, 1d, 1w, 1M, 1q, 1y")
    else:
        width = duration(fixed) if isinstance(fixed, str) else None
        if width is None:
            raise at(f"{where}.fixedInterval", "expected a duration as in `3m`, `400h`, `25d`")
    span = width
    return lambda time: (time - offset) // span * span + offset, lambda time: time + span

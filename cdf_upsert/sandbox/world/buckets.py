"""Aggregates under way: each takes records in one by one and says at the end what has come of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Container as Known
from typing import Any

from cdf_upsert.sandbox.world.filters import Predicate
from cdf_upsert.sandbox.world.refusal import Refusal, at
from cdf_upsert.sandbox.world.values import Get, Read

_MAX_BUCKETS = 65_536


class Aggregate(ABC):
    """One aggregate under way."""

    @abstractmethod
    def add(self, row: Read) -> None:
        """Take one record in."""

    @abstractmethod
    def result(self) -> dict[str, Any] | None:
        """What has come of it; None for a number that there is not, such as the least of nothing."""


Make = Callable[[], Aggregate]


class Level:
    """The aggregates of one level, by name."""

    __slots__ = ("_parts",)

    def __init__(self, parts: dict[str, Aggregate]) -> None:
        self._parts = parts

    def add(self, row: Read) -> None:
        """Take one record in."""
        for part in self._parts.values():
            part.add(row)

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        results = {name: part.result() for name, part in self._parts.items()}
        return {name: result for name, result in results.items() if result is not None}


MakeLevel = Callable[[], Level]
NewBucket = Callable[[], "Bucket"]


class Count(Aggregate):
    """How many records there are, or how many that have a value."""

    def __init__(self, get: Get | None) -> None:
        self._get = get
        self._count = 0

    def add(self, row: Read) -> None:
        """Take one record in."""
        if self._get is None or self._get(row) is not None:
            self._count += 1

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        return {"count": self._count}


class Extreme(Aggregate):
    """The least or the greatest value."""

    def __init__(self, get: Get, word: str) -> None:
        self._get = get
        self._word = word
        self._pick: Callable[[float, float], float] = min if word == "min" else max
        self._best: float | None = None

    def add(self, row: Read) -> None:
        """Take one record in."""
        for value in each(self._get(row)):
            self._best = value if self._best is None else self._pick(self._best, value)

    def result(self) -> dict[str, Any] | None:
        """What has come of it; the schema knows no null, so there is no result of nothing."""
        return None if self._best is None else {self._word: self._best}


class Total(Aggregate):
    """The sum or the average."""

    def __init__(self, get: Get, word: str) -> None:
        self._get = get
        self._word = word
        self._values = 0
        self._exact = 0
        self._parts: list[float] = []

    def add(self, row: Read) -> None:
        """Take one record in."""
        for value in each(self._get(row)):
            self._values += 1
            if isinstance(value, int):
                self._exact += value
            else:
                _add_exactly(self._parts, value)
                if not math.isfinite(self._parts[-1]):
                    raise Refusal(400, f"The {self._word} of the values is out of range.")

    def result(self) -> dict[str, Any] | None:
        """What has come of it."""
        total: float = self._exact + math.fsum(self._parts) if self._parts else self._exact
        if self._word == "sum":
            # JSON readers take whole numbers of 64 bits at most.
            return {"sum": total if abs(total) < 2**63 else float(total)}
        return {"avg": total / self._values} if self._values else None


def _add_exactly(parts: list[float], value: float) -> None:
    """Shewchuk's partial sums, as in `math.fsum`, kept between records: their order does not matter."""
    kept = 0
    for part in parts:
        small, great = sorted((value, part), key=abs)
        value = great + small
        rest = small - (value - great)
        if rest:
            parts[kept] = rest
            kept += 1
    parts[kept:] = [value]


class Room:
    """How many more buckets a reply may show."""

    def __init__(self) -> None:
        self._left = _MAX_BUCKETS

    def take(self) -> None:
        """Show one more.

        Raises:
            Refusal: 400 when there are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise Refusal(
                400, f"A reply has at most {_MAX_BUCKETS:,} buckets: widen an interval or ask for fewer."
            )


class Bucket:
    """The records of one bucket, counted and handed to the aggregates within."""

    __slots__ = ("_room", "count", "level")

    def __init__(self, make: MakeLevel | None, room: Room) -> None:
        self._room = room
        self.count = 0
        self.level = make() if make is not None else None

    def add(self, row: Read) -> None:
        """Take one record in."""
        self.count += 1
        if self.level is not None:
            self.level.add(row)

    def result(self, **head: Any) -> dict[str, Any]:
        """What has come of it, with what heads the bucket."""
        self._room.take()
        out: dict[str, Any] = {"count": self.count, **head}
        if self.level is not None:
            out["aggregates"] = self.level.result()
        return out


class Buckets(Aggregate):
    """Records in buckets by a key of theirs."""

    def __init__(self, keys: Callable[[Read], Iterable[Any]], new: NewBucket) -> None:
        self._keys = keys
        self._new = new
        self.buckets: dict[Any, Bucket] = {}

    def add(self, row: Read) -> None:
        """Take one record in."""
        for key in self._keys(row):
            bucket = self.buckets.get(key)
            if bucket is None:
                bucket = self.buckets[key] = self._new()
            bucket.add(row)


class Unique(Buckets):
    """One bucket per value; the fullest first, and only so many."""

    def __init__(self, keys: Callable[[Read], Iterable[Any]], new: NewBucket, size: int) -> None:
        super().__init__(keys, new)
        self._size = size

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        order = sorted(self.buckets.items(), key=lambda entry: (-entry[1].count, str(entry[0])))
        return {"uniqueValueBuckets": [bucket.result(value=value) for value, bucket in order[: self._size]]}


class Histogram(Buckets):
    """Buckets of equal width, in order, with the empty ones between; then the moving functions over them."""

    def __init__(
        self,
        keys: Callable[[Read], Iterable[Any]],
        new: NewBucket,
        *,
        word: str,
        step: Callable[[Any], Any],
        spell: Callable[[Any], Any],
        moving: "dict[str, Moving]",
    ) -> None:
        super().__init__(keys, new)
        self._word = word
        self._step = step
        self._spell = spell
        self._moving = moving

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        out: list[dict[str, Any]] = []
        if self.buckets:
            key, last = min(self.buckets), max(self.buckets)
            while key <= last:
                bucket = self.buckets.get(key) or self._new()
                out.append(bucket.result(intervalStart=self._spell(key)))
                key = self._step(key)
        for name, moving in self._moving.items():
            for bucket_out, value in zip(out, moving.over(out), strict=True):
                bucket_out.setdefault("aggregates", {})[name] = {"fnValue": value}
        return {self._word: out}


class Filters(Aggregate):
    """One bucket per filter; a record may fall into several."""

    def __init__(self, predicates: Sequence[Predicate], new: NewBucket) -> None:
        self._parts = [(predicate, new()) for predicate in predicates]

    def add(self, row: Read) -> None:
        """Take one record in."""
        for predicate, bucket in self._parts:
            if predicate(row):
                bucket.add(row)

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        return {"filterBuckets": [bucket.result() for _, bucket in self._parts]}


class Moving:
    """A function over a window of buckets that ends with each bucket of a histogram."""

    def __init__(self, path: str, window: int, function: str, where: str, known: Known[str]) -> None:
        """`known` are the names of all aggregates of the request, when it is asked."""
        self._path = path
        self._window = window
        self._function = FUNCTIONS[function]
        self._where = where
        self._known = known

    def over(self, buckets: Sequence[dict[str, Any]]) -> list[float]:
        """The function's value for each bucket: over it and those before it, as many as the window holds."""
        values = [self._follow(bucket) for bucket in buckets]
        return [self._function(values[max(0, end - self._window) : end]) for end in range(1, len(values) + 1)]

    def _follow(self, bucket: dict[str, Any]) -> float:
        """The number at a path `name[key]>name>_count` in a bucket's result; what is missing counts as 0."""
        here: dict[str, Any] = bucket
        for step in self._path.split(">"):
            if step == "_count":
                return float(here["count"])
            name, bracket, key = step.partition("[")
            if name not in self._known:
                raise at(self._where, f"`{name[:60]}` is not an aggregate of this request")
            found = here.get("aggregates", {}).get(name)
            if found is not None and bracket:
                found = _pick(found, key.removesuffix("]").strip("\"'"))
            if found is None:
                return 0
            here = found
        value = next((here[word] for word in _RESULTS if word in here), None)
        if value is None:
            raise at(self._where, f"`{self._path[:60]}` does not lead to a number")
        return float(value)


def _pick(result: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The bucket of a key in a result with buckets."""
    buckets: list[dict[str, Any]] = next((result[word] for word in _LISTS if word in result), [])
    return next((one for one in buckets if str(one.get("value", one.get("intervalStart"))) == key), None)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if len(values) > 1 else 0


def _linear(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0
    weights = range(1, len(values) + 1)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


# The averages of a single bucket are 0, as the API's reference has it: they need two.
FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "MovingFunctions.max": max,
    "MovingFunctions.min": min,
    "MovingFunctions.sum": sum,
    "MovingFunctions.unweightedAvg": _average,
    "MovingFunctions.linearWeightedAvg": _linear,
}
_RESULTS = ("count", "min", "max", "avg", "sum", "fnValue")
_LISTS = ("uniqueValueBuckets", "numberHistogramBuckets", "timeHistogramBuckets", "filterBuckets")


def each(value: Any) -> Iterable[Any]:
    """The values of a property, be it a list, a single value or missing."""
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)

"""Aggregates under way: each takes records in one by one and says at the end what has come of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cdf_upsert.sandbox.world.filters import Predicate
from cdf_upsert.sandbox.world.refusal import Refusal, at
from cdf_upsert.sandbox.world.values import Get, Read

_MAX_BUCKETS = 10_000


class Aggregate(ABC):
    """One aggregate under way."""

    @abstractmethod
    def add(self, row: Read) -> None:
        """Take one record in."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """What has come of it."""


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
        return {name: part.result() for name, part in self._parts.items()}


MakeLevel = Callable[[], Level]


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
    """The least or the greatest; of nothing at all it is 0, for the schema knows no null."""

    def __init__(self, get: Get, word: str) -> None:
        self._get = get
        self._word = word
        self._pick: Callable[[float, float], float] = min if word == "min" else max
        self._best: float | None = None

    def add(self, row: Read) -> None:
        """Take one record in."""
        for value in each(self._get(row)):
            self._best = value if self._best is None else self._pick(self._best, value)

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        return {self._word: self._best or 0}


class Total(Aggregate):
    """The sum or the average; of nothing at all it is 0."""

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

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        total: float = self._exact + math.fsum(self._parts) if self._parts else self._exact
        if self._word == "sum":
            return {"sum": total}
        return {"avg": total / self._values if self._values else 0}


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


class Bucket:
    """The records of one bucket, counted and handed to the aggregates within."""

    __slots__ = ("count", "level")

    def __init__(self, make: MakeLevel | None) -> None:
        self.count = 0
        self.level = make() if make is not None else None

    def add(self, row: Read) -> None:
        """Take one record in."""
        self.count += 1
        if self.level is not None:
            self.level.add(row)

    def result(self, **head: Any) -> dict[str, Any]:
        """What has come of it, with what heads the bucket."""
        out: dict[str, Any] = {"count": self.count, **head}
        if self.level is not None:
            out["aggregates"] = self.level.result()
        return out


class Buckets(Aggregate):
    """Records in buckets by a key of theirs."""

    def __init__(self, keys: Callable[[Read], Iterable[Any]], make: MakeLevel | None) -> None:
        self._keys = keys
        self._make = make
        self.buckets: dict[Any, Bucket] = {}

    def add(self, row: Read) -> None:
        """Take one record in."""
        for key in self._keys(row):
            bucket = self.buckets.get(key)
            if bucket is None:
                bucket = self.buckets[key] = Bucket(self._make)
            bucket.add(row)


class Unique(Buckets):
    """One bucket per value; the fullest first, and only so many."""

    def __init__(self, keys: Callable[[Read], Iterable[Any]], make: MakeLevel | None, size: int) -> None:
        super().__init__(keys, make)
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
        make: MakeLevel | None,
        *,
        word: str,
        step: Callable[[Any], Any],
        spell: Callable[[Any], Any],
        moving: "dict[str, Moving]",
    ) -> None:
        super().__init__(keys, make)
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
                if len(out) == _MAX_BUCKETS:
                    raise Refusal(
                        400, f"A histogram has at most {_MAX_BUCKETS:,} buckets: widen its interval."
                    )
                bucket = self.buckets.get(key) or Bucket(self._make)
                out.append(bucket.result(intervalStart=self._spell(key)))
                key = self._step(key)
        for name, moving in self._moving.items():
            for bucket_out, value in zip(out, moving.over(out), strict=True):
                bucket_out.setdefault("aggregates", {})[name] = {"fnValue": value}
        return {self._word: out}


class Filters(Aggregate):
    """One bucket per filter; a record may fall into several."""

    def __init__(self, predicates: Sequence[Predicate], make: MakeLevel | None) -> None:
        self._parts = [(predicate, Bucket(make)) for predicate in predicates]

    def add(self, row: Read) -> None:
        """Take one record in."""
        for predicate, bucket in self._parts:
            if predicate(row):
                bucket.add(row)

    def result(self) -> dict[str, Any]:
        """What has come of it."""
        return {"filterBuckets": [bucket.result() for _, bucket in self._parts]}


class Moving:
    """A function of the buckets before each bucket of a histogram."""

    def __init__(self, path: str, window: int, function: str, where: str) -> None:
        self._path = path
        self._window = window
        self._function = FUNCTIONS[function]
        self._where = where

    def over(self, buckets: Sequence[dict[str, Any]]) -> list[float]:
        """The function's value for each bucket: over up to `window` buckets before it, of nothing it is 0."""
        values = [_follow(bucket, self._path, self._where) for bucket in buckets]
        return [self._function(values[max(0, index - self._window) : index]) for index in range(len(values))]


def _linear(values: Sequence[float]) -> float:
    weights = range(1, len(values) + 1)
    return (
        sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
        if values
        else 0
    )


FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "MovingFunctions.max": lambda values: max(values, default=0),
    "MovingFunctions.min": lambda values: min(values, default=0),
    "MovingFunctions.sum": sum,
    "MovingFunctions.unweightedAvg": lambda values: sum(values) / len(values) if values else 0,
    "MovingFunctions.linearWeightedAvg": _linear,
}
_RESULTS = ("count", "min", "max", "avg", "sum", "fnValue")
_LISTS = ("uniqueValueBuckets", "numberHistogramBuckets", "timeHistogramBuckets", "filterBuckets")


def _follow(bucket: dict[str, Any], path: str, where: str) -> float:
    """The number at a path `name[key]>name>_count` in a bucket's result; a missing bucket counts as 0."""
    here: dict[str, Any] | None = bucket
    for step in path.split(">"):
        if here is None:
            return 0
        if step == "_count":
            return float(here["count"])
        name, bracket, key = step.partition("[")
        found = here.get("aggregates", {}).get(name)
        if found is None:
            raise at(where, f"`{path}` leads nowhere")
        if bracket:
            listed = next((found[word] for word in _LISTS if word in found), ())
            wanted = key.removesuffix("]").strip("\"'")
            here = next(
                (one for one in listed if str(one.get("value", one.get("intervalStart"))) == wanted), None
            )
        else:
            here = found
    if here is None:
        return 0
    value = next((here[word] for word in _RESULTS if word in here), None)
    if value is None:
        raise at(where, f"`{path}` does not lead to a number")
    return float(value)


def each(value: Any) -> Iterable[Any]:
    """The values of a property, be it a list, a single value or missing."""
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)

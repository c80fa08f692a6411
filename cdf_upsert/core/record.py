"""What a record is, alone and in columns, and what can become of it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import chain
from typing import overload

from msgspec import Struct

from cdf_upsert.core.framing import Place

Key = tuple[str, str]
"""(space, externalId)."""

Span = tuple[int, int]
"""Ordinals `[first, end)`."""


class Record(Struct, frozen=True, gc=False):
    """One record on its way: the bytes to send, and where they stood.

    `ordinal` counts the records of the whole load from 0, in input order; of two versions of a key, the one
    with the higher ordinal is the newer. `number` and `line` count from 1 in the input at `path`.
    """

    text: bytes
    key: Key
    ordinal: int
    path: str
    number: int
    line: int | None
    offset: int

    @property
    def place(self) -> Place:
        """Where the record stands."""
        return Place(self.path, self.number, self.line, self.offset, len(self.text))


class Origin(Struct, frozen=True):
    """Where consecutive records of one input stand, in columns; the columns are as in `Record`."""

    path: str
    numbers: Sequence[int]
    lines: Sequence[int | None]
    offsets: Sequence[int]


class Run(Struct, frozen=True, gc=False):
    """Some of the records of a `Records`, from `start` up to where the next run starts.

    The first of them has `ordinal` and stands at `index` of `origin`; the others follow it in both.
    """

    start: int
    ordinal: int
    origin: Origin
    index: int

    def at(self, index: int, start: int) -> "Run":
        """The same run from the record at `index` on, for a `Records` in which that stands at `start`."""
        ahead = index - self.start
        return Run(start, self.ordinal + ahead, self.origin, self.index + ahead)


class Records(Sequence[Record]):
    """Records in columns. A good record goes by without an object of its own: that is made when it is looked at."""

    __slots__ = ("keys", "runs", "texts")

    def __init__(self, texts: list[bytes], keys: list[Key], runs: list[Run]) -> None:
        """Put columns together; the first of `runs` starts at 0, and there is none when there are no records."""
        self.texts = texts
        self.keys = keys
        self.runs = runs

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Records":
        """The same records in columns."""
        if isinstance(records, Records):
            return records
        return cls(
            [one.text for one in records],
            [one.key for one in records],
            [
                Run(at, one.ordinal, Origin(one.path, [one.number], [one.line], [one.offset]), 0)
                for at, one in enumerate(records)
            ],
        )

    @classmethod
    def joined(cls, parts: Sequence["Records"]) -> "Records":
        """The records of all `parts`, one behind the other."""
        if len(parts) == 1:
            return parts[0]
        runs: list[Run] = []
        start = 0
        for part in parts:
            runs += [run.at(run.start, start + run.start) for run in part.runs]
            start += len(part)
        texts = list(chain.from_iterable([part.texts for part in parts]))
        return cls(texts, list(chain.from_iterable([part.keys for part in parts])), runs)

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, int):
            at = range(len(self.texts))[index]
            return self._record(at, self._run_of(at))
        start, stop, step = index.indices(len(self.texts))
        if step != 1:
            return self.take(range(start, stop, step))
        if start >= stop:
            return Records([], [], [])
        runs = [self._run_of(start).at(start, 0)]
        runs += [run.at(run.start, run.start - start) for run in self.runs if start < run.start < stop]
        return Records(self.texts[start:stop], self.keys[start:stop], runs)

    def __iter__(self) -> Iterator[Record]:
        for run, stop in self._runs_to():
            for at in range(run.start, stop):
                yield self._record(at, run)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # As of every sequence that is compared by what it holds.

    def take(self, indexes: Iterable[int]) -> "Records":
        """The records at these places, in this order."""
        places = list(indexes)
        runs: list[Run] = []
        after = end = 0  # The record that the last run goes on with, and where it ends.
        for start, at in enumerate(places):
            if at != after or at >= end:
                which = bisect_right(self.runs, at, key=_start)
                runs.append(self.runs[which - 1].at(at, start))
                end = self.runs[which].start if which < len(self.runs) else len(self.texts)
            after = at + 1
        return Records([self.texts[at] for at in places], [self.keys[at] for at in places], runs)

    @property
    def spans(self) -> list[Span]:
        """Their ordinals, in their order."""
        return [(run.ordinal, run.ordinal + stop - run.start) for run, stop in self._runs_to()]

    def _runs_to(self) -> Iterator[tuple[Run, int]]:
        stops = [run.start for run in self.runs[1:]]
        return zip(self.runs, [*stops, len(self.texts)] if self.runs else (), strict=True)

    def _run_of(self, at: int) -> Run:
        return self.runs[bisect_right(self.runs, at, key=_start) - 1]

    def _record(self, at: int, run: Run) -> Record:
        ahead = at - run.start
        origin, index = run.origin, run.index + ahead
        return Record(
            self.texts[at],
            self.keys[at],
            run.ordinal + ahead,
            origin.path,
            origin.numbers[index],
            origin.lines[index],
            origin.offsets[index],
        )


def _start(run: Run) -> int:
    return run.start


def keys_of(records: Sequence[Record]) -> list[Key]:
    """The keys of `records`, in their order."""
    return records.keys if isinstance(records, Records) else [record.key for record in records]


def texts_of(records: Sequence[Record]) -> list[bytes]:
    """The texts of `records`, in their order."""
    return records.texts if isinstance(records, Records) else [record.text for record in records]


def picked(records: Sequence[Record], indexes: Iterable[int]) -> Sequence[Record]:
    """The records at these places, in this order."""
    return records.take(indexes) if isinstance(records, Records) else [records[at] for at in indexes]


class FailureClass(StrEnum):
    """Why a record failed; the words of the failed file."""

    UNREADABLE = "unreadable"
    INVALID = "invalid"
    OVERSIZE = "oversize"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


class Failure(Struct, frozen=True):
    """Why one record failed. `status`, `request_id` and `attempts` speak of the last try, if there was one.

    `detail` is for who asks for it on the screen: it may hold values, which no file takes over.
    """

    kind: FailureClass
    message: str
    status: int | None = None
    request_id: str | None = None
    attempts: int = 0
    detail: str = ""


class Failed(Struct, frozen=True):
    """The settlement of one record that failed. `text` is None when the bytes were too many to keep."""

    ordinal: int
    place: Place
    failure: Failure
    text: bytes | None
    key: Key | None = None
    superseded_by: Place | None = None

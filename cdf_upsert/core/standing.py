"""How a load stands: what the journal is told while a run goes on, and what it tells the next run.

All records of a load are numbered from 0 in input order, over all its inputs: a record's ordinal.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from cdf_upsert.core.framing import Position
from cdf_upsert.core.record import Failed, Key, Record


class Checkpoint(Struct, frozen=True):
    """A place between two records: `ordinal` is the next record's, `position` how far input number `index` is read."""

    ordinal: int = 0
    index: int = 0
    position: Position = field(default_factory=Position)


class Settlement(Struct, frozen=True):
    """The final outcomes of some records, and what remains unsettled of the batch that they were sent in.

    `closed` is the number of a batch that was under way; `opened` are the batches that its unsettled records are
    in now, by number, so that at any moment the journal knows every record that may have landed.
    """

    accepted: Sequence[Record] = ()
    superseded: Sequence[Record] = ()
    failed: Sequence[Failed] = ()
    skipped: Sequence[int] = ()
    closed: int | None = None
    opened: Sequence[tuple[int, Sequence[Record]]] = ()


class Again(Struct, frozen=True):
    """A record that failed in an earlier run and is to be tried again: its line of the failed file."""

    ordinal: int
    line: bytes


class Ranges(Struct, frozen=True):
    """A set of ordinals as ranges `[first, end)` in ascending order that neither touch nor overlap."""

    spans: Sequence[tuple[int, int]] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> "Ranges":
        """The union of `spans`, in any order."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted(spans):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            elif first < end:
                merged.append((first, end))
        return cls(merged)

    def __len__(self) -> int:
        return sum(end - first for first, end in self.spans)

    def __iter__(self) -> Iterator[int]:
        for first, end in self.spans:
            yield from range(first, end)

    def missing_from(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of `[first, end)` that are not in the set."""
        gaps: list[tuple[int, int]] = []
        begin = bisect_right(self.spans, first, key=lambda span: span[1])
        for at in range(begin, len(self.spans)):
            known_first, known_end = self.spans[at]
            if known_first >= end:
                break
            if known_first > first:
                gaps.append((first, known_first))
            first = max(first, known_end)
        if first < end:
            gaps.append((first, end))
        return gaps


class Standing(Struct, frozen=True):
    """Where the last run of a load stood; the default is a new load.

    Reading goes on at `start`; records in `settled` are stepped over. `already_accepted` counts the records
    that earlier runs have accepted or superseded, `again` how many failed ones this run tries first, and
    `superseded` the failed ones of which a newer version was accepted later: this run does not try them, and
    settles them so.
    """

    run: int = 1
    start: Checkpoint = Checkpoint()
    settled: Ranges = Ranges()
    in_doubt: Mapping[Key, int] = field(default_factory=dict)
    already_accepted: int = 0
    again: int = 0
    superseded: int = 0

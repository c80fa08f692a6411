"""What the journal writes down, and how a load stands after it: facts, and the state that they add up to.

Sent       a batch is about to go; its keys may have landed from now on
Settled    records have their outcome; a batch is closed, others are opened in its place
Moved      everything before a checkpoint is settled: a later run starts there
Counted    the inputs were read to their end
Heard      the bytes of an input that can be read only once, up to some length or to its end
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import assert_never

import msgspec
from msgspec import Struct, field

from cdf_upsert.core.record import Key, Record, Records, Span
from cdf_upsert.core.standing import Checkpoint, Ranges


class Sent(Struct, frozen=True, tag="sent", gc=False):
    """Batch number `batch` of a run, which holds the ordinals in `spans`.

    `overtaking` are those of its records, as (space, external id, ordinal), of which an older version may be
    unsettled: when the run is cut off, that version must not land after them.
    """

    batch: int
    spans: Sequence[Span]
    overtaking: Sequence[tuple[str, str, int]]

    @property
    def count(self) -> int:
        """How many records the batch holds."""
        return sum(end - first for first, end in self.spans)

    def part(self, batch: int, records: Sequence[Record]) -> "Sent":
        """The fact that some of its records are in another batch now."""
        members = {record.ordinal for record in records} if self.overtaking else set()
        return Sent(batch, spans_in(records), [one for one in self.overtaking if one[2] in members])


class Settled(Struct, frozen=True, tag="settled", gc=False):
    """The ordinals in `spans` are settled; the counts say how those that did not fail were."""

    spans: Sequence[Span]
    accepted: int
    superseded: int
    closed: int | None
    opened: Sequence[Sent]


class Moved(Struct, frozen=True, tag="moved", gc=False):
    """Everything before the checkpoint is settled."""

    checkpoint: Checkpoint


class Counted(Struct, frozen=True, tag="counted", gc=False):
    """The load has `total` records."""

    total: int


class Heard(Struct, frozen=True, tag="heard", gc=False):
    """The first `length` bytes of input number `index` have the checksum `check`; `ended`: it has no more of them."""

    index: int
    length: int
    check: int
    ended: bool = False


Fact = Sent | Settled | Moved | Counted | Heard


class OpenBatch(Struct, frozen=True, gc=False):
    """A batch that was sent in run `run` and not closed."""

    run: int
    sent: Sent


class Snapshot(Struct, frozen=True):
    """All of a state that has to last."""

    checkpoint: Checkpoint = Checkpoint()
    spans: Sequence[Span] = ()
    accepted: int = 0
    superseded: int = 0
    total: int | None = None
    open: Sequence[OpenBatch] = ()
    heard: Sequence[Heard] = ()


class Spans:
    """A growing set of ordinals, as spans in ascending order that neither touch nor overlap."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for span in spans:
            self.add(span)

    def __iter__(self) -> Iterator[Span]:
        return zip(self._firsts, self._ends, strict=True)

    @property
    def front(self) -> int:
        """The lowest ordinal that is not in the set."""
        return self._ends[0] if self._firsts and self._firsts[0] == 0 else 0

    def add(self, span: Span) -> None:
        """Put the ordinals of `span` in."""
        first, end = span
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def without(self, taken: Iterable[Span]) -> "Spans":
        """The ordinals that are not in `taken`, which ascends."""
        left: list[Span] = []
        cuts = iter(taken)
        cut = next(cuts, None)
        for first, end in self:
            start = first
            while cut is not None and cut[0] < end:
                if start < cut[0]:
                    left.append((start, cut[0]))
                start = max(start, cut[1])
                if start >= end:
                    break  # It may reach into the next span.
                cut = next(cuts, None)
            if start < end:
                left.append((start, end))
        return Spans(left)

    def covers(self, span: Span) -> bool:
        """Whether all ordinals of `span` are in the set."""
        at = bisect_right(self._firsts, span[0]) - 1
        return at >= 0 and self._ends[at] >= span[1]


class State(Struct):
    """How a load stands. `read` are places that reading has passed and that may become the checkpoint."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    settled: Spans = field(default_factory=Spans)
    accepted: int = 0
    superseded: int = 0
    total: int | None = None
    open: dict[tuple[int, int], Sent] = field(default_factory=dict)
    heard: dict[int, Heard] = field(default_factory=dict)
    read: deque[Checkpoint] = field(default_factory=deque)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "State":
        """The state that `snapshot` was taken of."""
        return cls(
            checkpoint=snapshot.checkpoint,
            settled=Spans(snapshot.spans),
            accepted=snapshot.accepted,
            superseded=snapshot.superseded,
            total=snapshot.total,
            open={(one.run, one.sent.batch): one.sent for one in snapshot.open},
            heard={one.index: one for one in snapshot.heard},
        )

    def snapshot(self) -> Snapshot:
        """What has to last."""
        return Snapshot(
            checkpoint=self.checkpoint,
            spans=list(self.settled),
            accepted=self.accepted,
            superseded=self.superseded,
            total=self.total,
            open=[OpenBatch(run, sent) for (run, _), sent in self.open.items()],
            heard=list(self.heard.values()),
        )

    def apply(self, run: int, fact: Fact) -> None:
        """Take in a fact of run number `run`."""
        match fact:
            case Sent():
                self.open[run, fact.batch] = fact
            case Settled():
                for span in fact.spans:
                    self.settled.add(span)
                self.accepted += fact.accepted
                self.superseded += fact.superseded
                if fact.closed is not None:
                    self.open.pop((run, fact.closed), None)
                for sent in fact.opened:
                    self.open[run, sent.batch] = sent
            case Moved(checkpoint):
                self.checkpoint = checkpoint
            case Counted(total):
                self.total = total
            case Heard():
                self.heard[fact.index] = fact
            case _:
                assert_never(fact)

    def move(self) -> Moved | None:
        """The latest place that everything before is settled of, when it is another than before."""
        front, reached = self.settled.front, None
        while self.read and self.read[0].ordinal <= front:
            reached = self.read.popleft()
        if reached is None or reached == self.checkpoint or reached.ordinal < self.checkpoint.ordinal:
            return None  # What can be read only once is read from its beginning in each run.
        return Moved(reached)

    def forget_closed(self) -> None:
        """Let go of the batches of earlier runs whose records are settled for good.

        Behind the checkpoint the next run may unsettle those that failed.
        """
        front = self.checkpoint.ordinal
        self.open = {
            at: sent for at, sent in self.open.items() if not all(end <= front for _, end in sent.spans)
        }

    def in_doubt(self) -> dict[Key, int]:
        """Keys that may have landed in an unsettled version before an older one, and its ordinal: the newest's."""
        doubts: dict[Key, int] = {}
        for sent in self.open.values():
            for space, external_id, ordinal in sent.overtaking:
                if not self.settled.covers((ordinal, ordinal + 1)):
                    key = (space, external_id)
                    doubts[key] = max(ordinal, doubts.get(key, ordinal))
        return doubts

    def under_way(self) -> Ranges:
        """The ordinals that may have landed, and are not settled."""
        sent = Ranges.of(span for one in self.open.values() for span in one.spans)
        settled = self.ranges()
        return Ranges([gap for first, end in sent.spans for gap in settled.missing_from(first, end)])

    def ranges(self) -> Ranges:
        """The settled ordinals."""
        return Ranges(list(self.settled))


def spans_in(records: Sequence[Record]) -> Sequence[Span]:
    """The ordinals of `records`."""
    if isinstance(records, Records):
        return Ranges.of(records.spans).spans
    return spans_of([record.ordinal for record in records])


def spans_of(ordinals: list[int]) -> list[Span]:
    """Distinct `ordinals`, in any order, as spans; quick when they follow one another."""
    if not ordinals:
        return []
    ordered = sorted(ordinals)
    count = len(ordered)
    if ordered[-1] - ordered[0] == count - 1:
        return [(ordered[0], ordered[-1] + 1)]
    starts = [0, *(at for at in range(1, count) if ordered[at] != ordered[at - 1] + 1), count]
    return [(ordered[a], ordered[b - 1] + 1) for a, b in pairwise(starts)]


def sent(batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> Sent:
    """The fact that `records` go as batch number `batch`, some of which overtake an older version."""
    return Sent(
        batch,
        spans_in(records),
        [(*record.key, record.ordinal) for record in overtaking],
    )


_encoder = msgspec.json.Encoder()
_decode_entry = msgspec.json.Decoder(list[Fact]).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode


def entry_of(some: Sequence[Fact]) -> bytes:
    """What one transaction writes down."""
    return _encoder.encode(some)


def facts_of(entry: bytes) -> list[Fact]:
    """The facts of an entry.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return _decode_entry(entry)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot as it is kept."""
    return _encoder.encode(snapshot)


def decode_snapshot(encoded: bytes) -> Snapshot:
    """The snapshot that was kept.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return _decode_snapshot(encoded)

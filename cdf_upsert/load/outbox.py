"""What waits to be sent: batches that are ready, and batches that are due at a time to come."""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from math import inf

from msgspec import Struct, field

from cdf_upsert.core.isolating import Hunt
from cdf_upsert.core.ordering import RECORD_OVERHEAD
from cdf_upsert.core.packing import body_bytes
from cdf_upsert.core.record import Record
from cdf_upsert.core.retrying import Tries


class Batch(Struct, eq=False):
    """Records that all have the same history: those of one request, or with `alone` of one request each.

    With `in_turn` it is one request each, too, and what is left is what comes `then`: when this is settled.

    `number` is 0 until the journal knows the batch. `accepted_before` is how many records the run had accepted when
    the last try began, `since` when the first try of any of the records began.
    """

    records: Sequence[Record]
    nbytes: int
    number: int = 0
    tries: Tries = field(default_factory=Tries)
    hunt: Hunt | None = None
    named: bool = False
    alone: bool = False
    in_turn: bool = False
    then: "Batch | None" = None
    accepted_before: int = 0
    since: float = inf

    @classmethod
    def of(cls, records: Sequence[Record], like: "Batch") -> "Batch":
        """A batch of some of the records of `like`, with the same history."""
        return cls(records, body_bytes(records), tries=like.tries, hunt=like.hunt, since=like.since)

    @property
    def left(self) -> int:
        """How many records are not settled, of this batch and of what comes then."""
        return len(self.records) + (0 if self.then is None else self.then.left)

    @property
    def weight(self) -> int:
        """What the batch takes in memory while it waits, in bytes."""
        return self.nbytes + RECORD_OVERHEAD * len(self.records)


class Outbox:
    """Batches in the order of their turn: what is due comes before what is new."""

    def __init__(self) -> None:
        self._new: deque[Batch] = deque()
        self._due: list[tuple[float, int, Batch]] = []
        self._turns = count()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._due)

    def __iter__(self) -> Iterator[Batch]:
        yield from self._new
        yield from (batch for _, _, batch in self._due)

    @property
    def new(self) -> int:
        """How many batches wait that were never put off."""
        return len(self._new)

    @property
    def first_new(self) -> Batch | None:
        """The batch that waits longest of those that were never put off."""
        return self._new[0] if self._new else None

    @property
    def next_due(self) -> float | None:
        """When the next batch is due that was put off."""
        return self._due[0][0] if self._due else None

    def add(self, batch: Batch) -> None:
        """Put a batch behind the new ones."""
        self._new.append(batch)
        self.weight += batch.weight

    def put_off(self, batch: Batch, when: float) -> None:
        """Let a batch be due at `when`."""
        heapq.heappush(self._due, (when, next(self._turns), batch))
        self.weight += batch.weight

    def candidates(self, now: float) -> Iterator[Batch]:
        """The batches that may be taken now: the first that is due, and the first new one."""
        if self._due and self._due[0][0] <= now:
            yield self._due[0][2]
        if self._new:
            yield self._new[0]

    def take(self, batch: Batch) -> None:
        """Take out one of the candidates."""
        if self._new and self._new[0] is batch:
            self._new.popleft()
        else:
            heapq.heappop(self._due)
        self.weight -= batch.weight

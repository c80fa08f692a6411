"""Records -> batches under two ceilings: how many records, and how many bytes the whole body has.

The size of a body is known before a record is added: `{"items":[` + the texts joined by commas + `]}`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from cdf_upsert.core.checking import ENVELOPE_BYTES
from cdf_upsert.core.record import Record, Records, texts_of


def body_bytes(records: Sequence[Record]) -> int:
    """How many bytes the request body of `records` has, uncompressed."""
    return ENVELOPE_BYTES + sum(map(len, texts_of(records))) + max(len(records) - 1, 0)


class Packed(Struct, frozen=True):
    """The records of one request; `nbytes` has the whole body, uncompressed."""

    records: Records
    nbytes: int


class Packer:
    """Packs records in the order they come into batches under both ceilings.

    Every record that is added fits into a body by itself: `core.checking.Checker` has seen to that.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self.most_records = most_records
        self.most_bytes = most_bytes
        self.waiting = 0
        """How many records the part-filled batch has."""
        self._open: list[Records] = []
        self._room = most_bytes - ENVELOPE_BYTES + 1

    def add(self, records: Sequence[Record]) -> list[Packed]:
        """Add `records`; the batches that are full now."""
        given = Records.of(records)
        full: list[Packed] = []
        # Each text costs its bytes and one comma; the room has one byte more for the comma that is not there.
        lengths = list(accumulate(map(len, given.texts)))
        ends = range(len(lengths))
        start, used = 0, 0
        while start < len(given):
            most = start + self.most_records - self.waiting
            fit = bisect_right(ends, used + self._room, lo=start, key=lambda at: lengths[at] + at + 1)
            stop = min(fit, most)
            if stop == start and not self.waiting:
                stop = start + 1  # Only under a lowered ceiling can one record be too much; it goes alone.
            if stop > start:
                self._open.append(given[start:stop])
                self.waiting += stop - start
                end = lengths[stop - 1] + stop
                self._room -= end - used
                start, used = stop, end
            if start < len(given) or self.waiting == self.most_records:
                full.append(self.flush())
        return full

    def flush(self) -> Packed:
        """Take the part-filled batch as it is; without records when there is none."""
        packed = Packed(Records.joined(self._open), self.most_bytes - self._room)
        self._open, self.waiting = [], 0
        self._room = self.most_bytes - ENVELOPE_BYTES + 1
        return packed

    def lower(self, most_bytes: int) -> None:
        """Lower the ceiling of bytes for the batches to come, after the service called one too large."""
        self._room += most_bytes - self.most_bytes
        self.most_bytes = most_bytes

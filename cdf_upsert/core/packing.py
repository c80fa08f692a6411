"""Records -> batches under two ceilings: how many records, and how many bytes the whole body has.

The size of a body is known before a record is added: `{"items":[` + the texts joined by commas + `]}`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from cdf_upsert.core.record import ENVELOPE_BYTES, Record


def body_bytes(records: Sequence[Record]) -> int:
    """How many bytes the request body of `records` has, uncompressed."""
    return ENVELOPE_BYTES + sum(len(record.text) for record in records) + max(len(records) - 1, 0)


class Packed(Struct, frozen=True):
    """The records of one request; `nbytes` has the whole body, uncompressed."""

    records: Sequence[Record]
    nbytes: int


class Packer:
    """Packs records in the order they come into batches under both ceilings.

    Every record that is added fits into a body by itself: `core.record.Checker` has seen to that.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self.most_records = most_records
        self.most_bytes = most_bytes
        self._open: list[Record] = []
        self._room = most_bytes - ENVELOPE_BYTES + 1

    @property
    def waiting(self) -> Sequence[Record]:
        """The records of the part-filled batch."""
        return self._open

    def add(self, records: Sequence[Record]) -> list[Packed]:
        """Add `records`; the batches that are full now."""
        full: list[Packed] = []
        # Each text costs its bytes and one comma; the room has one byte more for the comma that is not there.
        ends = list(accumulate([len(record.text) + 1 for record in records]))
        start, used = 0, 0
        while start < len(records):
            most = start + self.most_records - len(self._open)
            stop = max(min(bisect_right(ends, used + self._room), most), start)
            if stop == start and not self._open:
                stop = start + 1  # Only under a lowered ceiling can one record be too much; it goes alone.
            self._open += records[start:stop]
            if stop > start:
                self._room -= ends[stop - 1] - used
                used = ends[stop - 1]
                start = stop
            if start < len(records) or len(self._open) == self.most_records:
                full.append(self.flush())
        return full

    def flush(self) -> Packed:
        """Take the part-filled batch as it is; without records when there is none."""
        packed = Packed(self._open, self.most_bytes - self._room)
        self._open = []
        self._room = self.most_bytes - ENVELOPE_BYTES + 1
        return packed

    def lower(self, most_bytes: int) -> None:
        """Lower the ceiling of bytes for the batches to come, after the service called one too large."""
        self._room += most_bytes - self.most_bytes
        self.most_bytes = most_bytes

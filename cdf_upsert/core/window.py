"""A sliding window over what was accepted, in flat memory."""

from collections import deque

from msgspec import Struct, field

SLOTS = 240
"""The parts in which a window is kept: time is known to 0.4 % of it."""


class _Slot(Struct):
    began: float
    ended: float
    records: int
    nbytes: int


class SlidingWindow(Struct):
    """Records and bytes accepted in the last `seconds`."""

    seconds: float
    slots: deque[_Slot] = field(default_factory=deque)
    records: int = 0
    nbytes: int = 0
    """The sums of all slots."""

    def add(self, now: float, records: int, nbytes: int) -> None:
        """Book what was accepted now."""
        while self.slots and self._is_past(self.slots[0], now):
            past = self.slots.popleft()
            self.records, self.nbytes = self.records - past.records, self.nbytes - past.nbytes
        if self.slots and now - self.slots[-1].began < self.seconds / SLOTS:
            last = self.slots[-1]
            last.ended, last.records, last.nbytes = now, last.records + records, last.nbytes + nbytes
        else:
            self.slots.append(_Slot(now, now, records, nbytes))
        self.records, self.nbytes = self.records + records, self.nbytes + nbytes

    def total(self, now: float) -> tuple[int, int]:
        """Return the records and the bytes of the window that ends now."""
        records, nbytes = self.records, self.nbytes
        for slot in self.slots:
            if not self._is_past(slot, now):
                break
            records, nbytes = records - slot.records, nbytes - slot.nbytes
        return records, nbytes

    def room_at(self, now: float, records: float, nbytes: float) -> float:
        """Return when the window first holds no more than that: `now` when it does already."""
        held_records, held_nbytes = self.total(now)
        at = now
        for slot in self.slots:
            if held_records <= records and held_nbytes <= nbytes:
                break
            if not self._is_past(slot, now):
                held_records, held_nbytes = held_records - slot.records, held_nbytes - slot.nbytes
                at = slot.ended + self.seconds
        return at

    def clear(self) -> None:
        """Forget all."""
        self.slots.clear()
        self.records = self.nbytes = 0

    def _is_past(self, slot: _Slot, now: float) -> bool:
        return slot.ended + self.seconds <= now

"""How many different keys there are, in flat memory: exact while few, then an estimate (HyperLogLog)."""

from collections.abc import Iterable
from hashlib import blake2b
from math import log

from cdf_upsert.core.record import Key

BITS = 14
REGISTERS = 1 << BITS
"""16 KiB; the standard error of the estimate is 1.04 / sqrt(REGISTERS) = 0.8 %."""
EXACT_UP_TO = 20_000
"""So many keys are counted exactly, by their hashes."""


class DistinctKeys:
    """Counts different keys."""

    def __init__(self) -> None:
        self._seen: set[int] | None = set()
        self._registers = bytearray()

    @property
    def is_exact(self) -> bool:
        """Tell whether `count` is no estimate."""
        return self._seen is not None

    def add(self, keys: Iterable[Key]) -> None:
        """Count keys in."""
        hashes = [
            int.from_bytes(blake2b(f"{space}\0{external_id}".encode(), digest_size=8).digest())
            for space, external_id in keys
        ]
        if self._seen is not None:
            self._seen.update(hashes)
            if len(self._seen) <= EXACT_UP_TO:
                return
            hashes, self._seen = list(self._seen), None
            self._registers = bytearray(REGISTERS)
        registers = self._registers
        for one in hashes:
            # The first zeros of what the register's number leaves: 64 - BITS bits, and one that ends them.
            zeros = 65 - BITS - (one >> BITS).bit_length()
            register = one & (REGISTERS - 1)
            registers[register] = max(registers[register], zeros)

    def count(self) -> int:
        """Return how many different keys were added."""
        if self._seen is not None:
            return len(self._seen)
        weight = 0.7213 / (1 + 1.079 / REGISTERS)
        estimate = weight * REGISTERS**2 / sum(2.0**-zeros for zeros in self._registers)
        empty = self._registers.count(0)
        if estimate <= 2.5 * REGISTERS and empty:
            estimate = REGISTERS * log(REGISTERS / empty)
        return round(estimate)

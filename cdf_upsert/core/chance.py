"""Whether failures come from how much is asked, or by chance: by how frequent they are where less is asked.

share of failures   │            / more of them with more at once: it is too much
│ ──────────┼─ as many with any number: chance, and fewer would not help
└──────────────── requests at once
"""

from collections import Counter, deque

from msgspec import Struct, field

MEMORY, ENOUGH = 64, 12
"""Replies at one level after which older ones count half, and the fewest that tell how many fail."""
SURE = 3
"""The fewest failures that can be the level's own."""
PAST = 16
"""Changes of the level that are remembered: what is answered now may have been sent before."""


class Failures(Struct):
    """How many requests failed, by the level in force when they were sent; a level is a limit on requests at once."""

    replies: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    past: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PAST))
    """The last levels, and until when each was in force."""

    def leave(self, now: float, level: int) -> None:
        """Note that this level is no longer in force."""
        self.past.append((now, level))

    def observe(self, started: float, now_at: int, *, failed: bool) -> None:
        """Count a reply to a request that was sent at `started`; `now_at` is the level in force."""
        level = next((level for until, level in self.past if started < until), now_at)
        if self.replies[level] >= MEMORY:
            self.replies[level] //= 2
            self.failed[level] //= 2
        self.replies[level] += 1
        self.failed[level] += failed

    def forget(self, lowest: int) -> None:
        """Forget what was seen from this level on, so that it is judged by what comes."""
        for level in [level for level in self.replies if level >= lowest]:
            del self.replies[level], self.failed[level]

    def are_chance(self, level: int, lower: int) -> bool:
        """Tell whether as many fail at levels up to `lower`, clearly lower ones: give or take two deviations."""
        known, expected = self._expected(level, lower)
        return known >= ENOUGH and self.failed[level] <= expected + 2 * expected**0.5

    def are_its_own(self, level: int) -> bool:
        """Tell whether they are too many to come from anything but this level."""
        known, expected = self._expected(level, level - 1)
        expected += (
            0.5 * self.replies[level] / (known + 1)
        )  # That none failed yet does not mean that none will.
        return known >= MEMORY and self.failed[level] >= max(SURE, expected + 3 * expected**0.5)

    def _expected(self, level: int, highest: int) -> tuple[int, float]:
        """Return the replies at levels up to `highest`, and how many would fail as often at `level`."""
        replies = sum(count for lower, count in self.replies.items() if lower <= highest)
        failed = sum(count for lower, count in self.failed.items() if lower <= highest)
        return replies, failed / replies * self.replies[level] if replies else 0.0

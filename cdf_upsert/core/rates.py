"""How fast: requests per second, learnt from what is refused, and records per second at most."""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from cdf_upsert.core.traffic import Observation

SAFETY = 0.97
"""The share of a known budget that is used: replies do not leave in the rhythm in which requests arrive."""
CUT = 0.93
"""What is left of a pace after it was refused."""
STEP_AFTER = 50
"""Calm replies before the pace goes half of the way to what was refused."""
EXPLORE_AFTER = 250
"""Calm replies before a pace that was once refused is tried again."""
CLOSE = 1.03
"""A refused pace that is nearer than this ratio is as good as reached."""
SLOWEST = 0.05
"""Requests per second below which the pace does not go: what is refused even then is no matter of pace."""


@dataclass(slots=True)
class Pace:
    """Requests per second; `value` is None as long as nothing is known to bound it."""

    ceiling: float | None = None
    value: float | None = None
    bad: float | None = None
    """The slowest pace that was refused."""
    calm: int = 0
    step_at: int = STEP_AFTER
    explore_at: float = -inf
    decided: float = -inf
    next_at: float = -inf
    accepted: deque[float] = field(default_factory=lambda: deque(maxlen=256))
    """When the last calm replies ended."""

    def wait_until(self) -> float:
        """Return the time before which no request may be sent."""
        return self.next_at

    def sent(self, now: float) -> None:
        """Take one request's share of time; one interval that was missed is caught up with."""
        if self.value is not None:
            interval = 1 / self.value
            self.next_at = max(self.next_at, now - interval) + interval

    def observe_calm(self, now: float, seen: Observation) -> None:
        """Learn that this pace is fine, and go faster after enough of that."""
        self.accepted.append(seen.ended)
        self.calm += 1
        if self.value is None or self.calm < self.step_at:
            return
        self.step_at = self.calm + STEP_AFTER
        if self.bad is None:
            self._set(self.value * 1.05)
        elif self.bad > self.value * CLOSE:
            self._set((self.value + self.bad) / 2)
        elif self.calm >= EXPLORE_AFTER and now >= self.explore_at:
            self._set(self.bad * 1.02)
            self.bad = None

    def observe_throttled(self, now: float, seen: Observation) -> None:
        """Come down to the pace at which requests were accepted."""
        if seen.started < self.decided:
            return
        self.decided = now
        self.calm, self.step_at = 0, STEP_AFTER
        if self.value is None:
            slower = float(self._accepted_since(now - 1))
        else:
            span = max(1.0, 10 / self.value)
            slower = min(self.value * CUT, max(self._accepted_since(now - span) / span, self.value / 2))
        self.bad = self.value
        self._set(slower)
        self.next_at = max(self.next_at, now)

    def _set(self, value: float) -> None:
        self.value = max(SLOWEST, min(value, inf if self.ceiling is None else self.ceiling))

    def _accepted_since(self, since: float) -> int:
        return sum(1 for ended in self.accepted if ended >= since)


def known_pace(requests_per_second: float | None) -> Pace:
    """Return a pace that keeps within a known budget, or one that has yet to learn of one."""
    if requests_per_second is None:
        return Pace()
    ceiling = requests_per_second * SAFETY
    return Pace(ceiling=ceiling, value=ceiling)


@dataclass(slots=True)
class MaxRate:
    """Records per second at most, on average and after each request."""

    records_per_second: float | None
    next_at: float = -inf

    def sent(self, now: float, records: int) -> None:
        """Owe the time that these records take."""
        if self.records_per_second is not None:
            self.next_at = max(self.next_at, now) + records / self.records_per_second

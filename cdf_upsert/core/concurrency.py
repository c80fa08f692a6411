"""How many requests at once: doubled until the first push-back, then felt out step by step.

A decision is made at most once per round trip: only a request that started after the last decision can tell
what that decision did.
"""

from dataclasses import dataclass, field
from math import inf

from cdf_upsert.core.traffic import Observation

CUT = 0.7
"""What is left of the limit after a push-back that does not say how many are fine."""
EXPLORE_AFTER = 250
"""Calm replies before more than was once pushed back is tried again: that costs 0.4 % of the requests."""
CALM_RATIO, BUSY_RATIO = 1.5, 2.0
"""Latency over its base up to which the limit may grow, and from which it shrinks."""
JITTER_SECONDS = 0.05
"""A difference in latency that means nothing, whatever the ratio."""
BASE_SECONDS = 60.0
"""How long a measured base latency is believed."""


@dataclass(slots=True)
class Limit:
    """Requests at once, never below one and never above `ceiling`."""

    value: int
    ceiling: int
    fixed: bool = False
    growing: bool = True
    """Still doubling: nothing has pushed back yet."""
    proven: int = 0
    """The most at once that were seen to be fine since the last push-back at no more than that."""
    bad: int | None = None
    """The fewest at once that were pushed back."""
    calm: int = 0
    """Calm replies since the last push-back."""
    explore_at: float = -inf
    decided: float = -inf
    base: float = inf
    base_until: float = inf
    resume: int | None = None
    """The limit before it was halved for one round trip to measure the base latency anew."""
    latencies: list[float] = field(default_factory=list)

    def observe_calm(self, now: float, seen: Observation) -> None:
        """Learn from a reply that says nothing of overload."""
        self.proven = max(self.proven, seen.under_way)
        self.calm += 1
        if self.fixed or seen.started < self.decided:
            return
        self.latencies.append(seen.latency)
        if seen.under_way < self.value:
            del self.latencies[: -self.ceiling]
            return
        mean = sum(self.latencies) / len(self.latencies)
        self._decide(now, self._judged(now, mean))

    def observe_throttled(self, now: float, seen: Observation) -> None:
        """Come down to just below the number at once that was pushed back."""
        if self.fixed or seen.started < self.decided:
            return
        self.bad = min(self.value, seen.under_way)
        self._push_back(now, min(self.value - 1, max(seen.under_way - 1, self.value // 2)))

    def observe_unavailable(self, now: float, seen: Observation) -> None:
        """Come down by a ratio: the service is in trouble, at whatever number at once."""
        if self.fixed or seen.started < self.decided:
            return
        self._push_back(now, int(self.value * CUT))

    def begin_anew(self, now: float) -> None:
        """After an outage: one at once, then doubling up to what is known to be too many."""
        if not self.fixed:
            self.growing = True
            self._decide(now, 1)

    def _judged(self, now: float, mean: float) -> int:
        """Return the limit that follows from a calm round trip in which the limit was reached."""
        if self.resume is not None:
            back, self.resume = self.resume, None
            self.base, self.base_until = mean, now + BASE_SECONDS
            return back
        if mean <= self.base:
            self.base, self.base_until = mean, now + BASE_SECONDS
        if mean > self.base * BUSY_RATIO + JITTER_SECONDS:
            self.growing = False
            return int(self.value * CUT)
        if now >= self.base_until and self.value > 1:
            self.resume = self.value
            return self.value // 2
        if mean > self.base * CALM_RATIO + JITTER_SECONDS:
            return self.value
        return self._grown(now)

    def _grown(self, now: float) -> int:
        wanted = self.value * 2 if self.growing else self.value + 1
        if self.bad is None or wanted < self.bad:
            return wanted
        if self.value < self.bad - 1:
            return self.bad - 1
        if self.calm >= EXPLORE_AFTER and now >= self.explore_at:
            self.bad = None
            self.growing = False
            return self.value + 1
        return self.value

    def _push_back(self, now: float, value: int) -> None:
        self.growing = False
        self.calm = 0
        self.proven = min(self.proven, max(0, value))
        self.resume = None
        self._decide(now, value)

    def _decide(self, now: float, value: int) -> None:
        self.value = max(1, min(self.ceiling, value))
        self.decided = now
        self.latencies.clear()

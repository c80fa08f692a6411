"""How many requests at once: doubled until the first push-back, then felt out step by step.

A decision is made at most once per round trip: only a request that started after the last decision can tell
what that decision did.

A failure that says "unavailable" brings the limit down by a ratio, and when they show that they come from this
very limit, to one less. When they are chance it stays: fewer at once would not help.
"""

from collections import deque
from math import inf

from msgspec import Struct, field

from cdf_upsert.core.chance import Failures
from cdf_upsert.core.traffic import Observation

CUT = 0.8
"""What is left of the limit after a push-back that does not say how many are fine."""
EXPLORE_AFTER = 250
"""Calm replies before more than was once pushed back is tried again: that costs 0.4 % of the requests."""
HOLD_RATIO, BUSY_RATIO = 1.75, 2.75
"""Mean latency over its base from which the limit no longer grows, and from which it shrinks."""
JITTER_SECONDS = 0.02
"""A difference in latency that means nothing, whatever the ratio."""
SAMPLE, FEWEST = 16, 6
"""Latencies in a mean, and the fewest that make one: single requests differ by more than the load does."""
BASE_SECONDS, BASE_PART = 90.0, 4
"""How long a measured base latency is believed, and to what part of the limit it is measured anew."""
SHORT = 0.3
"""Seconds of latency up to which the number under way says something else than the number in a second."""
FEWER = 0.75
"""Up to this part of a limit another is clearly lower."""


class Limit(Struct):
    """Requests at once, never below one and never above `ceiling`."""

    value: int
    ceiling: int
    fixed: bool = False
    threshold: float = inf
    """Below this the limit doubles; from there on it goes up by one."""
    proven: int = 0
    """The highest limit that was reached through a calm round trip since a push-back at no more than that."""
    bad: int | None = None
    """The fewest at once that were pushed back."""
    calm: int = 0
    """Calm replies since the last push-back."""
    explore_at: float = -inf
    decided: float = -inf
    raised: float = -inf
    """When it last went up."""
    base: float = inf
    """Mean latency, in seconds, when there was the least of it."""
    base_until: float = inf
    resume: int | None = None
    """The limit before it was lowered to measure the base anew."""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLE))
    failures: Failures = field(default_factory=Failures)
    refusals: Failures = field(default_factory=Failures)
    """429 by how many were under way, which differs from request to request where the pace holds them apart."""
    doubted: float = -inf
    """When the last 429 came: what started before is no proof, for some of a round may pass where others do not."""

    def observe_calm(self, now: float, seen: Observation) -> None:
        """Learn from a reply that says nothing of overload."""
        self.calm += 1
        self.failures.observe(seen.started, self.value, failed=False)
        self.refusals.observe(seen.started, seen.under_way, failed=False)
        if self.fixed or seen.started < self.decided:
            return
        self.latencies.append(seen.latency)
        if seen.under_way >= self.value and seen.started >= self.doubted:
            self.proven = max(self.proven, self.value)
            self._round_ends(now)

    def is_one_too_many(self, now: float, seen: Observation) -> bool:
        """Count a 429; tell whether they come when so many are under way, and hardly ever when fewer are."""
        self.refusals.observe(seen.started, seen.under_way, failed=True)
        self.doubted = now
        if self.fixed or self.base > SHORT or not 1 < seen.under_way <= self.value:
            return False
        return self.refusals.are_its_own(seen.under_way)

    def observe_one_too_many(self, now: float, under_way: int) -> None:
        """Go back to one less."""
        self.bad = under_way
        self.refusals.forget(under_way)
        self._push_back(now, under_way - 1, threshold=under_way - 1)

    def observe_throttled(self, now: float) -> None:
        """Go back to what was last seen to be fine, or to half when that is not known any more."""
        known = self.value // 2 <= self.proven < self.value
        back = self.proven if known else self.value // 2
        self.bad = self.value if back == self.value - 1 else None
        self._push_back(now, back, threshold=back)

    def observe_unavailable(self, now: float, seen: Observation) -> None:
        """Come down by a ratio unless it was chance; after a calm round trip one that stood alone is forgotten."""
        self.failures.observe(seen.started, self.value, failed=True)
        if self.fixed or seen.started < self.decided:
            return
        if self.failures.are_chance(self.value, int(FEWER * self.value)):
            return
        if self.failures.are_its_own(self.value):
            self.bad = self.value
            self._push_back(now, self.value - 1, threshold=self.value - 1)
        else:
            self._push_back(now, int(self.value * CUT), threshold=self.value)

    def begin_anew(self, now: float) -> None:
        """After an outage: one at once, then doubling up to what was fine before."""
        if not self.fixed:
            self._push_back(now, 1, threshold=self.value)

    def in_force_again(self, now: float, instead: "Limit") -> "Limit":
        """Return this limit, put back in the place of one that came from it."""
        self.failures.leave(now, instead.value)
        return self

    def _round_ends(self, now: float) -> None:
        """Decide after a calm round trip in which the limit was reached."""
        mean = sum(self.latencies) / len(self.latencies) if len(self.latencies) >= FEWEST else None
        if self.resume is not None:
            if mean is not None:
                self._set_base(now, mean)
                back, self.resume = self.resume, None
                self._decide(now, back, anew=True)
            return
        if mean is not None and mean <= self.base:
            self._set_base(now, mean)
        if mean is not None and mean > self.base * BUSY_RATIO + JITTER_SECONDS:
            self.threshold = 0.0
            self._decide(now, int(self.value * CUT), anew=True)
        elif now >= self.base_until and self.value > 1:
            self.resume = self.value
            self._decide(now, self.value // BASE_PART, anew=True)
        elif self._may_grow(mean):
            self._decide(now, self._grown(now))

    def _may_grow(self, mean: float | None) -> bool:
        if mean is None:  # So few are at once that a mean would take long, or it was fine before.
            return self.value < max(self.threshold, FEWEST)
        return mean <= self.base * HOLD_RATIO + JITTER_SECONDS

    def _grown(self, now: float) -> int:
        wanted = self.value + 1
        if self.value < self.threshold:
            wanted = max(wanted, int(min(self.value * 2, self.threshold)))
        if self.bad is None or wanted < self.bad:
            return wanted
        if self.value < self.bad - 1:
            return self.bad - 1
        if self.calm >= EXPLORE_AFTER and now >= self.explore_at:
            self.bad = None
            return self.value + 1
        return self.value

    def _set_base(self, now: float, mean: float) -> None:
        self.base, self.base_until = mean, now + BASE_SECONDS

    def _push_back(self, now: float, value: int, *, threshold: float) -> None:
        self.threshold = threshold
        self.calm = 0
        self.proven = min(self.proven, value)
        self.resume = None
        self._decide(now, value, anew=True)

    def _decide(self, now: float, value: int, *, anew: bool = False) -> None:
        value = max(1, min(self.ceiling, value))
        if value > self.value:
            self.raised = now
        self.failures.leave(now, self.value)
        self.value, self.decided = value, now
        if anew:
            self.latencies.clear()

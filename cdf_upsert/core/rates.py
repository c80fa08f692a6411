"""How fast: requests per second, learnt from what is refused, and records per second at most."""

from collections import deque
from math import inf

from msgspec import Struct, field

from cdf_upsert.core.traffic import Observation

SAFETY = 0.97
"""The share of a known budget that is used: replies do not leave in the rhythm in which requests arrive."""
CUT = 0.95
"""What is left of a pace after it was refused."""
STEP_SECONDS, STEP_FEWEST, STEP_MOST = 3.0, 10, 50
"""Calm replies of so many seconds, at least and at most so many, before the pace goes up a step."""
EXPLORE_AFTER = 250
"""Calm replies before a pace that was once refused is tried again."""
STRIDE = 0.02
"""The first step beyond a pace that was once refused."""
CLOSE = 1.03
"""A refused pace that is nearer than this ratio is as good as reached."""
UNBOUND = 500.0
"""Requests per second from which a pace no longer bounds anything."""
REACHED = 0.75
"""The share of the pace that was accepted from which the pace is what bounds."""
MEASURED = 10
"""Calm replies in the last second from which they measure a pace: fewer tell that little was sent."""
UNMEASURED = 5.0
"""Requests per second to begin with when one 429 follows the other and no pace was measured."""
FEW_CALM, MANY_CALM = 5, 20
"""Calm replies since the last 429, below which the next one says that more is to be done; and from which, at
more than one request a second and with no step up meanwhile, it says nothing against the pace itself."""
SLOWEST = 0.2
"""Requests per second below which the pace does not go: what is refused even then is no matter of pace."""


class Pace(Struct):
    """Requests per second; `value` is None as long as nothing is known to bound it."""

    ceiling: float | None = None
    value: float | None = None
    bad: float | None = None
    """The slowest pace that was refused."""
    calm: int = 0
    step_at: int = STEP_MOST
    stride: float = STRIDE
    """By what share the pace grows next while nothing is refused: doubled each time."""
    explore_at: float = -inf
    raised: float = -inf
    lowered: float = -inf
    """When it last went up, and down."""
    refused: bool = False
    """There was a 429 before."""
    next_at: float = -inf
    accepted: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
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
        if self._accepted_rate(now) < REACHED * self.value:
            self.step_at = self.calm + STEP_FEWEST  # It bounds nothing: how it would go faster is not known.
            return
        if self.bad is None:
            self.stride *= 2
            self._set(now, self.value * (1 + self.stride))
        elif self.bad > self.value * CLOSE:
            self._set(now, (self.value + self.bad) / 2)
        elif self.calm >= EXPLORE_AFTER and now >= self.explore_at:
            self.stride = STRIDE
            self._set(now, self.bad * (1 + self.stride))
            self.bad = None

    def observe_throttled(self, now: float) -> bool:
        """Come down to the pace at which requests were accepted; return False when no pace was measured.

        A 429 that stands alone may be chance, and the first requests of a run measure nothing: whoever comes
        down to what was accepted before them comes down to nothing, and needs an hour to be back.
        """
        alone = not self.refused or self.calm >= FEW_CALM
        was_fine = self.calm >= max(self.step_at, MANY_CALM)
        self.refused, self.calm = True, 0
        accepted = self._accepted_rate(now)
        if self.value is None:
            if alone and accepted < MEASURED:
                return False
            slower = max(accepted, UNMEASURED)
        elif accepted >= REACHED * self.value:
            slower = self.value * CUT
        else:  # Much less than this pace is accepted now: somebody else takes a part.
            slower = max(accepted, self.value / 2)
        self.bad = None if self.value is not None and self.value > 1 and was_fine else self.value
        self.stride = STRIDE
        self._set(now, slower)
        self.lowered = now
        self.next_at = max(self.next_at, now)
        return True

    def _set(self, now: float, value: float) -> None:
        if self.value is not None and value > self.value:
            self.raised = now
        if self.ceiling is None and value > UNBOUND:
            self.value = self.bad = None
            return
        self.value = max(SLOWEST, min(value, inf if self.ceiling is None else self.ceiling))
        self.step_at = self.calm + int(max(STEP_FEWEST, min(STEP_MOST, STEP_SECONDS * self.value)))

    def _accepted_rate(self, now: float) -> float:
        """Return the calm replies per second of the last second, or of ten requests when they are slow."""
        span = 1.0 if self.value is None else max(1.0, 10 / self.value)
        return sum(1 for ended in self.accepted if ended >= now - span) / span


def known_pace(requests_per_second: float | None) -> Pace:
    """Return a pace that keeps within a known budget, or one that has yet to learn of one."""
    if requests_per_second is None:
        return Pace()
    ceiling = requests_per_second * SAFETY
    return Pace(ceiling=ceiling, value=ceiling)


class MaxRate(Struct):
    """Records per second at most, on average and after each request."""

    records_per_second: float | None
    next_at: float = -inf

    def sent(self, now: float, records: int) -> None:
        """Owe the time that these records take."""
        if self.records_per_second is not None:
            self.next_at = max(self.next_at, now) + records / self.records_per_second

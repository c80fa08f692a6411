"""Keeping a sick service from being made sicker: a circuit breaker and a budget for retries."""

from math import inf

from msgspec import Struct

from cdf_upsert.core.traffic import Observation

TRIP_AFTER = 5
"""Requests in a row that found the service unavailable before it is left alone."""
FIRST_REST, LONGEST_REST = 1.0, 30.0
"""Seconds of rest: doubled with each probe that fails."""


class Breaker(Struct):
    """Open after failures in a row; one probe at a time after each rest; closed by any other reply."""

    jitter: float = 0.0
    failures: int = 0
    rest: float = 0.0
    opened: float = -inf

    @property
    def is_open(self) -> bool:
        """Tell whether only a probe may be sent, and that only after the rest."""
        return self.rest > 0

    @property
    def probe_at(self) -> float:
        """Return when the next probe may go."""
        return self.opened + self.rest * (1 + 0.2 * self.jitter)

    def observe_well(self) -> bool:
        """Close; return whether it was open."""
        was_open = self.is_open
        self.failures, self.rest = 0, 0.0
        return was_open

    def observe_failure(self, now: float, seen: Observation) -> None:
        """Count a failure; open, or rest for longer."""
        self.failures += 1
        if self.is_open:
            if seen.started >= self.opened:
                self.opened, self.rest = now, min(LONGEST_REST, self.rest * 2)
        elif self.failures >= TRIP_AFTER:
            self.opened, self.rest = now, FIRST_REST


class RetryBudget(Struct):
    """Retries are at most a share of the requests that went well, once a burst is used up.

    Time refills it too, slowly, so that a load of which only retries are left still ends.
    """

    at: float
    burst: float = 60.0
    share: float = 0.2
    per_second: float = 0.5
    level: float = 60.0

    def wait_until(self, now: float) -> float:
        """Return when a retry may go: `now` when there is room for it."""
        level = self._level(now)
        return now if level >= 1 else now + (1 - level) / self.per_second

    def sent(self, now: float) -> None:
        """Pay for a retry."""
        self._move(now, -1.0)

    def observe_well(self, now: float) -> None:
        """Earn a share of a retry."""
        self._move(now, self.share)

    def _level(self, now: float) -> float:
        return min(self.burst, self.level + (now - self.at) * self.per_second)

    def _move(self, now: float, by: float) -> None:
        self.level, self.at = max(0.0, min(self.burst, self._level(now) + by)), now

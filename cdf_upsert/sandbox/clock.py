"""The sandbox's time, which may run faster than the wall's.

Quotas, budgets, lifetimes and record times follow it. Sign-in does not: a token lives as long as was said.
"""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since 1970, `speed` times as fast as the wall's from the moment the clock was made."""

    speed: float = 1.0
    _wall: float = field(default_factory=time.time)
    _mark: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """The sandbox's time."""
        return self._wall + (time.monotonic() - self._mark) * self.speed

    def wall(self) -> float:
        """The time outside."""
        return self._wall + (time.monotonic() - self._mark)

    def milliseconds(self) -> int:
        """The sandbox's time as the API counts it."""
        return int(self.now() * 1000)

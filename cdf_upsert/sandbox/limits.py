"""Budgets and quotas of the service, with `now` (seconds) passed in.

Budgets count requests per second and at once, per project and per identity; a refused request counts too, so
that hammering never pays. Quotas count what is written to a stream in any ten minutes. The service does not
publish how it measures either; sliding windows are the strictest reading.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cdf_upsert.sandbox.world.refusal import Refusal
from cdf_upsert.sandbox.world.templates import Template

WINDOW: Final = 600.0


class Kind(StrEnum):
    """What a request counts as."""

    WRITE = "write"
    FILTER = "filter"
    QUERY = "query"
    STREAMS = "streams"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many requests are let in."""

    per_second: int
    at_once: int


# Per project, per identity. A filter request counts as a query too.
BUDGETS: Final = {
    Kind.WRITE: (Budget(40, 20), Budget(30, 15)),
    Kind.FILTER: (Budget(20, 20), Budget(15, 15)),
    Kind.QUERY: (Budget(40, 30), Budget(30, 22)),
    Kind.STREAMS: (Budget(5, 3), Budget(3, 2)),
}
_COUNTS_AS: Final = {Kind.FILTER: (Kind.FILTER, Kind.QUERY)}


@dataclass(slots=True)
class _Meter:
    budget: Budget
    arrivals: deque[float] = field(default_factory=deque)
    under_way: int = 0

    def arrive(self, now: float) -> str | None:
        """Count a request in; returns why it is refused."""
        while self.arrivals and self.arrivals[0] <= now - 1.0:
            self.arrivals.popleft()
        self.arrivals.append(now)
        if len(self.arrivals) > self.budget.per_second:
            return f"more than {self.budget.per_second} requests per second"
        if self.under_way >= self.budget.at_once:
            return f"more than {self.budget.at_once} requests at once"
        return None


@dataclass(slots=True)
class Budgets:
    """The meters of one project and of its identities."""

    allowed: Mapping[Kind, tuple[Budget, Budget]] = field(default_factory=lambda: BUDGETS)
    """By project, by identity."""
    _meters: dict[tuple[Kind, str], _Meter] = field(default_factory=dict)

    def enter(self, kind: Kind, identity: str, now: float) -> None:
        """Let a request in; `leave` must follow, unless it is refused.

        Raises:
            Refusal: 429 past a budget.
        """
        faults: list[str] = []
        meters = self._of(kind, identity)
        for meter, whose in meters:
            fault = meter.arrive(now)
            if fault is not None:
                faults.append(f"{fault} of this {whose}")
        if faults:
            raise Refusal(429, f"Too many requests: {faults[0]}.")
        for meter, _ in meters:
            meter.under_way += 1

    def leave(self, kind: Kind, identity: str) -> None:
        """A request that was let in is answered."""
        for meter, _ in self._of(kind, identity):
            meter.under_way -= 1

    def _of(self, kind: Kind, identity: str) -> list[tuple[_Meter, str]]:
        found = []
        for one in _COUNTS_AS.get(kind, (kind,)):
            project, single = self.allowed[one]
            found.append((self._meters.setdefault((one, ""), _Meter(project)), "project"))
            found.append((self._meters.setdefault((one, f"={identity}"), _Meter(single)), "identity"))
        return found


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one write puts into a stream."""

    created: int
    changed: int
    bytes: int


@dataclass(slots=True)
class Quotas:
    """What was written to each stream in the last ten minutes."""

    _written: dict[str, deque[tuple[float, Amounts]]] = field(default_factory=dict)

    def spend(self, stream: str, template: Template, amounts: Amounts, now: float) -> None:
        """Count a write in.

        Raises:
            Refusal: 429 when it does not fit, with the seconds after which it would; nothing is counted then.
        """
        spent = self._written.setdefault(stream, deque())
        while spent and spent[0][0] <= now - WINDOW:
            spent.popleft()
        wait = 0.0
        for name in ("created", "changed", "bytes"):
            quota = getattr(template, f"quota_{name}")
            if getattr(amounts, name):
                wait = max(wait, _wait(name, quota, spent, getattr(amounts, name), now))
        if wait:
            raise Refusal(
                429, f"The quota of the stream `{stream}` for ten minutes is spent.", retry_after=wait
            )
        spent.append((now, amounts))

    def forget(self, stream: str) -> None:
        """A deleted stream's quota is forgotten."""
        self._written.pop(stream, None)


def _wait(name: str, quota: int, spent: deque[tuple[float, Amounts]], wanted: int, now: float) -> float:
    """Seconds until `wanted` more fit into the quota; a whole window when it never fits."""
    over = sum(getattr(amounts, name) for _, amounts in spent) + wanted - quota
    if over <= 0:
        return 0.0
    for time, amounts in spent:
        over -= getattr(amounts, name)
        if over <= 0:
            return max(time + WINDOW - now, 0.001)
    return WINDOW

"""How fast: requests per second, learnt from what is refused, and records per second at most.

As long as nothing was refused there is no pace, only an edge: the requests that one second may hold. It begins
at the published budget, and beyond that only so many requests are under way as were answered calmly there,
doubled each time, so that a service of which nothing is known refuses one or two requests and not a
burst of them:

    in one second   29 │ +1 │ +2 │ +4 │ +8 │ then any number
    refused there    └────┴────┴────┴────┴── back to what was fine: that is the pace

A pace goes up by a step after calm replies enough, and a refused step goes back to what was fine before:

    bad  ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄X┄┄┄┄  tried again after EXPLORE_AFTER calm replies
    half ┄┄┄┄┄┄┄┄┄┄┄┄┌──────────────┘│
    fine ────────────┘ STEP_SECONDS  └────
"""

from collections import deque
from math import inf

from msgspec import Struct, field

from cdf_upsert.core.traffic import Observation

SAFETY = 0.97
"""The share of a known budget that is used: replies do not leave in the rhythm in which requests arrive."""
CUT = 0.95
"""What is left of a pace after it was refused, when no slower one is known to be fine."""
STEP_SECONDS, STEP_FEWEST, STEP_MOST = 3.0, 10, 50
"""Calm replies of so many seconds, at least and at most so many, before the pace goes up a step; never in a second."""
STEP_SLOW = 20
"""Calm replies before a step up from less than a request a second: a quota may lie below it, with a reserve."""
EXPLORE_AFTER = 250
"""Calm replies before a pace that was once refused is tried again."""
STRIDE = 0.02
"""The first step beyond a pace that was once refused."""
CLOSE = 1.03
"""A refused pace that is nearer than this ratio is as good as reached."""
UNBOUND = 500.0
"""Requests per second from which a pace no longer bounds anything."""
REACHED = 0.75
"""The share of the pace, or of the replies, that was accepted from which the pace is about right."""
MEASURED = 10
"""Calm replies in the last second from which they measure a pace: fewer tell that little was sent."""
UNMEASURED = 5.0
"""Requests per second to begin with when one 429 follows the other and no pace was measured."""
FEW_CALM, MANY_CALM = 5, 20
"""Calm replies since the last 429, below which the next one says that more is to be done; and from which, at
more than one request a second and with no step up meanwhile, it says nothing against the pace itself."""
LATELY, MANY_REFUSED = 10.0, 0.25
"""Seconds, and the share of 429 in them from which none stands alone."""
SLOWEST = 0.2
"""Requests per second below which the pace does not go: what is refused even then is no matter of pace."""
PUBLISHED = 30.0
"""Requests per second of one identity, as published: what a service of which nothing is known is first taken for."""
EDGES = 15
"""Requests beyond the edge, all at once: when they are calm there is none."""
DRAIN, LONGEST_DRAIN = 3, 0.15
"""Intervals, and seconds at most, of rest after a 429: who counts refused requests too refuses all until one rests."""


class Edge(Struct):
    """The requests that one second may hold as long as no pace is known."""

    fine: int = int(PUBLISHED * SAFETY)
    beyond: int = 1
    """How many more are tried at once."""
    trying: int = 0
    tried_at: float = inf
    """How many are tried now, and when the first of them was sent."""
    sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=int(PUBLISHED) + 2 * EDGES))

    def wait_until(self, now: float) -> float:
        """Return when a request may be sent; infinity: when those that are tried are answered."""
        if not self.is_reached(now) or self.trying < self.beyond:
            return now
        return self.sent_at[-self.fine] + 1.0

    def is_reached(self, now: float) -> bool:
        """Tell whether the last second holds all that is known to be fine."""
        return len(self.sent_at) >= self.fine and self.sent_at[-self.fine] > now - 1.0

    def sent(self, now: float) -> None:
        """Note a request."""
        if self.is_reached(now):
            self.trying, self.tried_at = self.trying + 1, min(self.tried_at, now)
        self.sent_at.append(now)

    def observe_calm(self, seen: Observation) -> bool:
        """Go further after what was tried; return whether all there is has been tried."""
        if seen.started >= self.tried_at:
            self.fine, self.beyond = self.fine + self.trying, self.beyond * 2
            self.trying, self.tried_at = 0, inf
        return self.beyond > EDGES


class Pace(Struct):
    """Requests per second; `value` is None as long as nothing is known to bound it."""

    ceiling: float | None = None
    value: float | None = None
    edge: Edge | None = None
    """Where care begins while there is no pace; None: it was passed, or never was."""
    fine: float | None = None
    """The pace before the last step up."""
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
    refused_before: bool = False
    next_at: float = -inf
    accepted: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    """When the last calm replies ended."""
    refused: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    """When the last rounds of 429 came."""
    each_refused: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    """When each 429 came, of which one round may bring many."""

    def wait_until(self, now: float) -> float:
        """Return the time before which no request may be sent."""
        return self.next_at if self.edge is None else max(self.next_at, self.edge.wait_until(now))

    def was_beyond(self, seen: Observation) -> bool:
        """Tell whether a request went beyond the edge, which is the first suspect when it is refused."""
        return self.edge is not None and seen.started >= self.edge.tried_at

    def sent(self, now: float) -> None:
        """Take one request's share of time; one interval that was missed is caught up with."""
        if self.edge is not None:
            self.edge.sent(now)
        if self.value is not None:
            interval = 1 / self.value
            self.next_at = max(self.next_at, now - interval) + interval

    def observe_calm(self, now: float, seen: Observation) -> None:
        """Learn that this pace is fine, and go faster after enough of that."""
        self.accepted.append(seen.ended)
        self.calm += 1
        if self.edge is not None and self.edge.observe_calm(seen):
            self.edge = None
        if self.value is None or self.calm < self.step_at:
            return
        if self._lately(self.accepted, now) < REACHED * self.value:
            self.step_at = self.calm + STEP_FEWEST  # It bounds nothing: how it would go faster is not known.
            return
        self.fine = self.value
        if self.bad is None:
            self.stride *= 2
            self._set(now, self.value * (1 + self.stride))
        elif self.bad > self.value * CLOSE:
            self._set(now, (self.value + self.bad) / 2)
        elif self.calm >= EXPLORE_AFTER and now >= self.explore_at:
            self.stride = STRIDE
            self._set(now, self.bad * (1 + self.stride))
            self.bad = None

    def observe_throttled(self, now: float, seen: Observation) -> bool:
        """Come down to a pace that was fine, or at which requests were accepted; False: no pace was measured.

        A 429 that stands alone may be chance, and the first requests of a run measure nothing: whoever comes
        down to what was accepted before them comes down to nothing, and needs an hour to be back.
        """
        alone = not self.refused_before or (self.calm >= FEW_CALM and not self._are_many_refused(now))
        was_fine = self.calm >= max(self.step_at, MANY_CALM)
        self.refused_before, self.calm = True, 0
        accepted, rest, bad = self._lately(self.accepted, now), 0.0, self.value
        if self.value is None:
            beyond = self.edge if self.edge is not None and self.was_beyond(seen) else None
            if alone and accepted < MEASURED and beyond is None:
                return False
            slower, rest = max(accepted, UNMEASURED), 1.0
            if beyond is not None:
                slower, bad = SAFETY * beyond.fine, beyond.fine + 1.0
        elif self.fine is not None and self.fine < self.value:
            slower = self.fine
        elif accepted >= REACHED * (accepted + self._lately(self.refused, now)):
            slower, bad = self.value * CUT, None if self.value > 1 and was_fine else bad
        else:  # Much of what is sent is refused now: somebody else takes a part.
            slower = max(accepted, self.value / 2)
        self.bad, self.stride = bad, STRIDE
        self._set(now, slower)
        self.lowered = now
        if self.value is not None:
            self.edge = None
        self.next_at = max(self.next_at, now + rest)
        return True

    def acquit(self) -> None:
        """Forget what was refused: it was no matter of pace."""
        self.bad, self.fine, self.calm = None, None, 0

    def rest(self, now: float, until: float = -inf) -> None:
        """After any 429: let what counts refused requests too forget some of them, and catch up with nothing."""
        self.refused.append(now)
        if self.value is not None:
            self.next_at = max(self.next_at, until, now + min(LONGEST_DRAIN, DRAIN / self.value))

    def _set(self, now: float, value: float) -> None:
        value = max(SLOWEST, min(value, inf if self.ceiling is None else self.ceiling))
        if self.value is not None and value > self.value:
            self.raised = now
        if value > UNBOUND:
            self.value = self.bad = self.fine = None
            return
        self.value = value
        fewest = STEP_SLOW if value < 1 else STEP_FEWEST
        self.step_at = self.calm + int(max(fewest, min(STEP_MOST, STEP_SECONDS * value), value))

    def _are_many_refused(self, now: float) -> bool:
        """Tell whether more of the last replies were 429 than chance brings about, however many came between."""
        since = now - LATELY
        refused = sum(1 for at in self.each_refused if at >= since)
        return refused > MANY_REFUSED * (refused + sum(1 for at in self.accepted if at >= since))

    def _lately(self, ended: deque[float], now: float) -> float:
        """Return the replies per second of the last second, or of ten requests when they are slow."""
        span = 1.0 if self.value is None else max(1.0, 10 / self.value)
        return sum(1 for at in ended if at >= now - span) / span


def known_pace(requests_per_second: float | None) -> Pace:
    """Return a pace that keeps within a known budget, or one that has yet to learn of one."""
    if requests_per_second is None:
        return Pace(edge=Edge())
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

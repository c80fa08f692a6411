"""What a stream takes in one quota window, and how much of it is spent.

The kind of window is not published (fixed, sliding, a bucket that refills); for a template that is not known
neither is its size. So the books believe the least of all kinds, a sliding window; while that is full nothing is
sent but a small probe now and then, to find out when the service is kinder. What probes tell is one of four states:

    WHOLE    nothing speaks against sending
    SPENT    only probes, until the books have room or a probe is accepted
    OPENING  a probe was accepted: as much again as was accepted since, until half a quota has passed
    BUCKET   twice an opening gave next to nothing: what is left refills evenly
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import assert_never

from cdf_upsert.core.traffic import Go, Observation, Wait, WaitReason
from cdf_upsert.core.window import SlidingWindow

PROBE_RECORDS = 50
"""Records of a probe: little to lose when it is refused."""
LONGEST_PROBE = 60.0
"""Seconds between two probes at most."""
FIRST_PROBE = 2.0
"""Seconds before the first probe when no window is known."""
GROWTH = 1.5
"""From one interval between probes to the next."""
SHORT_BACKOFF, SHORT_REFUSALS = 5.0, 3
"""Seconds and number of 429 and nothing else, after which they are no matter of pace."""
LONG_RETRY_AFTER = 10.0
"""Seconds of `Retry-After` that only a spent quota asks for: budgets are per second."""
NEARLY = 0.97
"""The share of a believed quota from which a 429 means that it is spent."""
UNKNOWN_WINDOW = 3600.0
"""Seconds for which the books are kept while the window is unknown."""
REFILL_SAFETY = 0.99
"""The share of a bucket's refill that is used."""
DRIPS = 2
"""Openings in a row that gave next to nothing, which make a bucket."""
MISSES = 3
"""Refusals in a row that unmake it."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a stream takes in one window; None: no bound is known."""

    window: float = 600.0
    """Seconds."""
    created: int | None = None
    """Records that were not there before."""
    updated: int | None = None
    """Records that replace one."""
    nbytes: int | None = None


TEMPLATES: Mapping[str, Quota] = MappingProxyType(
    {
        "BasicLiveData": Quota(created=170_000, updated=85_000, nbytes=170_000_000),
        "BasicArchive": Quota(created=170_000, nbytes=170_000_000),
        "ImmutableTestStream": Quota(created=800_000, nbytes=1_500_000_000),
    }
)
"""The published quotas of the templates that Cognite names; those of enterprise templates are larger."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_quota(text: str) -> Quota:
    """Return the quota that a user names as RECORDS/DURATION, such as `170000/10m`.

    Raises:
        ValueError: the text is of another form; the message is a whole sentence.

    """
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)([smh])\s*", text)
    records = int(found[1]) if found else 0
    seconds = float(found[2]) * _UNITS[found[3]] if found else 0.0
    if not records or not seconds:
        raise ValueError(f"{text!r} is not a quota: write RECORDS/DURATION, such as 170000/10m.")
    return Quota(window=seconds, created=records, updated=records)


@dataclass(slots=True)
class _Whole:
    pass


@dataclass(slots=True)
class _Spent:
    since: float
    probe_at: float
    interval: float
    beyond: bool
    """The next probe tries whether more is allowed than was learnt from an earlier window."""
    refused: int = 0


@dataclass(slots=True)
class _Opening:
    spent: float
    """When the quota was spent before."""
    taken: int = 0
    """Records accepted since the probe, itself included."""


@dataclass(slots=True)
class _Bucket:
    level: float
    """Share of a window that was left at `at`."""
    at: float
    refill: float
    """Shares of a window per second."""
    until: float
    """When the belief is tested anew."""
    misses: int = 0

    def now(self, now: float) -> float:
        return min(1.0, self.level + (now - self.at) * self.refill)


@dataclass(slots=True)
class Spending:
    """How much of the quota is spent, as far as replies tell."""

    quota: Quota | None
    jitter: float = 0.0
    cap: int | None = None
    """Records of one window: known, or learnt from the last window that was spent."""
    learnt: bool = False
    books: SlidingWindow = field(init=False)
    state: _Whole | _Spent | _Opening | _Bucket = field(default_factory=_Whole)
    opened: float | None = None
    """When the first record of this window was accepted."""
    least: float = 0.0
    """Seconds after its opening at which the last window was still found spent."""
    drips: int = 0
    refusals: int = 0
    refusing_since: float = inf
    last_refused: float = -inf

    def __post_init__(self) -> None:
        self.books = SlidingWindow(self.quota.window if self.quota else UNKNOWN_WINDOW)
        if self.quota is not None:
            self.cap = self.quota.created

    # --- questions: they change nothing

    def ask(self, now: float, *, under_way: int, records: int, nbytes: int) -> Go | Wait:
        """Tell whether a request of this size is within the quota."""
        cost = self._cost(records, nbytes)
        at_most = max(1, int(records / cost)) if cost > 1 else None
        cost = min(1.0, cost)
        match self.state:
            case _Whole():
                return self._ask_books(now, under_way, cost, at_most)
            case _Opening(taken=taken):
                if under_way >= max(1, taken // max(1, records)):
                    return Wait(inf, WaitReason.QUOTA)
                return self._ask_books(now, under_way, cost, at_most)
            case _Spent(probe_at=probe_at, refused=refused):
                room_at = self._room_at(now, (under_way + 1) * cost)
                if room_at <= now:
                    return Go(at_most)
                if under_way:
                    return Wait(inf, WaitReason.QUOTA)
                if probe_at <= now:
                    return Go(max(1, PROBE_RECORDS >> max(0, refused - 6)))
                return Wait(min(probe_at, room_at), WaitReason.QUOTA)
            case _Bucket(refill=refill) as bucket:
                room = bucket.now(now) - under_way * cost
                return Go(at_most) if room >= cost else Wait(now + (cost - room) / refill, WaitReason.QUOTA)
            case _:
                assert_never(self.state)

    def left(self, now: float) -> float | None:
        """Return the share of the quota that is believed to be left; None when none is known."""
        match self.state:
            case _Bucket() as bucket:
                return max(0.0, bucket.now(now))
            case _Spent() if self._room_at(now, self._cost(PROBE_RECORDS, 0)) > now:
                return 0.0
            case _:
                bounded = self.cap is not None or (self.quota is not None and self.quota.nbytes is not None)
                return max(0.0, 1 - self._used(now)) if bounded else None

    def is_probe(self, now: float) -> bool:
        """Tell whether what may be sent now is a probe of a spent quota."""
        answer = self.ask(now, under_way=0, records=PROBE_RECORDS, nbytes=0)
        return (
            isinstance(self.state, _Spent) and isinstance(answer, Go) and answer.records_at_most is not None
        )

    # --- facts

    def accepted(self, now: float, seen: Observation) -> None:
        """Book what a reply accepted."""
        self.refusals, self.refusing_since = 0, inf
        if not seen.records:
            return
        cost = self._cost(seen.records, seen.nbytes)
        if self.opened is None:
            self.opened = now
        match self.state:
            case _Whole():
                self._book(now, seen, cost)
            case _Spent(since=since) if seen.started < since:
                self.books.add(now, seen.records, seen.nbytes)
                if self.learnt:
                    self.cap = max(self.cap or 0, self.books.total(now)[0])
            case _Spent(beyond=True) if self.cap is not None:
                known = self.quota.created if self.quota else None
                self.cap = min(self.cap + self.cap // 4 + 1, known or self.cap * 2)
                self.state = _Whole()
                self._book(now, seen, cost)
            case _Spent() as spent:
                if self._room_at(now, min(1.0, cost)) > now:
                    self._open(now, spent, seen)
                else:
                    self.state = _Whole()
                    self._book(now, seen, cost)
            case _Opening() as opening:
                opening.taken += seen.records
                if opening.taken * 2 >= (self.cap or 0):
                    self.drips = 0
                    self.state = _Whole()
                self._book(now, seen, cost)
            case _Bucket() as bucket:
                bucket.level, bucket.at, bucket.misses = bucket.now(now) - cost, now, 0
                if now >= bucket.until:
                    self.books.clear()
                    self.opened, self.state = now, _Opening(spent=now)
                self.books.add(now, seen.records, seen.nbytes)
            case _:
                assert_never(self.state)

    def refused(self, now: float, seen: Observation) -> bool:
        """Learn from a 429; return whether it is taken as a spent quota and not as a matter of pace."""
        if seen.started >= self.last_refused:
            self.refusals += 1
            self.last_refused = now
            self.refusing_since = min(self.refusing_since, now)
        match self.state:
            case _Whole():
                if not self._is_spent(now, seen):
                    return False
                self._learn(now)
                self._close(now, seen.retry_after)
            case _Opening(spent=spent, taken=taken):
                self.drips += 1
                if self.drips >= DRIPS:
                    self._drip(now, spent, taken)
                else:
                    self._close(now, seen.retry_after)
            case _Spent(since=since) if seen.started < since:
                pass
            case _Spent() as probed:
                self._refused_probe(now, probed, seen.retry_after)
            case _Bucket() as bucket:
                bucket.level, bucket.at, bucket.misses = min(0.0, bucket.now(now)), now, bucket.misses + 1
                if bucket.misses >= MISSES:
                    self.drips = 0
                    self._close(now, seen.retry_after)
            case _:
                assert_never(self.state)
        return True

    # --- parts

    def _cost(self, records: float, nbytes: float) -> float:
        by_records = records / self.cap if self.cap else 0.0
        by_bytes = nbytes / self.quota.nbytes if self.quota and self.quota.nbytes else 0.0
        return max(by_records, by_bytes)

    def _used(self, now: float) -> float:
        return self._cost(*self.books.total(now))

    def _room_at(self, now: float, cost: float) -> float:
        """Return when the books have room for that share; infinity when no window is known."""
        if self.quota is None:
            return inf
        room = max(0.0, 1 - cost) + 1e-9
        return self.books.room_at(
            now,
            self.cap * room if self.cap else inf,
            self.quota.nbytes * room if self.quota.nbytes else inf,
        )

    def _ask_books(self, now: float, under_way: int, cost: float, at_most: int | None) -> Go | Wait:
        if self._used(now) + (under_way + 1) * cost <= 1 + 1e-9:
            return Go(at_most)
        if under_way:
            return Wait(inf, WaitReason.QUOTA)
        room_at = self._room_at(now, cost)
        return Wait(room_at if room_at < inf else now + FIRST_PROBE, WaitReason.QUOTA)

    def _book(self, now: float, seen: Observation, cost: float) -> None:
        """Book, and close when no more of this size is allowed."""
        self.books.add(now, seen.records, seen.nbytes)
        if self._used(now) + min(1.0, cost) > 1 + 1e-9:
            beyond = self.learnt
            self._close(now, None)
            assert isinstance(self.state, _Spent)
            if beyond:
                self.state.beyond, self.state.probe_at = True, now

    def _first_probe(self) -> float:
        """Return the time in which a bucket would regain a batch of a thousand records."""
        if self.quota is None or self.cap is None:
            return FIRST_PROBE
        return max(1.0, min(LONGEST_PROBE, self.quota.window * 1000 / self.cap))

    def _close(self, now: float, retry_after: float | None) -> None:
        interval = self._first_probe()
        probe_at = (
            max(now + interval, (self.opened or 0.0) + self.least)
            if retry_after is None
            else now + retry_after
        )
        self.state = _Spent(now, probe_at, interval, beyond=False)

    def _refused_probe(self, now: float, spent: _Spent, retry_after: float | None) -> None:
        if self.opened is not None:
            self.least = now - self.opened
        if spent.beyond:
            spent.beyond = False
        else:
            spent.interval = min(LONGEST_PROBE, spent.interval * GROWTH)
            spent.refused += 1
        spent.probe_at = now + (
            spent.interval * (1 + 0.1 * self.jitter) if retry_after is None else retry_after
        )

    def _open(self, now: float, spent: _Spent, seen: Observation) -> None:
        """Start the books anew: the service allows more than they did."""
        self.books.clear()
        self.opened = now
        self.state = _Opening(spent.since, seen.records)
        self.books.add(now, seen.records, seen.nbytes)

    def _drip(self, now: float, spent: float, taken: int) -> None:
        if self.quota is not None:
            refill = 1 / self.quota.window
        else:
            refill = self._cost(taken, 0) / max(1e-3, now - spent)
        self.drips = 0
        self.state = _Bucket(0.0, now, refill * REFILL_SAFETY, until=now + 1 / refill)

    def _is_spent(self, now: float, seen: Observation) -> bool:
        if (seen.retry_after or 0.0) > LONG_RETRY_AFTER:
            return True
        if self.refusals >= SHORT_REFUSALS and now - self.refusing_since >= SHORT_BACKOFF:
            return True
        records, nbytes = self.books.total(now)
        under_way = (records + 1000 * (seen.under_way - 1), nbytes + seen.nbytes * (seen.under_way - 1))
        if self._cost(*under_way) >= NEARLY:
            return True
        updated = self.quota.updated if self.quota else None
        return updated is not None and under_way[0] >= NEARLY * updated and records <= updated

    def _learn(self, now: float) -> None:
        """Take what was accepted for what a window holds."""
        records, nbytes = self.books.total(now)
        if self._cost(records, nbytes) < NEARLY and records:
            self.cap, self.learnt = records, True

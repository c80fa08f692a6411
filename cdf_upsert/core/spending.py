"""How much of a stream's quota is spent, and what its replies teach of it.

The kind of window is not published (fixed, sliding, a bucket that refills); for a template that is not known
neither is its size. So the books believe the least of all kinds, a sliding window. While that is full nothing
is sent but a small probe now and then, to find out whether the service is kinder. There are four states:

    WHOLE    nothing speaks against sending
    SPENT    only probes, until the books have room or a probe is accepted
    OPENING  a probe was accepted: as much again as was accepted since, until half a quota has passed
    BUCKET   twice an opening gave next to nothing: what is left refills evenly
"""

from dataclasses import dataclass, field
from math import inf
from typing import assert_never

from msgspec.structs import replace

from cdf_upsert.core.quota import Quota
from cdf_upsert.core.traffic import Go, Observation, Wait, WaitReason
from cdf_upsert.core.window import SlidingWindow

PROBE_RECORDS = 50
"""Records of a probe: little to lose when it is refused."""
PATIENT_PROBES = 16
"""Probes that are refused before they are halved in size: some windows may be smaller than a probe."""
FIRST_PROBE, LONGEST_PROBE = 2.0, 60.0
"""Seconds before the first probe when no window is known, and between two at most."""
CARE = 4
"""The part of what was accepted since a window opened that may be under way: a sliding one opens bit by bit."""
GROWTH = 1.5
"""From one interval between probes to the next."""
STEPS = 4
"""Probes between the times at which the last window was still shut and open again."""
SHORT_BACKOFF, SHORT_REFUSALS = 5.0, 4
"""Seconds and number of 429 and nothing else, after which they are no matter of pace."""
LONG_RETRY_AFTER = 10.0
"""Seconds of `Retry-After` that only a spent quota asks for: budgets are per second."""
BATCH = 1000
"""Records of a whole batch."""
NEARLY = 0.97
"""The share of a believed quota from which a 429 means that it is spent."""
USUAL_WINDOW = 600.0
"""Seconds of every window that is published: what an unknown one is taken for when its first part was shorter."""
UNKNOWN_WINDOW = 3600.0
"""Seconds for which the books are kept while the window is unknown."""
REFILL_SAFETY = 0.99
"""The share of a bucket's refill that is used."""
SLOWER, FASTER = 0.95, 1.001
"""What becomes of the refill that is believed in with a round of refusals, and with a batch accepted."""
DRIPS, MISSES = 2, 3
"""Openings in a row that gave next to nothing, which make a bucket; refusals in a row that unmake it."""
ROUNDING = 1e-9


@dataclass(slots=True)
class _Whole:
    pass


@dataclass(slots=True)
class _Spent:
    since: float
    probe_at: float
    told: bool
    """A reply said so, against the books: they are believed again when all in them is past."""
    beyond: int = 0
    """Records with which the next probe tries whether more is allowed than was learnt; 0: it is no such probe."""
    whole: bool = False
    """The service said when the batch that it refused would fit: the next probe is as large."""
    refused: int = 0
    shut_age: float = 0.0
    """Seconds after its opening at which the window was last found shut."""


@dataclass(slots=True)
class _Opening:
    at: float
    shut_age: float
    open_age: float
    """Between these ages of the last window this one opened."""
    records: int = 0
    nbytes: int = 0
    """What was accepted since, the probe included."""
    leftover: int = 0
    """Bytes that were refused when less than that was left: to have accepted as much tells of a new window."""
    refill: float | None = None
    """Of the bucket that it was believed to be, when that belief is tested."""

    @property
    def is_new(self) -> bool:
        return self.nbytes > 0 and self.nbytes >= self.leftover


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
    missed_at: float = -inf

    def left(self, now: float) -> float:
        return min(1.0, self.level + (now - self.at) * self.refill)


@dataclass(slots=True)
class Spending:
    """The books of one stream's quota; with no quota known, what its replies show of one."""

    quota: Quota | None
    jitter: float = 0.0
    cap: int | None = field(init=False)
    """Records of one window: known, or learnt from one that was spent."""
    learnt: bool = field(init=False, default=False)
    books: SlidingWindow = field(init=False)
    state: _Whole | _Spent | _Opening | _Bucket = field(init=False, default_factory=_Whole)
    opened: float | None = field(init=False, default=None)
    """When the first record of this window was accepted."""
    booked: float = field(init=False, default=-inf)
    """When the books were last added to."""
    shut_age: float = field(init=False, default=0.0)
    open_age: float = field(init=False, default=inf)
    """Seconds after its opening at which a window was last still shut, and open again."""
    guess: float = field(init=False, default=-inf)
    """The age at which the first window ended: one probe is enough to see that it was cut short."""
    refused_nbytes: int = field(init=False, default=0)
    """Bytes of the request that was refused when the quota was last spent; 0: none was, the books said so."""
    interval: float = field(init=False)
    """Seconds to the next probe."""
    beyond_at: float = field(init=False, default=-inf)
    drips: int = field(init=False, default=0)
    dripped: int = field(init=False, default=0)
    dripping_since: float = field(init=False, default=0.0)
    """Openings in a row that gave next to nothing, the records that they gave, and when that began."""
    refusals: int = field(init=False, default=0)
    """Rounds of 429 since the last record was accepted."""
    refusing_since: float = field(init=False, default=inf)
    last_refused: float = field(init=False, default=-inf)

    def __post_init__(self) -> None:
        self.cap = self.quota.created if self.quota else None
        self.books = SlidingWindow(self.quota.window if self.quota else UNKNOWN_WINDOW)
        self.interval = self._first_interval()

    # Questions: they change nothing.

    def ask(self, now: float, *, under_way: int, records: int, nbytes: int) -> Go | Wait:
        """Tell whether a request of this size is within the quota."""
        cost = self._share(records, nbytes)
        at_most = max(1, int(records / cost)) if cost > 1 else None
        cost = min(1.0, cost)
        match self.state:
            case _Opening() as opening if under_way >= max(1, opening.records // (CARE * max(1, records))):
                return Wait(inf, WaitReason.QUOTA)
            case _Opening(is_new=False):
                return Go(at_most)
            case _Whole() | _Opening() | _Spent():
                room_at = self._room_at(now, (under_way + 1) * cost)
                if room_at <= now:
                    return Go(at_most)
                if under_way:
                    return Wait(inf, WaitReason.QUOTA)
                probe_at = self.booked + self.interval
                if isinstance(self.state, _Spent):
                    probe_at = self.state.probe_at
                if probe_at <= now:
                    return Go(self._probe_records(now, cost / max(1, records)))
                return Wait(min(probe_at, room_at), WaitReason.QUOTA)
            case _Bucket(refill=refill) as bucket:
                left = bucket.left(now) - under_way * cost
                return Go(at_most) if left >= cost else Wait(now + (cost - left) / refill, WaitReason.QUOTA)
            case _:
                assert_never(self.state)

    def left(self, now: float) -> float | None:
        """Return the share of the quota that is believed to be left; None when none is known."""
        match self.state:
            case _Bucket() as bucket:
                return max(0.0, bucket.left(now))
            case _Spent() if self._room_at(now, self._share(1, 0)) > now:
                return 0.0
            case _Whole() | _Opening() | _Spent():
                bounded = self.cap is not None or (self.quota is not None and self.quota.nbytes is not None)
                return max(0.0, 1 - self._used(now)) if bounded else None
            case _:
                assert_never(self.state)

    def believed(self) -> Quota | None:
        """Return the quota as far as it is known or learnt; None when no window is known."""
        return replace(self.quota, created=self.cap) if self.quota is not None else None

    def is_probing(self, now: float) -> bool:
        """Tell whether nothing but a probe of a spent quota may be sent."""
        return isinstance(self.state, _Spent) and self._room_at(now, self._share(1, 1)) > now

    # Facts.

    def sent(self, now: float, *, records: int, nbytes: int) -> None:
        """Note a request that goes beyond the books: a probe."""
        by_books = isinstance(self.state, _Whole) or (isinstance(self.state, _Opening) and self.state.is_new)
        if by_books and self._room_at(now, min(1.0, self._share(records, nbytes))) > now:
            self._close(now, told=False, retry_after=None)

    def accepted(self, now: float, seen: Observation) -> None:
        """Book what a reply accepted."""
        self.refusals, self.refusing_since = 0, inf
        if not seen.records:
            return
        cost = min(1.0, self._share(seen.records, seen.nbytes))
        if self.opened is None:
            self.opened = now
        match self.state:
            case _Whole():
                self._book(now, seen, cost)
            case _Spent(since=since) if seen.started < since:
                self.books.add(now, seen.records, seen.nbytes)
                if self.learnt:
                    self.cap = max(self.cap or 0, self.books.total(now)[0])
            case _Spent(beyond=beyond) as spent if beyond:
                self.books.add(now, seen.records, seen.nbytes)
                self.cap = self.books.total(now)[0]
                spent.since, spent.probe_at, spent.beyond = now, now, 4 * beyond
            case _Spent() as spent if self._room_at(now, cost) > now:
                age = now - self.opened
                if not self.drips:
                    self.dripped, self.dripping_since = 0, spent.since
                self.state = _Opening(now, spent.shut_age, age, leftover=self.refused_nbytes)
                self._take(now, self.state, seen, cost)
            case _Spent() as spent:
                if self._used(now) < 0.5:
                    self._set_ages(spent.shut_age, now - self.opened)
                    self.opened = now
                self.state = _Whole()
                self._book(now, seen, cost)
                if isinstance(self.state, _Spent):
                    self.state = spent  # It was a remainder, which tells nothing of when to probe.
            case _Opening() as opening:
                self._take(now, opening, seen, cost)
            case _Bucket() as bucket:
                bucket.level, bucket.at, bucket.misses = bucket.left(now) - cost, now, 0
                bucket.refill *= FASTER
                if now >= bucket.until:
                    self.drips = DRIPS - 1
                    self.state = _Opening(now, 0.0, inf, refill=bucket.refill)
                    self._take(now, self.state, seen, cost)
                else:
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
                self._close(now, told=not self.books.total(now)[0], retry_after=seen.retry_after)
                self.refused_nbytes = seen.nbytes
            case _Opening() as opening:
                self.drips += opening.is_new
                self.interval = self._first_interval() if opening.is_new else self._longer()
                if self.drips >= DRIPS:
                    self._drip(now, opening)
                else:
                    self._close(now, told=True, retry_after=seen.retry_after)
                    self.refused_nbytes = seen.nbytes
            case _Spent() as probed:
                if seen.started >= probed.since:
                    self._refused_probe(now, probed, seen.retry_after)
            case _Bucket() as bucket:
                bucket.level, bucket.at = min(0.0, bucket.left(now)), now
                if seen.started >= bucket.missed_at:
                    bucket.misses, bucket.missed_at = bucket.misses + 1, now
                    bucket.refill *= SLOWER
                if bucket.misses >= MISSES:
                    self.drips = 0
                    self._close(now, told=True, retry_after=seen.retry_after)
            case _:
                assert_never(self.state)
        return True

    # Parts.

    def _share(self, records: float, nbytes: float) -> float:
        """Return what share of a window that is."""
        by_records = records / self.cap if self.cap else 0.0
        by_bytes = nbytes / self.quota.nbytes if self.quota and self.quota.nbytes else 0.0
        return max(by_records, by_bytes)

    def _used(self, now: float) -> float:
        return self._share(*self.books.total(now))

    def _room_at(self, now: float, cost: float) -> float:
        """Return when there is room for that share, by the books; infinity when no window is known."""
        if self.quota is None:
            spent = isinstance(self.state, _Spent) or self._used(now) + cost > 1 + ROUNDING
            return inf if spent else now
        if isinstance(self.state, _Spent) and self.state.told:
            return max(now, self.state.since + self.quota.window)
        room = max(0.0, 1 - cost) + ROUNDING
        return self.books.room_at(
            now,
            self.cap * room if self.cap else inf,
            self.quota.nbytes * room if self.quota.nbytes else inf,
        )

    def _probe_records(self, now: float, share_of_one: float) -> int | None:
        """Return the size of a probe: more than the books say is left, so that to accept it tells something."""
        if isinstance(self.state, _Spent) and self.state.beyond:
            return self.state.beyond
        if isinstance(self.state, _Spent) and self.state.whole:
            return None
        if isinstance(self.state, _Spent) and (self.state.told or not share_of_one):
            return max(1, PROBE_RECORDS >> max(0, self.state.refused - PATIENT_PROBES))
        return PROBE_RECORDS + int(max(0.0, 1 - self._used(now)) / share_of_one)

    def _book(self, now: float, seen: Observation, cost: float) -> None:
        """Book, and close when no more of this size is allowed."""
        self.books.add(now, seen.records, seen.nbytes)
        self.booked = now
        if self._used(now) + min(1.0, max(cost, self._share(BATCH, 0))) > 1 + ROUNDING:
            self._close(now, told=False, retry_after=None)
            if self.learnt and now >= self.beyond_at and isinstance(self.state, _Spent):
                self.state.beyond, self.state.probe_at = PROBE_RECORDS, now
                self.beyond_at = now + self.books.seconds / 2

    def _first_interval(self) -> float:
        """Return the seconds in which a bucket would regain a whole batch."""
        if self.quota is None or self.cap is None:
            return FIRST_PROBE
        return max(1.0, min(LONGEST_PROBE, self.quota.window * BATCH / self.cap))

    def _close(self, now: float, *, told: bool, retry_after: float | None) -> None:
        self.state = _Spent(now, self._probe_at(now, retry_after), told, whole=retry_after is not None)
        self.refused_nbytes = 0

    def _probe_at(self, now: float, retry_after: float | None) -> float:
        """Return when to probe next, by what the reply says or by what the last windows did."""
        if retry_after is not None:
            return now + retry_after
        age = now - (now if self.opened is None else self.opened)
        if age < self.guess:
            return now + max(self.interval, self.guess - age)
        if age < self.shut_age:
            return now + max(self.interval, self.shut_age - age)
        if age < self.open_age < inf:
            return now + max(1.0, (self.open_age - self.shut_age) / STEPS)
        return now + self.interval * (1 + 0.1 * self.jitter)

    def _set_ages(self, shut_age: float, open_age: float) -> None:
        """Remember between which ages a window opened; one not found shut tells only when it was open."""
        usual = self.quota.window if self.quota else USUAL_WINDOW
        if self.open_age == inf and open_age < usual:  # It may have begun before the load.
            self.guess, self.shut_age, self.open_age = open_age, usual - (open_age - shut_age), usual
            return
        self.shut_age = shut_age or min(self.shut_age, 0.95 * open_age)
        self.open_age = open_age

    def _refused_probe(self, now: float, spent: _Spent, retry_after: float | None) -> None:
        if spent.beyond:
            spent.beyond = 0
        else:
            spent.refused += 1
            spent.shut_age = now - (now if self.opened is None else self.opened)
            self.interval = self._longer()
        spent.probe_at = self._probe_at(now, retry_after)

    def _take(self, now: float, opening: _Opening, seen: Observation, cost: float) -> None:
        """Book what was accepted after a probe; the books begin anew as soon as there is a new window."""
        was_new = opening.is_new
        opening.records += seen.records
        opening.nbytes += seen.nbytes
        self.dripped += seen.records
        if opening.is_new and not was_new:
            self.books.clear()
            self.books.add(now, opening.records - seen.records, opening.nbytes - seen.nbytes)
        if opening.is_new and opening.records * 2 >= (self.cap or 0):
            self.opened = opening.at
            self._set_ages(opening.shut_age, opening.open_age)
            self.drips, self.interval = 0, self._first_interval()
            self.state = _Whole()
        if opening.is_new:
            self._book(now, seen, cost)
        else:
            self.books.add(now, seen.records, seen.nbytes)

    def _longer(self) -> float:
        return min(LONGEST_PROBE, self.interval * GROWTH)

    def _drip(self, now: float, opening: _Opening) -> None:
        """Believe in a bucket, which refills as published, or as it was seen to when that is much more."""
        seen = self._share(self.dripped, 0) / max(1e-3, now - self.dripping_since)
        published = 1 / self.quota.window if self.quota else 0.0
        refill = opening.refill or REFILL_SAFETY * (seen if seen > 2 * published else published)
        self.drips = 0
        self.state = _Bucket(0.0, now, refill, until=now + 1 / refill)

    def _is_spent(self, now: float, seen: Observation) -> bool:
        if (seen.retry_after or 0.0) > LONG_RETRY_AFTER:
            return True
        if self.refusals >= SHORT_REFUSALS and now - self.refusing_since >= SHORT_BACKOFF:
            return True
        records, nbytes = self.books.total(now)
        most = records + BATCH * (seen.under_way - 1)  # Some of what is under way may be accepted already.
        if self._share(most, nbytes + seen.nbytes * (seen.under_way - 1)) >= NEARLY:
            return True
        updated = self.quota.updated if self.quota else None
        return updated is not None and records <= updated and most >= NEARLY * updated

    def _learn(self, now: float) -> None:
        """Take what was accepted for what a window holds."""
        records, nbytes = self.books.total(now)
        if records and self._share(records, nbytes) < NEARLY:
            self.cap, self.learnt = records, True

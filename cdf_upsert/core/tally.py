"""Facts to counts, rates, latencies, failure groups, and a ledger that must balance."""

from collections import Counter, deque
from math import ceil, exp, floor, log
from typing import assert_never

from msgspec import Struct

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Outcome,
    Paced,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.grouping import FailureGroups

WINDOW = 10.0
"""Seconds over which a rate is recent."""
_SLOT = 0.25


class RecentRate:
    """Records per second over the last `WINDOW` seconds, in flat memory."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._slots: deque[list[float]] = deque(maxlen=int(WINDOW / _SLOT) + 1)

    def add(self, at: float, count: int) -> None:
        """Count what happened at `at`."""
        if self._slots and at < self._slots[-1][0] + _SLOT:
            self._slots[-1][1] += count
        else:
            self._slots.append([at, count])

    def per_second(self, now: float) -> float:
        """Return the rate at `now`; before a whole window has passed, over the time since the start."""
        seconds = min(WINDOW, now - self._started)
        if seconds <= 0:
            return 0.0
        return sum(count for at, count in self._slots if at > now - WINDOW) / seconds


_STEP = log(1.04)
_SHORTEST, _LONGEST = 1e-4, 1e5


class Latencies:
    """Percentiles of durations in flat memory: buckets that are 4 % wide, so an answer is at most 2 % off."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0

    def add(self, seconds: float) -> None:
        """Count one duration; what is outside of 0.1 ms to a day counts as that."""
        self._buckets[floor(log(min(max(seconds, _SHORTEST), _LONGEST)) / _STEP)] += 1
        self._count += 1

    def percentile(self, percent: int) -> float | None:
        """Return the seconds that `percent` of all durations did not exceed; None when there are none."""
        behind = ceil(self._count * percent / 100)
        for bucket in sorted(self._buckets):
            behind -= self._buckets[bucket]
            if behind <= 0:
                return exp((bucket + 0.5) * _STEP)
        return None


class InputTally(Struct):
    """What was read of one input. `position` counts in `total_bytes`, which is None when nobody knows.

    `format` is None for an input that was not opened: only records of an earlier run came from it.
    """

    path: str
    format: str | None = None
    total_bytes: int | None = None
    records: int = 0
    nbytes: int = 0
    position: int = 0


class Tally:
    """Listens to the events of one run and sums them up; whoever shows or reports reads its fields.

    Args:
        started: when the run began, on the clock of the events.
        total_bytes: of all inputs together as stored, for the share that is done; None: what the inputs that
            have been opened say.

    """

    def __init__(self, started: float, total_bytes: int | None = None) -> None:
        self.started = started
        self.heard_at = started
        """When the last event happened that tells its time."""
        self.inputs: list[InputTally] = []
        self.read = self.accepted = self.failed = self.superseded = self.already_accepted = self.unsent = 0
        self.sent = self.retried = self.throttled = self.nbytes = self.wire_bytes = self.under_way = 0
        self.latencies = Latencies()
        self.groups = FailureGroups()
        self.paced: Paced | None = None
        self.waited: dict[str, float] = {}
        """Seconds for which nothing could be sent, by reason."""
        self.waiting: Waiting | None = None
        """Why nothing is sent; None when something was sent since."""
        self.ended: Ended | None = None
        self._total_bytes = total_bytes
        self._opened_bytes: int | None = 0
        self._position = 0
        self._reading: dict[str, InputTally] = {}
        self._recent = RecentRate(started)

    def hear(self, event: Event) -> None:
        """Take one event into account."""
        match event:
            case InputOpened():
                self._open(event)
                return
            case BlockRead():
                self._read(event)
                return
            case BatchSent():
                self._wait_over(event.at)
                self.sent += 1
                self.retried += event.retry
                self.nbytes += event.nbytes
                self.under_way = event.under_way
            case BatchReplied():
                self.wire_bytes += event.wire_bytes
                self.under_way = event.under_way
                self.throttled += event.status == 429
                if event.status is not None:
                    self.latencies.add(event.seconds)
            case Settled():
                self.accepted += event.accepted
                self.superseded += event.superseded
                self.already_accepted += event.already_accepted
                self.read += event.already_accepted  # The earlier run read them, and no block tells of them.
                self.failed += len(event.failed)
                self._recent.add(event.at, event.accepted)
                for failed in event.failed:
                    self.groups.add(failed)
            case Waiting():
                self._wait_over(event.at)
                self.waiting = event
            case Paced():
                self.paced = event
            case Retrying() | Notice():
                pass
            case Ended():
                self._wait_over(event.at)
                self.unsent = event.unsent
                self.ended = event
            case _:
                assert_never(event)
        self.heard_at = max(self.heard_at, event.at)

    def _wait_over(self, now: float) -> None:
        if self.waiting is not None:
            reason = self.waiting.reason
            self.waited[reason] = self.waited.get(reason, 0.0) + now - self.waiting.at
            self.waiting = None

    @property
    def throttled_share(self) -> float:
        """The share of 429 among the requests."""
        return self.throttled / self.sent if self.sent else 0.0

    @property
    def seconds(self) -> float:
        """How long the run took, until the last event."""
        return self.heard_at - self.started

    @property
    def settled(self) -> int:
        """Records that have their final outcome."""
        return self.accepted + self.failed + self.superseded + self.already_accepted

    def recent_rate(self, now: float) -> float:
        """Return the records per second that were accepted lately."""
        return self._recent.per_second(now)

    def share(self) -> float | None:
        """Return how much of the inputs is settled, from 0 to 1, by bytes; None when their size is not known.

        What is read but not settled counts for nothing, by the mean size of the records so far.
        """
        total = self._opened_bytes if self._total_bytes is None else self._total_bytes
        if not total or not self.read:
            return None
        return min(1.0, self._position / total * self.settled / self.read)

    def seconds_left(self, now: float) -> float | None:
        """Return how long the rest takes at the mean speed of this run; None when nothing tells."""
        share = self.share()
        done = self.settled - self.already_accepted
        if share is None or not done:
            return None
        by_this_run = share * done / self.settled
        return (1 - share) * (now - self.started) / by_this_run if by_this_run else None

    def balance(self, *, dry_run: bool = False) -> str | None:
        """Return None when each record that was read is accounted for, else a sentence that says what is off.

        Holds only once the run has ended: before that, records are under way. Only a dry run may finish with
        records that are unsent.
        """
        accounted = self.settled + self.unsent
        if self.read != accounted:
            return (
                f"The books do not balance: {self.read:,} records were read, but {accounted:,} are accounted "
                f"for ({self.accepted:,} accepted, {self.failed:,} failed, {self.superseded:,} superseded, "
                f"{self.already_accepted:,} already accepted, {self.unsent:,} unsent)."
            )
        outcome = None if self.ended is None else self.ended.outcome
        if outcome in (Outcome.COMPLETE, Outcome.FAILURES) and self.unsent and not dry_run:
            return f"The books do not balance: a run that is called finished has {self.unsent:,} unsent."
        return None

    def _open(self, event: InputOpened) -> None:
        source = self._reading.get(event.path)
        if source is None or source.format is not None:
            source = self._add_input(event.path)
        source.format, source.total_bytes = event.format, event.total_bytes
        if event.total_bytes is None or self._opened_bytes is None:
            self._opened_bytes = None
        else:
            self._opened_bytes += event.total_bytes

    def _read(self, event: BlockRead) -> None:
        self.read += event.records
        if not event.path:
            return
        source = self._reading.get(event.path) or self._add_input(event.path)
        source.records += event.records
        source.nbytes += event.nbytes
        if event.position > source.position:
            self._position += event.position - source.position
            source.position = event.position

    def _add_input(self, path: str) -> InputTally:
        source = self._reading[path] = InputTally(path)
        self.inputs.append(source)
        return source

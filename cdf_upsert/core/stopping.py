"""When a run stops by itself, in good order: too many failures, too long, put off too long, one fault only.

Times are seconds of one monotonic clock.
"""

import re
from collections import Counter
from enum import StrEnum
from math import ceil
from typing import assert_never

from msgspec import Struct

from cdf_upsert.core import events
from cdf_upsert.core.grouping import pattern_of
from cdf_upsert.core.record import Failed, FailureClass
from cdf_upsert.core.wording import duration

SAMPLE = 1_000
"""Settled records before a percentage means anything; when it is low there are more."""
EXPECTED = 10
"""Failures that a sample is to hold when the percentage is just reached."""
FIRST_ALIKE = 100
"""Records refused alike, and none accepted, that end a run of which nobody said how many may fail."""
LOCAL = frozenset({FailureClass.UNREADABLE, FailureClass.INVALID, FailureClass.OVERSIZE})
"""What fails before it is sent: it tells nothing of the service."""


class StopKind(StrEnum):
    """Which rule ended the run."""

    MAX_FAILURES = "max_failures"
    MAX_DURATION = "max_duration"
    PATIENCE = "patience"
    ALL_ALIKE = "all_alike"


class Stop(Struct, frozen=True):
    """The run is to stop; `reason` is a whole sentence."""

    kind: StopKind
    reason: str


class FailureCount(Struct, frozen=True):
    """More failed records than this are too many."""

    records: int


class FailurePercent(Struct, frozen=True):
    """More failed records in a hundred settled ones than this are too many."""

    percent: float

    @property
    def sample(self) -> int:
        """Return how many records are to be settled before the percentage is looked at."""
        return max(SAMPLE, ceil(EXPECTED * 100 / self.percent)) if self.percent else SAMPLE


MaxFailures = FailureCount | FailurePercent


def parse_max_failures(text: str) -> MaxFailures:
    """Return what `--max-failures` names: `100` or `2.5%`.

    Raises:
        ValueError: the text is of another form; the message is a whole sentence.

    """
    count = re.fullmatch(r"\s*(\d+)\s*", text)
    if count:
        return FailureCount(int(count[1]))
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if percent and float(percent[1]) <= 100:
        return FailurePercent(float(percent[1]))
    raise ValueError(f"{text!r} is no number of failures: write a count such as 100, or a share such as 2%.")


class StoppingPolicy(Struct, frozen=True):
    """What the user set; durations in seconds, None: no such bound."""

    max_failures: MaxFailures | None = None
    max_duration: float | None = None
    patience: float | None = 1800.0


class Stopping:
    """Hears what happens in a run and says when to stop it."""

    def __init__(self, policy: StoppingPolicy, now: float) -> None:
        self._policy = policy
        self._started = now
        self._settled = 0
        self._failed = 0
        self._accepted = 0
        self._put_off_since: float | None = None
        self._last_said = ""
        self._refused = 0
        self._alike: Failed | None = None
        self._patterns: Counter[tuple[FailureClass, int | None, str]] = Counter()

    def hear(self, event: events.Event) -> None:
        """Take in what has happened; only settlements, and batches that are put off, matter."""
        match event:
            case events.Settled():
                self._hear_settled(event)
            case events.Retrying(at=at, reason=reason, message=message):
                self._last_said = message or reason
                if self._put_off_since is None:
                    self._put_off_since = at
            case (
                events.InputOpened()
                | events.BlockRead()
                | events.BatchSent()
                | events.BatchReplied()
                | events.Waiting()
                | events.Paced()
                | events.Notice()
                | events.Ended()
            ):
                pass
            case _:
                assert_never(event)

    def verdict(self, now: float) -> Stop | None:
        """Tell whether to stop now, and why."""
        return self._too_many() or self._all_alike() or self._too_long(now) or self._in_vain(now)

    def deadline(self, now: float) -> float | None:
        """Return when time alone may next end the run; None when it cannot, and never a time that is past."""
        times = []
        if self._policy.max_duration is not None:
            times.append(self._started + self._policy.max_duration)
        if self._policy.patience is not None and self._put_off_since is not None:
            times.append(self._put_off_since + self._policy.patience)
        return min((time for time in times if time > now), default=None)

    def _hear_settled(self, event: events.Settled) -> None:
        self._settled += event.accepted + event.superseded + len(event.failed)
        self._failed += len(event.failed)
        self._accepted += event.accepted
        if event.accepted:
            self._put_off_since = None
        if self._accepted or self._policy.max_failures is not None:
            return
        for failed in event.failed:
            failure = failed.failure
            if failure.kind not in LOCAL and len(self._patterns) < 2:
                self._alike = self._alike or failed
                self._refused += 1
                self._patterns[failure.kind, failure.status, pattern_of(failure.message, failed.key)] += 1

    def _too_many(self) -> Stop | None:
        match self._policy.max_failures:
            case None:
                return None
            case FailureCount(records):
                if self._failed <= records:
                    return None
                allowed = f"--max-failures allows {records:,}"
            case FailurePercent(percent) as share:
                if self._settled < share.sample or self._failed * 100 <= self._settled * percent:
                    return None
                allowed = f"--max-failures allows {percent:g} %"
            case _:
                assert_never(self._policy.max_failures)
        of_all = f"{self._failed:,} of {self._settled:,} records failed"
        return Stop(StopKind.MAX_FAILURES, f"Stopped because {of_all}, and {allowed}.")

    def _all_alike(self) -> Stop | None:
        if self._accepted or self._alike is None or self._refused < FIRST_ALIKE or len(self._patterns) > 1:
            return None
        failure = self._alike.failure
        status = f" {failure.status}" if failure.status is not None else ""
        return Stop(
            StopKind.ALL_ALIKE,
            f"Stopped because no record was accepted and the first {self._refused:,} failed in the same way:"
            f" {failure.kind.value}{status}: {failure.message.rstrip('.')}."
            " To go on in spite of it, set --max-failures.",
        )

    def _too_long(self, now: float) -> Stop | None:
        longest = self._policy.max_duration
        if longest is None or now - self._started < longest:
            return None
        return Stop(StopKind.MAX_DURATION, f"Stopped after {duration(longest)}, as --max-duration asks.")

    def _in_vain(self, now: float) -> Stop | None:
        longest, since = self._policy.patience, self._put_off_since
        if longest is None or since is None or now - since < longest:
            return None
        return Stop(
            StopKind.PATIENCE,
            f"Stopped because the service put the load off for {duration(longest)} without accepting a"
            f" record, at last with: {self._last_said.rstrip('.')}; --patience sets how long to go on.",
        )

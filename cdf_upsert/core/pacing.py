"""When the next request may be sent: every bound of the service in one answer.

Single-threaded with one owner, no clock inside: each method is told `now`, in seconds of a monotonic clock.
"""

from copy import copy
from math import inf
from typing import assert_never

from msgspec import Struct

from cdf_upsert.core.breaker import Breaker, RetryBudget
from cdf_upsert.core.concurrency import Limit
from cdf_upsert.core.quota import Quota
from cdf_upsert.core.rates import FEW_CALM, MaxRate, known_pace
from cdf_upsert.core.spending import Spending
from cdf_upsert.core.traffic import Go, Observation, Signal, Wait, WaitReason

__all__ = ["Go", "Observation", "Pacing", "PacingState", "Policy", "Signal", "Wait", "WaitReason"]

SHORTEST_ROUND = 0.25
"""Seconds: refusals come faster than what is accepted meanwhile, so that two so near are one round."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0
"""Seconds of pause after the second round of 429 in a row, doubled with each further one."""
SHORTEST_WAIT = 0.001
"""Seconds: what is nearer is not worth a wait, and no answer says to ask again at once."""
EXPLORE_PER_PAUSE = 50
"""A pause that a 429 cost is to be at most one part in so many of the time until the next try of more."""


SETTLING = 1.0
"""Seconds until a budget per second has forgotten what went before the pace came down."""


class Policy(Struct, frozen=True):
    """What is known and wanted before the first request."""

    concurrency: int | None = None
    """Requests at once; None: find out."""
    ceiling: int = 15
    """Requests at once at most; 15 is the budget of one identity."""
    start: int = 2
    requests_per_second: float | None = None
    """A known budget; None: find out."""
    max_rate: float | None = None
    """Records per second at most."""
    quota: Quota | None = None
    """What a window holds; None: find out."""
    jitter: float = 0.0
    """One throw of the dice in [0, 1): keeps loads that wait for the same service from asking in step."""


class PacingState(Struct, frozen=True):
    """What is in force: for the screen, the log and the report."""

    limit: int
    pace: float | None
    """Requests per second; None: not bounded."""
    breaker_open: bool
    quota_left: float | None
    """Share of the window that is left; None: not known to be bounded."""
    quota: Quota | None
    """What a window is believed to hold, with what was learnt; None: not known."""
    throttled_share: float
    """429 among all replies of the run."""
    wait: Wait | None
    """What a whole batch would have to wait for if nothing else were under way."""


class Pacing:
    """All bounds of the service, and what its replies have taught of them."""

    def __init__(self, policy: Policy, now: float) -> None:
        fixed = policy.concurrency is not None
        ceiling = policy.concurrency or policy.ceiling
        self._limit = Limit(ceiling if fixed else min(policy.start, ceiling), ceiling, fixed=fixed)
        self._pace = known_pace(policy.requests_per_second)
        self._max_rate = MaxRate(policy.max_rate)
        self._quota = Spending(policy.quota, policy.jitter)
        self._breaker = Breaker(policy.jitter)
        self._retries = RetryBudget(now)
        self._closed_until = -inf
        self._paused_until = -inf
        self._rounds = 0  # Rounds of 429 since the last calm reply.
        self._round_began = -inf
        self._counted = -inf
        self._last_429 = -inf
        self._blame_limit = False
        self._before = (copy(self._limit), copy(self._pace))
        self._replies = 0
        self._throttled = 0

    def may_send(self, now: float, *, under_way: int, records: int, nbytes: int, retry: bool) -> Go | Wait:
        """Tell whether a request of this size may be sent; a pure question.

        Args:
            now: seconds of a monotonic clock.
            under_way: requests under way, this one not included.
            records: what the request would carry.
            nbytes: of the request, before compression.
            retry: whether its batch was sent before.

        """
        alone = self._breaker.is_open or self._rounds > 1
        if under_way >= (1 if alone else self._limit.value):
            return Wait(inf, WaitReason.LIMIT)
        quota = self._quota.ask(now, under_way=under_way, records=records, nbytes=nbytes)
        waits = [
            Wait(self._closed_until, WaitReason.RETRY_AFTER),
            Wait(self._paused_until, WaitReason.PACE),
            Wait(self._pace.wait_until(now), WaitReason.PACE),
            Wait(self._max_rate.next_at, WaitReason.MAX_RATE),
        ]
        if self._breaker.is_open:
            waits.append(Wait(self._breaker.probe_at, WaitReason.BREAKER))
        elif retry and not self._quota.is_probing(now):
            waits.append(Wait(self._retries.wait_until(now), WaitReason.RETRY_BUDGET))
        if isinstance(quota, Wait):
            waits.append(quota)
        longest = max(waits, key=lambda wait: wait.until)
        if longest.until > now:
            return Wait(max(longest.until, now + SHORTEST_WAIT), longest.reason)
        assert isinstance(quota, Go)
        return quota

    def sent(self, now: float, *, records: int, nbytes: int, retry: bool) -> None:
        """Book a request that has been sent."""
        self._quota.sent(now, records=records, nbytes=nbytes)
        self._pace.sent(now)
        self._max_rate.sent(now, records)
        if retry:
            self._retries.sent(now)

    def observed(self, now: float, observation: Observation) -> None:
        """Learn from a request that has ended."""
        self._replies += 1
        if observation.retry_after is not None and observation.signal is not Signal.CALM:
            self._closed_until = max(self._closed_until, now + observation.retry_after)
        match observation.signal:
            case Signal.CALM:
                self._observe_calm(now, observation)
            case Signal.THROTTLED:
                self._observe_throttled(now, observation)
            case Signal.UNAVAILABLE:
                self._observe_unavailable(now, observation)
            case _:
                assert_never(observation.signal)

    def state(self, now: float) -> PacingState:
        """Return what is in force."""
        answer = self.may_send(now, under_way=0, records=1000, nbytes=0, retry=False)
        return PacingState(
            limit=self._limit.value,
            pace=self._pace.value,
            breaker_open=self._breaker.is_open,
            quota_left=self._quota.left(now),
            quota=self._quota.believed(),
            throttled_share=self._throttled / self._replies if self._replies else 0.0,
            wait=answer if isinstance(answer, Wait) else None,
        )

    def _observe_calm(self, now: float, seen: Observation) -> None:
        self._went_well(now)
        self._rounds, self._paused_until = 0, -inf
        self._limit.observe_calm(now, seen)
        self._pace.observe_calm(now, seen)
        self._quota.accepted(now, seen)

    def _observe_throttled(self, now: float, seen: Observation) -> None:
        self._throttled += 1
        if self._breaker.observe_well():
            self._limit.begin_anew(now)
        if self._rounds == 0:
            self._before = (copy(self._limit), copy(self._pace))
        if self._quota.refused(now, seen):
            self._pace = self._before[1]
            self._limit = self._before[0].in_force_again(now, self._limit)
            self._rounds, self._paused_until = 0, -inf
            return
        self._pace.each_refused.append(now)
        if seen.started < self._round_began:
            return  # It was sent before the last decision, and says nothing of what that did.
        if self._rounds == 0 or now - self._counted >= SHORTEST_ROUND:
            self._rounds, self._counted = self._rounds + 1, now
        self._last_429, self._round_began = self._round_began, now
        if self._rounds > 1:
            self._paused_until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._rounds - 2))
        self._limit.explore_at = self._pace.explore_at = now + EXPLORE_PER_PAUSE * (seen.retry_after or 0.0)
        one_too_many = self._limit.is_one_too_many(now, seen)
        suspect_limit = one_too_many or self._is_limit_to_blame(now, seen)
        self._pace.rest(now, max(self._closed_until, self._paused_until))
        if not suspect_limit and now - self._pace.lowered < SETTLING:
            return  # The pace came down just now, and what was sent before still counts.
        self._blame_limit = suspect_limit
        if one_too_many:
            self._limit.observe_one_too_many(now, seen.under_way)
            self._pace.acquit()
        elif suspect_limit:
            self._limit.observe_throttled(now)
        elif not self._pace.observe_throttled(now, seen):
            self._paused_until = max(self._paused_until, now + FIRST_PAUSE)

    def _is_limit_to_blame(self, now: float, seen: Observation) -> bool:
        """Tell whether a 429 is taken to be about the number at once, and not about the pace.

        A number that was seen to be fine is not, and a pace that has just gone up is the first suspect. But
        when one 429 after the other says that the pace was not the reason, it is the number's turn.
        """
        if self._limit.fixed or self._limit.value == 1:
            return False
        pace_raised = self._pace.raised > self._last_429
        if self._limit.value > self._limit.proven and seen.under_way * 2 > self._limit.value:
            return not pace_raised or self._limit.raised > self._pace.raised
        settled = now - self._pace.lowered >= SETTLING
        return settled and not pace_raised and not self._blame_limit and self._pace.calm < FEW_CALM

    def _observe_unavailable(self, now: float, seen: Observation) -> None:
        self._limit.observe_unavailable(now, seen)
        if seen.records:  # Some of the batch was accepted: in trouble, but there.
            self._went_well(now)
            self._quota.accepted(now, seen)
        else:
            self._breaker.observe_failure(now, seen)

    def _went_well(self, now: float) -> None:
        self._retries.observe_well(now)
        if self._breaker.observe_well():
            self._limit.begin_anew(now)

"""A simulated service and a simulated loader on a fake clock: discrete events, no sleep, no socket."""

import heapq
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cdf_upsert.core.pacing import Observation, Pacing, Policy, Signal, Wait
from cdf_upsert.core.quota import Quota

Kind = Literal["fixed", "sliding", "bucket"]


@dataclass
class Bound:
    """So many units in so many seconds, kept in one of the three usual ways."""

    units: float
    seconds: float
    kind: Kind
    phase: float = 0.0  # When the fixed windows begin.
    level: float = field(init=False)
    at: float = 0.0
    log: deque[tuple[float, float]] = field(default_factory=deque)
    used: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.units

    def take(self, now: float, units: float, share: float = 1.0) -> bool:
        """Take them all or none; `share` is what a neighbour leaves."""
        room = self.room(now, share)
        if units > room + 1e-9:
            return False
        self.spend(now, units)
        return True

    def spend(self, now: float, units: float) -> None:
        self.level -= units
        self.used += units
        self.log.append((now, units))

    def room(self, now: float, share: float) -> float:
        match self.kind:
            case "bucket":
                self.level = min(
                    self.units * share, self.level + (now - self.at) * share * self.units / self.seconds
                )
                self.at = now
                return self.level
            case "fixed":
                if (now - self.phase) // self.seconds != (self.at - self.phase) // self.seconds:
                    self.used = 0.0
                self.at = now
                return self.units * share - self.used
            case "sliding":
                while self.log and self.log[0][0] + self.seconds <= now:
                    self.used -= self.log.popleft()[1]
                return self.units * share - self.used

    def wait(self, now: float, units: float) -> float:
        """Seconds until there is room: what an honest `Retry-After` says."""
        match self.kind:
            case "bucket":
                return (units - self.level) * self.seconds / self.units
            case "fixed":
                return self.seconds - (now - self.phase) % self.seconds
            case "sliding":
                freed = self.units - self.used
                for at, taken in self.log:
                    freed += taken
                    if freed >= units:
                        return at + self.seconds - now
                return self.seconds


@dataclass
class Request:
    started: float
    records: int
    under_way: int
    retry: bool


class Service:
    """Answers as a scenario says; all its chance comes from one seed."""

    def __init__(self, spec: Mapping[str, Any], seed: int) -> None:
        self.latency: float = spec["latency"]
        self.spread: float = spec.get("spread", 0.05)
        self.parallel: int | None = spec.get("parallel")
        self.at_once: int | None = spec.get("at_once")
        self.sheds_beyond: int | None = spec.get("sheds_beyond")  # At once; answers 503 to what is more.
        self.retry_after: bool = spec.get("retry_after", False)
        self.counts_refused: bool = spec.get("counts_refused", False)
        self.per_second = (
            Bound(spec["per_second"], 1.0, spec["per_second_kind"]) if "per_second" in spec else None
        )
        quota = spec.get("quota")
        self.quota = (
            Bound(quota["records"], quota["window"], quota["kind"], quota.get("phase", 0.0))
            if quota
            else None
        )
        self.dead: list[tuple[float, float]] = [tuple(span) for span in spec.get("dead", [])]
        self.neighbour: list[tuple[float, float, float]] = [tuple(span) for span in spec.get("neighbour", [])]
        self.chaos: float = spec.get("chaos", 0.0)
        self.chance_429: float = spec.get("chance_429", 0.0)
        self.chance = random.Random(seed)
        self.working = 0
        self.most_at_once = 0

    def arrives(self, now: float, records: int) -> tuple[float, Signal, float | None]:
        """Take a request; return how long it takes, what is said, and `Retry-After`."""
        noise = self.chance.lognormvariate(0, self.spread)
        if any(start <= now < end for start, end in self.dead):
            return 0.05 * noise, Signal.UNAVAILABLE, None
        share = 1.0
        for start, end, taken in self.neighbour:
            if start <= now < end:
                share -= taken
        if self.chance.random() < self.chaos:
            return 0.05 * noise, Signal.UNAVAILABLE, None
        if self.chance_429 and self.chance.random() < self.chance_429:
            return 0.02 * noise, Signal.THROTTLED, None
        if self.sheds_beyond is not None and self.working >= self.sheds_beyond:
            return 0.02 * noise, Signal.UNAVAILABLE, None
        refusal = self._refusal(now, records, share)
        if refusal is not None:
            asked = max(1.0, float(-(-refusal // 1))) if self.retry_after else None
            return 0.02 * noise, Signal.THROTTLED, asked
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        crowd = max(1.0, self.working / self.parallel) if self.parallel else 1.0
        return self.latency * crowd * noise, Signal.CALM, None

    def _refusal(self, now: float, records: int, share: float) -> float | None:
        """Seconds to wait when it is refused."""
        if self.at_once is not None and self.working >= max(1, int(self.at_once * share)):
            return 0.0
        if self.per_second is not None and not self.per_second.take(now, 1, share):
            if self.counts_refused:
                self.per_second.spend(now, 1)
            return 0.0
        if self.quota is not None and not self.quota.take(now, records, share):
            return self.quota.wait(now, records)
        return None

    def answers(self, signal: Signal) -> None:
        if signal is Signal.CALM:
            self.working -= 1


@dataclass
class Outcome:
    """What a scenario's ranges are about."""

    seconds: float
    accepted: int
    requests: int
    throttled: int
    failed: int
    most_at_once: int
    accepted_at: list[tuple[float, int]]
    replies: list[tuple[float, Signal]]
    limits: list[tuple[float, int]]
    stalled: bool = False

    def throughput(self, start: float, end: float) -> float:
        """Records per second accepted in [start, end)."""
        return sum(records for at, records in self.accepted_at if start <= at < end) / (end - start)

    def throttled_share(self, start: float, end: float) -> float:
        seen = [signal for at, signal in self.replies if start <= at < end]
        return sum(signal is Signal.THROTTLED for signal in seen) / max(1, len(seen))


def policy_of(spec: Mapping[str, Any]) -> Policy:
    given = dict(spec)
    if "quota" in given:
        given["quota"] = Quota(**given["quota"])
    return Policy(**given)


def simulate(
    service: Service,
    policy: Policy,
    *,
    records: int,
    batch: int = 1000,
    record_bytes: int = 460,
    until: float = 1e9,
) -> Outcome:
    """Load so many records, or for so long, as the engine does: whatever pacing allows, at once."""
    now = 0.0
    pacing = Pacing(policy, now)
    todo = deque((min(batch, records - start), False) for start in range(0, records, batch))
    flight: list[tuple[float, int, str, Request, Signal, float | None]] = []
    number = 0
    under_way = 0
    outcome = Outcome(0.0, 0, 0, 0, 0, 0, [], [], [])
    while (todo or flight) and now < until:
        wake = float("inf")
        while todo:
            size, retry = todo[0]
            answer = pacing.may_send(
                now, under_way=under_way, records=size, nbytes=size * record_bytes, retry=retry
            )
            if isinstance(answer, Wait):
                assert answer.until > now, answer
                wake = answer.until
                break
            todo.popleft()
            if answer.records_at_most is not None and answer.records_at_most < size:
                todo.appendleft((size - answer.records_at_most, retry))
                size = answer.records_at_most
            pacing.sent(now, records=size, nbytes=size * record_bytes, retry=retry)
            under_way += 1
            number += 1
            request = Request(now, size, under_way, retry)
            travel = 0.005 * service.chance.lognormvariate(0, 0.5)
            heapq.heappush(flight, (now + travel, number, "arrives", request, Signal.CALM, None))
        if not flight and wake == float("inf"):
            outcome.stalled = True
            break
        if not flight or wake < flight[0][0]:
            now = wake + 0.0005  # A timer is never early.
            continue
        now, _, step, request, signal, asked = heapq.heappop(flight)
        number += 1
        if step == "arrives":
            takes, signal, asked = service.arrives(now, request.records)
            heapq.heappush(flight, (now + takes, number, "leaves", request, signal, asked))
        elif step == "leaves":
            service.answers(signal)
            back = now + 0.005 * service.chance.lognormvariate(0, 0.5)
            heapq.heappush(flight, (back, number, "replied", request, signal, asked))
        else:
            under_way -= 1
            outcome.limits.append((now, pacing.state(now).limit))
            outcome.requests += 1
            outcome.replies.append((now, signal))
            accepted = request.records if signal is Signal.CALM else 0
            if accepted:
                outcome.accepted += accepted
                outcome.accepted_at.append((now, accepted))
            else:
                todo.appendleft((request.records, True))
            outcome.throttled += signal is Signal.THROTTLED
            outcome.failed += signal is Signal.UNAVAILABLE
            pacing.observed(
                now,
                Observation(
                    started=request.started,
                    ended=now,
                    signal=signal,
                    retry_after=asked,
                    records=accepted,
                    nbytes=request.records * record_bytes,
                    under_way=request.under_way,
                ),
            )
    outcome.seconds = now
    outcome.most_at_once = service.most_at_once
    return outcome

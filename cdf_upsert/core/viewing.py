"""How a run stands at one moment, for those who look at it while it goes on."""

from msgspec import Struct

from cdf_upsert.core.events import Waiting
from cdf_upsert.core.planning import Bounds, Work, remaining
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.wording import clock, duration, rate


class View(Struct, frozen=True):
    """How a run stands at one moment.

    `rate` is in records accepted per second, lately; `limit` and `pace` are the requests that may be under way, and
    be sent a second; `throttled` is the share of 429 among the replies; times in seconds.
    """

    read: int
    accepted: int
    already_accepted: int
    failed: int
    rate: float
    elapsed: float
    share: float | None
    left: float | None
    under_way: int
    limit: int | None
    pace: float | None
    throttled: float
    wait: str | None


def view_of(tally: Tally, now: float) -> View:
    """Look at a run."""
    return View(
        read=tally.read,
        accepted=tally.accepted,
        already_accepted=tally.already_accepted,
        failed=tally.failed,
        rate=tally.recent_rate(now),
        elapsed=now - tally.started,
        share=tally.share(),
        left=_left(tally, now),
        under_way=tally.under_way,
        limit=None if tally.paced is None else tally.paced.limit,
        pace=None if tally.paced is None else tally.paced.pace,
        throttled=tally.throttled_share,
        wait=None if tally.waiting is None else _wait(tally.waiting, now),
    )


def _left(tally: Tally, now: float) -> float | None:
    """Seconds that are left: by the speed so far, and not less than the quota's windows make it."""
    by_speed, share = tally.seconds_left(now), tally.share()
    if by_speed is None or not share or tally.paced is None or tally.paced.quota is None:
        return by_speed
    per_record = tally.nbytes / max(tally.accepted, 1)
    records = round(tally.settled / share) - tally.settled
    opens_in = None
    if tally.waiting is not None and tally.waiting.until is not None:
        opens_in = max(0.0, tally.waiting.until - now)
    bounds = Bounds(quota=tally.paced.quota, left=tally.paced.quota_left, opens_in=opens_in)
    return max(by_speed, remaining(Work(records, round(records * per_record), 0), bounds))


def _wait(waiting: Waiting, now: float) -> str | None:
    """Tell a wait that is worth it: one that has lasted a second, or will."""
    left = None if waiting.until is None else waiting.until - now
    if now - waiting.at < 1 and (left is None or left < 1):
        return None
    return waiting.reason if left is None else f"{waiting.reason}, next try in {clock(left)}"


def progress_line(view: View) -> str:
    """Return how a run stands, on one line."""
    parts = [f"{view.accepted:,} accepted"]
    if view.already_accepted:
        parts.append(f"{view.already_accepted:,} already accepted")
    if view.failed:
        parts.append(f"{view.failed:,} failed")
    parts[-1] += f" of {view.read:,} read"
    parts.append(rate(view.rate))
    if view.share is not None:
        parts.append(f"{view.share:.0%} done")
    if view.left is not None:
        parts.append(f"{duration(view.left)} left")
    if view.throttled:
        parts.append(f"{view.throttled:.1%} throttled")
    if view.wait is not None:
        parts.append(f"waiting: {view.wait}")
    return ", ".join(parts)

"""How a run stands at one moment, for those who look at it while it goes on."""

from dataclasses import dataclass

from cdf_upsert.core.events import Waiting
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.wording import clock, duration, rate


@dataclass(frozen=True, slots=True)
class View:
    """How a run stands at one moment. `rate` is in records accepted per second, lately; times in seconds."""

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
    wait: str | None


def view_of(tally: Tally, now: float, limit: int | None = None) -> View:
    """Look at a run; `limit` is how many requests may be under way at once."""
    return View(
        read=tally.read,
        accepted=tally.accepted,
        already_accepted=tally.already_accepted,
        failed=tally.failed,
        rate=tally.recent_rate(now),
        elapsed=now - tally.started,
        share=tally.share(),
        left=tally.seconds_left(now),
        under_way=tally.under_way,
        limit=limit,
        wait=None if tally.waiting is None else _wait(tally.waiting, now),
    )


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
    if view.wait is not None:
        parts.append(f"waiting: {view.wait}")
    return ", ".join(parts)

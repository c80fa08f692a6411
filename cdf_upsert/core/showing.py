"""What a run shows while it goes on: which form, when, and in which words."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, assert_never

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.wording import clock, count, duration, rate, size


class Progress(StrEnum):
    """How progress is shown; the words of `--progress`."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"


class LogFormat(StrEnum):
    """How diagnostics are written; the words of `--log-format`."""

    TEXT = "text"
    JSON = "json"


class Verbosity(Enum):
    """How much is said: `-q`, nothing, `-v`."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


@dataclass(frozen=True, slots=True)
class Showing:
    """What the user wants to see."""

    progress: Progress = Progress.AUTO
    log_format: LogFormat = LogFormat.TEXT
    verbosity: Verbosity = Verbosity.NORMAL


def form_of(showing: Showing, *, is_terminal: bool, term: str) -> Progress:
    """Return the form of progress, never `auto`; `term` is the terminal's kind, as `TERM` tells it.

    A bar needs a terminal that can move its cursor, and a standard error that no JSON is written to; without
    them there are plain lines.
    """
    if showing.verbosity is Verbosity.QUIET:
        return Progress.NONE
    match showing.progress:
        case Progress.AUTO | Progress.BAR:
            can_draw = is_terminal and term not in ("", "dumb", "unknown")
            return Progress.BAR if can_draw and showing.log_format is LogFormat.TEXT else Progress.PLAIN
        case Progress.PLAIN | Progress.NONE:
            return showing.progress
        case _:
            assert_never(showing.progress)


def next_line_at(now: float, started: float) -> float:
    """Return when the next plain line is due: after 10 s at first, then ever more seldom, up to a minute."""
    return now + min(60.0, max(10.0, (now - started) / 3))


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


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One line of the log: `message` is a whole sentence, `fields` are its parts for a machine."""

    name: str
    message: str
    fields: dict[str, Any]
    level: str = "info"


def diagnostic_of(event: Event, verbosity: Verbosity) -> Diagnostic | None:
    """Return what the log says of an event; None when it says nothing."""
    if isinstance(event, Notice):
        if verbosity is Verbosity.QUIET:
            return None
        return Diagnostic("notice", event.message, {})
    return _detail(event) if verbosity is Verbosity.VERBOSE else None


def _detail(event: Event) -> Diagnostic | None:
    match event:
        case InputOpened(path, format_, nbytes):
            length = "" if nbytes is None else f", {size(nbytes)}"
            fields = {"path": path, "format": format_, "bytes": nbytes}
            return Diagnostic("input", f"Reading {path} ({format_}{length}).", fields)
        case BatchReplied(_, status, seconds, _, under_way, request_id):
            said = "No reply" if status is None else f"Reply {status}"
            message = f"{said} after {seconds:.3f} s"
            message += "." if request_id is None else f", request {request_id}."
            fields = {
                "status": status,
                "seconds": round(seconds, 6),
                "requestId": request_id,
                "underWay": under_way,
            }
            return Diagnostic("reply", message, fields)
        case Waiting(at, reason, until):
            seconds_left = None if until is None else round(until - at, 3)
            then = "" if seconds_left is None else f", next try in {duration(seconds_left)}"
            return Diagnostic(
                "wait", f"Waiting: {reason}{then}.", {"reason": reason, "seconds": seconds_left}
            )
        case Retrying(_, records, reason, message, seconds):
            told = f"Trying {count(records, 'record')} again in {duration(seconds)}: {reason}"
            told += f" ({message})." if message else "."
            fields = {"records": records, "reason": reason, "said": message, "seconds": round(seconds, 3)}
            return Diagnostic("retry", told, fields)
        case BlockRead() | BatchSent() | Settled() | Notice() | Ended():
            return None
        case _:
            assert_never(event)


def progress_diagnostic(view: View) -> Diagnostic:
    """Return how a run stands, as a line of the log."""
    fields = {
        "read": view.read,
        "accepted": view.accepted,
        "alreadyAccepted": view.already_accepted,
        "failed": view.failed,
        "recordsPerSecond": round(view.rate, 1),
        "elapsedSeconds": round(view.elapsed, 1),
        "share": None if view.share is None else round(view.share, 4),
        "secondsLeft": None if view.left is None else round(view.left, 1),
        "underWay": view.under_way,
        "limit": view.limit,
        "wait": view.wait,
    }
    return Diagnostic("progress", f"{progress_line(view)}.", fields)
